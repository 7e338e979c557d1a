"""localdistill: a teacher's reasoning, distilled into a small model on your own machine.

This is the public API, and all that the TUI may import. Names load on first use, so importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "localdistill.browsing": ("TRACE_ORDERS", "Browser", "TraceDetail", "TraceRow", "browse", "list_traces",
                              "missing_traces", "trace_detail"),
    "localdistill.budgets": ("Budget", "budget_of"),
    "localdistill.callbook": ("CallBook",),
    "localdistill.chatting": ("ChatPiece", "ChatSession", "ending_of", "open_chat"),
    "localdistill.consent": ("TermsQuestion", "accept_terms", "open_terms"),
    "localdistill.datasets": ("DatasetShape", "dataset_shapes"),
    "localdistill.doctor": ("Finding", "examine"),
    "localdistill.drafts": ("ChangedElsewhere", "Problem", "RecipeDraft", "new_recipe", "problems_in"),
    "localdistill.errors": ("Cancelled", "InputError", "LocalDistillError", "PartialResult", "RecipeError",
                            "StoreLocked", "UsageError"),
    "localdistill.events": ("ArtifactWritten", "Cancel", "Counted", "Event", "Failed", "Measured", "Noted",
                            "RunFinished", "RunStarted", "StageFinished", "StageStarted", "Warned", "event_from_json"),
    "localdistill.exports": ("ChatFile", "Exported", "ExportedFile", "FormScore", "GateItem", "chat_files",
                             "exports_of", "model_to_chat"),
    "localdistill.importing": ("ImportReport", "Preview", "import_file", "preview_file"),
    "localdistill.kept_keys": ("KeyLine", "allow_key", "forget_key", "keep_key", "key_target", "list_keys",
                               "looks_like_key"),
    "localdistill.laying_out": ("LaidOut", "Layouter", "TrainedSpan", "lay_out_everywhere", "layouter_of"),
    "localdistill.surveying": ("Overview", "survey"),
    "localdistill.planning": ("Plan", "make_plan", "plan_training"),
    "localdistill.probing": ("Examined", "KnownTeacher", "Probe", "RateLimit", "Subject", "asking_recipe", "compare",
                             "examine_teacher", "facts_of", "findings_of", "known_teachers", "last_probe",
                             "local_subject", "provider_subject", "recipe_subjects", "tune_teacher", "worst_cost_usd"),
    "localdistill.providers": ("Provider", "provider", "provider_names"),
    "localdistill.pruning": ("PruneItem", "plan_pruning", "remove"),
    "localdistill.quarantine": ("Quarantined", "read_quarantine"),
    "localdistill.recipe": ("STAGES", "Member", "Recipe", "advice_on", "load_recipe", "parse_recipe", "recipe_schema"),
    "localdistill.records": ("Grade", "Message", "Prompt", "Span", "Trace"),
    "localdistill.recovery": ("Missing", "open_store"),
    "localdistill.run_folder": ("RunFolder", "RunStatus", "list_runs"),
    "localdistill.runs": ("cancel", "cancel_batches", "follow", "resume", "run_to", "start", "wait"),
    "localdistill.modelfiles.shipped": ("recipe_file", "shipped_path", "shipped_recipes"),
    "localdistill.selecting": ("FilterStep", "SavedSelection", "Waterfall", "run_again", "saved_selections",
                               "try_filters", "waterfall_of", "with_option"),
    "localdistill.safety.text": ("display_safe",),
    "localdistill.scorecard": ("Comparison", "Flip", "Row", "ScoreCard", "Standing"),
    "localdistill.scores": ("FlippedItem", "Scores", "flipped", "score_card"),
    "localdistill.showing": ("render_trace",),
    "localdistill.stages.checking": ("check_student",),
    "localdistill.store": ("Store",),
    "localdistill.workspace": ("Workspace",),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'localdistill' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
