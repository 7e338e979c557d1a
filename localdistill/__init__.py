"""localdistill: a teacher's reasoning, distilled into a small model on your own machine.

This is the public API, and all that the command line and the TUI may import. What type checkers import below are its
names; they load on first use, so importing the package is cheap.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from localdistill.core.version import __version__ as __version__

if TYPE_CHECKING:
    from localdistill.api.models.chat_targets import ChatTarget, chat_target, engine_target
    from localdistill.api.models.chatting import (  # fmt: skip
        ChatPiece, ChatSession, ending_of, open_chat, share_history,
    )
    from localdistill.api.models.doctor import Finding, examine
    from localdistill.api.models.exports import (  # fmt: skip
        ChatFile, Exported, ExportedFile, FormScore, GateItem, chat_files, exports_of, model_to_chat,
    )
    from localdistill.api.models.lm_studio import copy_to_lm_studio
    from localdistill.api.models.likelihood import score_continuations, scorer_of
    from localdistill.api.models.students import (  # fmt: skip
        StudentKind, StudentReport, StudentStep, examine_student, student_kinds,
    )
    from localdistill.api.models.prefetching import Prefetched, prefetch
    from localdistill.api.models.proving_child import prove_training
    from localdistill.api.recipes.checking import problems_before_run
    from localdistill.api.recipes.from_little import augmentation_names, recipe_from_little, writing_engine
    from localdistill.api.recipes.from_store import recipe_from_store
    from localdistill.api.recipes.planning import Plan, make_plan, plan_training
    from localdistill.api.runs.budgets import Budget, budget_of
    from localdistill.api.runs.comparing import ComparedRuns, compare_runs
    from localdistill.api.runs.items import (  # fmt: skip
        AnsweredItem, NearRow, answers_differ, causes_of, nearest_rows, run_items,
    )
    from localdistill.api.runs.overview import Overview, survey
    from localdistill.api.runs.pruning import PruneItem, plan_pruning, remove
    from localdistill.api.runs.queueing import leave_queue
    from localdistill.api.runs.results import run_result
    from localdistill.api.runs.scores import FlippedItem, Scores, flipped, score_card
    from localdistill.api.runs.tunings import tuning_of, tuning_rows, tuning_to_text
    from localdistill.api.runs.verifying import Verified, verify_run, verify_workspace
    from localdistill.api.teachers.examining import Examined, examine_teacher, tune_teacher, worst_cost_usd
    from localdistill.api.teachers.findings import findings_of
    from localdistill.api.teachers.keys import (  # fmt: skip
        KeyLine, allow_key, forget_key, keep_key, key_target, list_keys,
    )
    from localdistill.api.teachers.known import KnownTeacher, facts_of, known_teachers
    from localdistill.api.teachers.probe_targets import (  # fmt: skip
        ProbeTarget, asking_recipe, local_target, provider_target, recipe_targets,
    )
    from localdistill.api.traces.browsing import (  # fmt: skip
        TRACE_ORDERS, Browser, TraceRow, browse, list_traces, missing_traces, trace_detail,
    )
    from localdistill.api.traces.by_rule import grading_rules, rules_in, verdicts_by_rule, with_rules
    from localdistill.api.traces.choosing import DataChoice
    from localdistill.api.traces.data_layouts import DataLayout, data_layout, data_layouts, data_tools
    from localdistill.api.traces.datasets import DatasetShape, dataset_shapes
    from localdistill.api.traces.editing import edit_trace
    from localdistill.api.traces.editor import texts_from_editor
    from localdistill.api.traces.exporting import DataExport, export_data
    from localdistill.api.traces.importing import ImportReport, Preview, import_file, preview_file
    from localdistill.api.traces.importing_hub import HubImport, open_hub_import
    from localdistill.api.traces.judging import (  # fmt: skip
        VERDICTS, Judged, favourite_trace, judge, note_trace, put_judgement, retag_trace, tag_trace,
        undo_judgement,
    )
    from localdistill.api.traces.listing_prompts import PromptBrowser, browse_prompts, list_prompts
    from localdistill.api.traces.previews import LaidOut, Layouter, TrainedSpan, lay_out_everywhere, layouter_of
    from localdistill.api.traces.removing import Removals, RemovedTrace, removed_traces
    from localdistill.api.traces.selecting import (  # fmt: skip
        FilterStep, Waterfall, run_again, saved_selections, try_filters, waterfalls_of, with_option,
    )
    from localdistill.api.traces.verdicts import SetVerdicts, verdicts_of
    from localdistill.api.traces.showing import render_trace, sample_traces
    from localdistill.core.disk import size_text
    from localdistill.core.durations import clock_time, duration_text, estimate_text
    from localdistill.core.errors import (  # fmt: skip
        Cancelled, DiskFull, EngineError, InputError, LocalDistillError, ModelFileError, PartialResult, RecipeError,
        StoreLocked, UsageError, nearest, refuse_keys,
    )
    from localdistill.core.events import (  # fmt: skip
        ArtifactWritten, Cancel, Counted, Event, Failed, Measured, Noted, Progressed, RunFinished, RunStarted,
        StageFinished, StageStarted, Warned, event_from_json,
    )
    from localdistill.core.explaining import TRACEBACK_VARIABLE, explain
    from localdistill.core.installing import repair_command
    from localdistill.core.judgements import Judgement, judgement_among
    from localdistill.core.records import Fact, Message, Prompt, Reply, Span, TokenScores, Trace
    from localdistill.core.secrets import HIDDEN, looks_like_key
    from localdistill.core.stages import STAGES, Stage, is_race
    from localdistill.engines.wire.probe_report import Probe, RateLimit, compare
    from localdistill.hub.names import is_hub_address
    from localdistill.interchange.unpacking import MOST_UNFOLD
    from localdistill.keys.access import keys_path
    from localdistill.modelfiles.shipped import recipe_file, shipped_path, shipped_recipes
    from localdistill.providers import Provider, provider, provider_names
    from localdistill.recipe import Member, Recipe, advice_on, load_recipe, parse_recipe, recipe_schema
    from localdistill.recipe.dotted_keys import key_of, key_part, parts_of
    from localdistill.recipe.drafts import (  # fmt: skip
        ChangedElsewhere, RecipeDraft, new_recipe, older_shape, problems_in, upgrade_recipe,
    )
    from localdistill.recipe.problems import Problem
    from localdistill.runs import cancel, cancel_batches, follow, resume, run_to, start, typed_again, wait
    from localdistill.runs.device_queue import DeviceUse, QueuedUse, device_queue
    from localdistill.safety.address_limit import in_a_copy
    from localdistill.safety.secrets import without_secrets
    from localdistill.safety.text import display_safe, json_safe
    from localdistill.scorecard import Comparison, Flip, ScoreCard, ScoreRow, Standing, to_markdown, to_text
    from localdistill.scorecard.result import Advice, Result, ResultRow
    from localdistill.scorecard.text import kept_notes
    from localdistill.scorecard.result_text import (  # fmt: skip
        result_cells, result_head, result_notes, result_to_markdown, result_to_text,
    )
    from localdistill.spending.ledger import SpendLedger
    from localdistill.stages.checking import check_recipe, require_sound
    from localdistill.stages.rechecking import last_probe
    from localdistill.stages.tuning import TuningResult
    from localdistill.store import Store
    from localdistill.store.pages import SavedSelection, TraceDetail
    from localdistill.store.verdict_counts import VerdictCount
    from localdistill.workspace.folder import Workspace
    from localdistill.workspace.forgetting import (  # fmt: skip
        Forgetting, Forgot, forget, plan_forgetting, unfinished_forgetting,
    )
    from localdistill.workspace.quarantine import Quarantined, quarantined
    from localdistill.workspace.rebuilding import Rebuilt, StoreCheck, check_store, rebuild_store
    from localdistill.workspace.recovery import Missing, open_store
    from localdistill.workspace.run_folder import RunFolder, RunStatus, list_runs
    from localdistill.workspace.run_listing import RunListing
    from localdistill.workspace.terms import TermsQuestion, accept_terms, give_consent, open_terms, terms_notes


@cache
def _homes() -> dict[str, str]:
    """Public name -> module, as the block for type checkers says it: so that each name stands in one place."""
    import ast
    from pathlib import Path

    blocks = [node for node in ast.parse(Path(__file__).read_bytes()).body if isinstance(node, ast.If)]
    imports = [node for node in blocks[0].body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __getattr__(name: str) -> object:
    if name == "__all__":
        return sorted(_homes())
    if name.startswith("__") or name not in _homes():
        raise AttributeError(f"module 'localdistill' has no attribute '{name}'")
    return getattr(import_module(_homes()[name]), name)


def __dir__() -> list[str]:
    return [*_homes(), "__all__", "__version__"]
