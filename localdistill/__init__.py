"""localdistill: a teacher's reasoning, distilled into a small model on your own machine.

This is the public API, and all that the TUI may import. Names load on first use, so importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "api.models.chatting": ("ChatPiece", "ChatSession", "ending_of", "open_chat"),
    "api.models.doctor": ("Finding", "examine"),
    "api.models.exports": (
        "ChatFile", "Exported", "ExportedFile", "FormScore", "GateItem", "chat_files", "exports_of",
        "model_to_chat",
    ),
    "api.recipes.planning": ("Plan", "make_plan", "plan_training"),
    "api.runs.budgets": ("Budget", "budget_of"),
    "api.runs.overview": ("Overview", "survey"),
    "api.runs.pruning": ("PruneItem", "plan_pruning", "remove"),
    "api.runs.scores": ("FlippedItem", "Scores", "flipped", "score_card"),
    "api.teachers": (
        "Examined", "KnownTeacher", "Probe", "RateLimit", "Subject", "asking_recipe", "compare",
        "examine_teacher", "facts_of", "findings_of", "known_teachers", "last_probe", "local_subject",
        "provider_subject", "recipe_subjects", "tune_teacher", "worst_cost_usd",
    ),
    "api.teachers.keys": (
        "KeyLine", "allow_key", "forget_key", "keep_key", "key_target", "list_keys", "looks_like_key",
    ),
    "api.traces.browsing": (
        "Browser", "TRACE_ORDERS", "TraceDetail", "TraceRow", "browse", "list_traces", "missing_traces",
        "trace_detail",
    ),
    "api.traces.datasets": ("DatasetShape", "dataset_shapes"),
    "api.traces.importing": ("ImportReport", "Preview", "import_file", "preview_file"),
    "api.traces.laying_out": ("LaidOut", "Layouter", "TrainedSpan", "lay_out_everywhere", "layouter_of"),
    "api.traces.selecting": (
        "FilterStep", "SavedSelection", "Waterfall", "run_again", "saved_selections", "try_filters",
        "waterfall_of", "with_option",
    ),
    "api.traces.showing": ("render_trace",),
    "core.errors": (
        "Cancelled", "InputError", "LocalDistillError", "PartialResult", "RecipeError", "StoreLocked",
        "UsageError",
    ),
    "core.events": (
        "ArtifactWritten", "Cancel", "Counted", "Event", "Failed", "Measured", "Noted", "RunFinished",
        "RunStarted", "StageFinished", "StageStarted", "Warned", "event_from_json",
    ),
    "core.records": ("Grade", "Message", "Prompt", "Span", "Trace"),
    "modelfiles.shipped": ("recipe_file", "shipped_path", "shipped_recipes"),
    "providers": ("Provider", "provider", "provider_names"),
    "recipe": ("Member", "Recipe", "STAGES", "advice_on", "load_recipe", "parse_recipe", "recipe_schema"),
    "recipe.drafts": ("ChangedElsewhere", "Problem", "RecipeDraft", "new_recipe", "problems_in"),
    "runs": ("cancel", "cancel_batches", "follow", "resume", "run_to", "start", "wait"),
    "safety.text": ("display_safe",),
    "scorecard": ("Comparison", "Flip", "Row", "ScoreCard", "Standing"),
    "spending.ledger": ("CallBook",),
    "stages.checking": ("check_student",),
    "store": ("Store",),
    "workspace.folder": ("Workspace",),
    "workspace.quarantine": ("Quarantined", "read_quarantine"),
    "workspace.recovery": ("Missing", "open_store"),
    "workspace.run_folder": ("RunFolder", "RunStatus", "list_runs"),
    "workspace.terms": ("TermsQuestion", "accept_terms", "open_terms"),
}
"""Room and module -> the names of it that are public."""
_HOME = {name: f"localdistill.{module}" for module, names in _WHERE.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'localdistill' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
