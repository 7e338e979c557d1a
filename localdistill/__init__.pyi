"""The names of the public API, by the module that each comes from: what type checkers read, and what `__init__` loads
on first use."""

from localdistill.api.models.chatting import (
    ChatPiece as ChatPiece,
)
from localdistill.api.models.chatting import (
    ChatSession as ChatSession,
)
from localdistill.api.models.chatting import (
    ending_of as ending_of,
)
from localdistill.api.models.chatting import (
    open_chat as open_chat,
)
from localdistill.api.models.doctor import Finding as Finding
from localdistill.api.models.doctor import examine as examine
from localdistill.api.models.exports import (
    ChatFile as ChatFile,
)
from localdistill.api.models.exports import (
    Exported as Exported,
)
from localdistill.api.models.exports import (
    ExportedFile as ExportedFile,
)
from localdistill.api.models.exports import (
    FormScore as FormScore,
)
from localdistill.api.models.exports import (
    GateItem as GateItem,
)
from localdistill.api.models.exports import (
    chat_files as chat_files,
)
from localdistill.api.models.exports import (
    exports_of as exports_of,
)
from localdistill.api.models.exports import (
    model_to_chat as model_to_chat,
)
from localdistill.api.recipes.planning import Plan as Plan
from localdistill.api.recipes.planning import make_plan as make_plan
from localdistill.api.recipes.planning import plan_training as plan_training
from localdistill.api.runs.budgets import Budget as Budget
from localdistill.api.runs.budgets import budget_of as budget_of
from localdistill.api.runs.overview import Overview as Overview
from localdistill.api.runs.overview import survey as survey
from localdistill.api.runs.pruning import PruneItem as PruneItem
from localdistill.api.runs.pruning import plan_pruning as plan_pruning
from localdistill.api.runs.pruning import remove as remove
from localdistill.api.runs.scores import (
    FlippedItem as FlippedItem,
)
from localdistill.api.runs.scores import (
    Scores as Scores,
)
from localdistill.api.runs.scores import (
    flipped as flipped,
)
from localdistill.api.runs.scores import (
    score_card as score_card,
)
from localdistill.api.teachers import (
    Examined as Examined,
)
from localdistill.api.teachers import (
    KnownTeacher as KnownTeacher,
)
from localdistill.api.teachers import (
    Probe as Probe,
)
from localdistill.api.teachers import (
    ProbeTarget as ProbeTarget,
)
from localdistill.api.teachers import (
    RateLimit as RateLimit,
)
from localdistill.api.teachers import (
    asking_recipe as asking_recipe,
)
from localdistill.api.teachers import (
    compare as compare,
)
from localdistill.api.teachers import (
    examine_teacher as examine_teacher,
)
from localdistill.api.teachers import (
    facts_of as facts_of,
)
from localdistill.api.teachers import (
    findings_of as findings_of,
)
from localdistill.api.teachers import (
    known_teachers as known_teachers,
)
from localdistill.api.teachers import (
    last_probe as last_probe,
)
from localdistill.api.teachers import (
    local_target as local_target,
)
from localdistill.api.teachers import (
    provider_target as provider_target,
)
from localdistill.api.teachers import (
    recipe_targets as recipe_targets,
)
from localdistill.api.teachers import (
    tune_teacher as tune_teacher,
)
from localdistill.api.teachers import (
    worst_cost_usd as worst_cost_usd,
)
from localdistill.api.teachers.keys import (
    KeyLine as KeyLine,
)
from localdistill.api.teachers.keys import (
    allow_key as allow_key,
)
from localdistill.api.teachers.keys import (
    forget_key as forget_key,
)
from localdistill.api.teachers.keys import (
    keep_key as keep_key,
)
from localdistill.api.teachers.keys import (
    key_target as key_target,
)
from localdistill.api.teachers.keys import (
    list_keys as list_keys,
)
from localdistill.api.teachers.keys import (
    looks_like_key as looks_like_key,
)
from localdistill.api.traces.browsing import (
    TRACE_ORDERS as TRACE_ORDERS,
)
from localdistill.api.traces.browsing import (
    Browser as Browser,
)
from localdistill.api.traces.browsing import (
    TraceRow as TraceRow,
)
from localdistill.api.traces.browsing import (
    browse as browse,
)
from localdistill.api.traces.browsing import (
    list_traces as list_traces,
)
from localdistill.api.traces.browsing import (
    missing_traces as missing_traces,
)
from localdistill.api.traces.browsing import (
    trace_detail as trace_detail,
)
from localdistill.api.traces.datasets import DatasetShape as DatasetShape
from localdistill.api.traces.datasets import dataset_shapes as dataset_shapes
from localdistill.api.traces.importing import (
    ImportReport as ImportReport,
)
from localdistill.api.traces.importing import (
    Preview as Preview,
)
from localdistill.api.traces.importing import (
    import_file as import_file,
)
from localdistill.api.traces.importing import (
    preview_file as preview_file,
)
from localdistill.api.traces.laying_out import (
    LaidOut as LaidOut,
)
from localdistill.api.traces.laying_out import (
    Layouter as Layouter,
)
from localdistill.api.traces.laying_out import (
    TrainedSpan as TrainedSpan,
)
from localdistill.api.traces.laying_out import (
    lay_out_everywhere as lay_out_everywhere,
)
from localdistill.api.traces.laying_out import (
    layouter_of as layouter_of,
)
from localdistill.api.traces.selecting import (
    FilterStep as FilterStep,
)
from localdistill.api.traces.selecting import (
    Waterfall as Waterfall,
)
from localdistill.api.traces.selecting import (
    run_again as run_again,
)
from localdistill.api.traces.selecting import (
    saved_selections as saved_selections,
)
from localdistill.api.traces.selecting import (
    try_filters as try_filters,
)
from localdistill.api.traces.selecting import (
    waterfall_of as waterfall_of,
)
from localdistill.api.traces.selecting import (
    with_option as with_option,
)
from localdistill.api.traces.showing import render_trace as render_trace
from localdistill.core.errors import (
    Cancelled as Cancelled,
)
from localdistill.core.errors import (
    EngineError as EngineError,
)
from localdistill.core.errors import (
    InputError as InputError,
)
from localdistill.core.errors import (
    LocalDistillError as LocalDistillError,
)
from localdistill.core.errors import (
    ModelFileError as ModelFileError,
)
from localdistill.core.errors import (
    PartialResult as PartialResult,
)
from localdistill.core.errors import (
    RecipeError as RecipeError,
)
from localdistill.core.errors import (
    StoreLocked as StoreLocked,
)
from localdistill.core.errors import (
    UsageError as UsageError,
)
from localdistill.core.errors import (
    nearest as nearest,
)
from localdistill.core.events import (
    ArtifactWritten as ArtifactWritten,
)
from localdistill.core.events import (
    Cancel as Cancel,
)
from localdistill.core.events import (
    Counted as Counted,
)
from localdistill.core.events import (
    Event as Event,
)
from localdistill.core.events import (
    Failed as Failed,
)
from localdistill.core.events import (
    Measured as Measured,
)
from localdistill.core.events import (
    Noted as Noted,
)
from localdistill.core.events import (
    RunFinished as RunFinished,
)
from localdistill.core.events import (
    RunStarted as RunStarted,
)
from localdistill.core.events import (
    StageFinished as StageFinished,
)
from localdistill.core.events import (
    StageStarted as StageStarted,
)
from localdistill.core.events import (
    Warned as Warned,
)
from localdistill.core.events import (
    event_from_json as event_from_json,
)
from localdistill.core.installing import repair_command as repair_command
from localdistill.core.records import Grade as Grade
from localdistill.core.records import Message as Message
from localdistill.core.records import Prompt as Prompt
from localdistill.core.records import Span as Span
from localdistill.core.records import Trace as Trace
from localdistill.core.stages import STAGES as STAGES
from localdistill.core.stages import Stage as Stage
from localdistill.keys.access import keys_path as keys_path
from localdistill.modelfiles.shipped import (
    recipe_file as recipe_file,
)
from localdistill.modelfiles.shipped import (
    shipped_path as shipped_path,
)
from localdistill.modelfiles.shipped import (
    shipped_recipes as shipped_recipes,
)
from localdistill.providers import Provider as Provider
from localdistill.providers import provider as provider
from localdistill.providers import provider_names as provider_names
from localdistill.recipe import (
    Member as Member,
)
from localdistill.recipe import (
    Recipe as Recipe,
)
from localdistill.recipe import (
    advice_on as advice_on,
)
from localdistill.recipe import (
    load_recipe as load_recipe,
)
from localdistill.recipe import (
    parse_recipe as parse_recipe,
)
from localdistill.recipe import (
    recipe_schema as recipe_schema,
)
from localdistill.recipe.drafts import (
    ChangedElsewhere as ChangedElsewhere,
)
from localdistill.recipe.drafts import (
    Problem as Problem,
)
from localdistill.recipe.drafts import (
    RecipeDraft as RecipeDraft,
)
from localdistill.recipe.drafts import (
    new_recipe as new_recipe,
)
from localdistill.recipe.drafts import (
    problems_in as problems_in,
)
from localdistill.runs import (
    cancel as cancel,
)
from localdistill.runs import (
    cancel_batches as cancel_batches,
)
from localdistill.runs import (
    follow as follow,
)
from localdistill.runs import (
    resume as resume,
)
from localdistill.runs import (
    run_to as run_to,
)
from localdistill.runs import (
    start as start,
)
from localdistill.runs import (
    wait as wait,
)
from localdistill.safety.text import display_safe as display_safe
from localdistill.scorecard import (
    Comparison as Comparison,
)
from localdistill.scorecard import (
    Flip as Flip,
)
from localdistill.scorecard import (
    ScoreCard as ScoreCard,
)
from localdistill.scorecard import (
    ScoreRow as ScoreRow,
)
from localdistill.scorecard import (
    Standing as Standing,
)
from localdistill.scorecard import (
    to_text as to_text,
)
from localdistill.spending.ledger import SpendLedger as SpendLedger
from localdistill.stages.checking import check_student as check_student
from localdistill.store import Store as Store
from localdistill.store.pages import SavedSelection as SavedSelection
from localdistill.store.pages import TraceDetail as TraceDetail
from localdistill.workspace.folder import Workspace as Workspace
from localdistill.workspace.quarantine import Quarantined as Quarantined
from localdistill.workspace.quarantine import read_quarantine as read_quarantine
from localdistill.workspace.recovery import Missing as Missing
from localdistill.workspace.recovery import open_store as open_store
from localdistill.workspace.run_folder import RunFolder as RunFolder
from localdistill.workspace.run_folder import RunStatus as RunStatus
from localdistill.workspace.run_folder import list_runs as list_runs
from localdistill.workspace.terms import (
    TermsQuestion as TermsQuestion,
)
from localdistill.workspace.terms import (
    accept_terms as accept_terms,
)
from localdistill.workspace.terms import (
    give_consent as give_consent,
)
from localdistill.workspace.terms import (
    open_terms as open_terms,
)
from localdistill.workspace.terms import (
    terms_notes as terms_notes,
)

__version__: str
