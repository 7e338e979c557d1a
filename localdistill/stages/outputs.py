"""What each stage leaves for the next ones, typed and versioned: stages write and read it here, and so does whoever
shows it. Nobody reads these files any other way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from localdistill.core.errors import LocalDistillError
from localdistill.core.records import FactScope
from localdistill.core.stored import Stored
from localdistill.scorecard import FileChoice, ScoreCard, Standing
from localdistill.scorecard.card import older_card
from localdistill.stages.tuning import TuningResult
from localdistill.trainers.report import TrainingResult
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class StageOutput(Stored):
    """Base of what stages leave."""

    stage: ClassVar[str]

    def digests(self) -> set[str]:
        """The artifacts that it speaks of: they stay as long as the run does."""
        return set()


@dataclass(frozen=True)
class AugmentOutput(StageOutput):
    """The prompts that were made; they are the ids `augment`."""

    stage = "augment"
    prompts: int
    made: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Augmentation -> `kept`, or why not -> questions that were written."""
    spent_usd: float = 0.0


@dataclass(frozen=True)
class CollectOutput(StageOutput):
    """What was collected; the traces themselves are the ids `collect`."""

    stage = "collect"
    traces: int
    spent_usd: float = 0.0
    unanswered: int = 0
    """Questions that were allowed to stay without an answer."""
    unknown_marks: Mapping[str, int] = field(default_factory=dict)
    """What looks like a mark of reasoning and is none that we know -> answers that hold it."""
    sets: Mapping[str, int] = field(default_factory=dict)
    """Set -> traces; the traces themselves are the ids `collect-NAME`. Empty in runs that are older than sets."""


@dataclass(frozen=True)
class GradeOutput(StageOutput):
    """Who said something of the collected traces."""

    stage = "grade"
    version = 2
    graders: tuple[str, ...]
    labels: tuple[str, ...] = ()
    scope: tuple[tuple[str, int, str], ...] | None = None
    """Whose facts the recipe sees, by name, version and variant. None of older runs: those of everybody."""


@dataclass(frozen=True)
class Selected:
    """What filters kept of one set."""

    selection: str
    """It is saved under this name."""
    traces: int
    """Before the first filter."""
    kept: int
    removed: Mapping[str, int] = field(default_factory=dict)
    """Filter -> traces that it removed."""

    @property
    def waterfall(self) -> dict[str, int]:
        """The same as it is told: what went in, what each filter removed, what was kept."""
        return {"traces": self.traces, **{f"- {name}": count for name, count in self.removed.items()},
                "kept": self.kept}


@dataclass(frozen=True)
class SelectOutput(StageOutput):
    """What every set keeps; the traces are the ids `select-NAME`, and `select` for all of them."""

    stage = "select"
    version = 2
    sets: Mapping[str, Selected]
    """Set, or `SET@ARM` for what an arm's own filters kept of it. Runs that are older than sets have one without a
    name."""

    @classmethod
    def from_older(cls, data: Any, version: int) -> Any:
        """Before there were sets: name and count of the one selection."""
        return {"sets": {"": {"selection": data["name"], "traces": data["kept"], "kept": data["kept"]}}}


@dataclass(frozen=True)
class RewriteOutput(StageOutput):
    """What every rewritten set came to; its kept traces are the ids `rewrite-NAME`."""

    stage = "rewrite"
    verdicts: Mapping[str, Mapping[str, int]]
    """Set -> `kept`, or why not -> traces."""
    selected: Mapping[str, Selected] = field(default_factory=dict)
    """`SET`, or `SET@ARM` -> what filters kept of what was rewritten, where there are any."""

    @classmethod
    def from_older(cls, data: Any, version: int) -> Any:
        """Before there were versions: the verdicts alone."""
        return {"verdicts": data}


@dataclass(frozen=True)
class PartFacts(Stored):
    """One part of an arm's dataset."""

    name: str
    format: str
    """Name and version."""
    prompts: int
    rows: int
    trained_tokens: int
    share: float | None = None
    """Of the arm's prompts, as the recipe says it."""


@dataclass(frozen=True)
class DatasetFacts(Stored):
    """One arm's dataset in figures; kept beside its rows as `facts.json`."""

    arm: str
    format: str
    """Name and version."""
    thinks: bool | None
    """Whether its rows teach to think before answering; None where some do and some do not: the student does as it is
    told, and by itself as its chat template does."""
    rows: int
    trained_tokens: int
    tokens: int
    longest: int
    median_tokens: int
    stop_token_id: int
    tag_token_ids: tuple[int, ...] = ()
    """Tokens of think tags that the rows train."""
    rewrite: str = ""
    """The rewrite that made its traces; empty for the original ones."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason -> traces that the format could not serve."""
    prompts: int = 0
    """That its rows belong to; 0 where it was not counted yet."""
    several: int = 0
    """Prompts of which an epoch sees several rows, or groups of rows: together they count as one."""
    wrong: int = 0
    """Rows of what not to do."""
    groups: int = 0
    """Groups of rows that training sees together."""
    parts: tuple[PartFacts, ...] = ()
    """Of an arm with several parts."""

    @property
    def title(self) -> str:
        """The format, and the rewrite whose traces it shows."""
        return self.format + (f" of {self.rewrite}" if self.rewrite else "")


@dataclass(frozen=True)
class ArmDataset:
    """The dataset of one arm."""

    dataset: str
    """Digest of the artifact."""
    facts: DatasetFacts


@dataclass(frozen=True)
class FormatOutput(StageOutput):
    """What training needs: one dataset per arm."""

    stage = "format"
    arms: Mapping[str, ArmDataset]
    served: int
    """Prompts that every arm can serve."""
    student: str
    """Digest of the student that the rows are tokenized for."""

    def digests(self) -> set[str]:
        """The datasets."""
        return {arm.dataset for arm in self.arms.values()}

    @classmethod
    def from_older(cls, data: Any, version: int) -> Any:
        """Before there were versions: digest and figures side by side."""
        return {**data, "arms": {name: {"dataset": arm["dataset"], "facts": arm} for name, arm in data["arms"].items()}}


@dataclass(frozen=True)
class TuneOutput(StageOutput):
    """What every arm may be trained with."""

    stage = "tune"
    tuning: str
    """Digest of the artifact."""
    result: TuningResult

    def digests(self) -> set[str]:
        """The tuning."""
        return {self.tuning}


@dataclass(frozen=True)
class ArmAdapter:
    """What one training made of one arm."""

    adapter: str
    """Digest of the artifact."""
    seed: int
    result: TrainingResult


@dataclass(frozen=True)
class TrainOutput(StageOutput):
    """One adapter per arm and seed, in the order of training."""

    stage = "train"
    adapters: Mapping[str, tuple[ArmAdapter, ...]]

    def digests(self) -> set[str]:
        """The adapters."""
        return {one.adapter for found in self.adapters.values() for one in found}

    @classmethod
    def from_older(cls, data: Any, version: int) -> Any:
        """Before there were versions: digest, seed and result side by side."""
        return {"adapters": {arm: [{"adapter": one["adapter"], "seed": one["seed"], "result": one} for one in found]
                             for arm, found in data["adapters"].items()}}


@dataclass(frozen=True)
class AnswersMade:
    """What one contestant answered on one benchmark."""

    task: str
    contestant: str
    seed: int
    """Of its training; 0 for the base."""
    answers: str
    """Digest of the artifact."""


@dataclass(frozen=True)
class EvaluateOutput(StageOutput):
    """The score card, and the arm that may be exported unasked."""

    stage = "evaluate"
    scorecard: str
    """Digest of the artifact."""
    best: str
    """Empty where there is none."""
    answers: tuple[AnswersMade, ...] = ()
    """Behind the score card; empty in runs of versions that did not say it."""
    settled: Mapping[str, int] = field(default_factory=dict)
    """Arm -> after how many seeds of a race with looks it needed no more."""

    def digests(self) -> set[str]:
        """The score card."""
        return {self.scorecard}


@dataclass(frozen=True)
class TermsOfUse:
    """The terms of the teachers that something learned from."""

    strictest: str
    """Class; empty when none is known to apply."""
    providers: tuple[str, ...]
    """Names, with their classes."""


@dataclass(frozen=True)
class FormSummary:
    """One form of the exported model on one benchmark, without texts of models."""

    form: str
    score: float
    interval: tuple[float, float]
    difference: float | None = None
    """To the model as it was trained; this and what follows is None for that one."""
    difference_interval: tuple[float, float] | None = None
    won: int | None = None
    lost: int | None = None
    same_text: int | None = None
    """Items with the very text of the trained model."""
    p_value: float | None = None
    verdict: str = ""
    base_difference: float | None = None
    """To the untrained student; None where that was not measured."""
    base_interval: tuple[float, float] | None = None
    base_verdict: str = ""
    answer_tokens: float | None = None
    """Mean reply, reasoning included; None in runs of versions that did not record it, as below."""
    loops: int | None = None
    """Replies that ended in a circle."""


@dataclass(frozen=True)
class TaskSummary:
    """Every form of the exported model on one benchmark."""

    task: str
    is_guard: bool
    items: int
    against: str
    """The form that the others are compared with."""
    forms: tuple[FormSummary, ...]
    base: float | None = None
    """Score of the untrained student; None where it was not measured."""


@dataclass(frozen=True)
class ExportOutput(StageOutput):
    """What was exported and what is known of it; or, with no `export`, why nothing was."""

    stage = "export"
    export: str
    """Digest of the artifact; empty when nothing was exported."""
    arm: str = ""
    seed: int | None = None
    files: tuple[str, ...] = ()
    thinks: bool | None = False
    """As `DatasetFacts.thinks`; None for the base too."""
    terms: TermsOfUse = TermsOfUse("", ())
    standings: tuple[Standing, ...] | None = None
    """Against the base, per task; None in runs of versions that did not record it."""
    measured: tuple[TaskSummary, ...] = ()
    not_measured: tuple[str, ...] = ()
    """Task, form and reason of everything that could not be run."""
    answers: tuple[str, ...] = ()
    """Digests of the answers behind `measured`."""
    choice: FileChoice | None = None
    """Which file to take; None where nothing was measured."""
    why_nothing: tuple[str, ...] = ()
    """Why nothing was exported, then how each arm stands."""
    commands: tuple[str, ...] = ()
    """What exports an arm all the same: by going on, and anew."""

    def digests(self) -> set[str]:
        """The export and the answers of its forms."""
        return {self.export, *self.answers} - {""}


@dataclass(frozen=True)
class MeasuredForms(Stored):
    """The score cards of the forms of one exported model; kept beside it as `measured.json`. They name no place on this
    machine."""

    cards: tuple[ScoreCard, ...]
    """Against the model as it was trained, one per benchmark."""
    beside_base: tuple[ScoreCard, ...] = ()
    """The same answers against the untrained student; empty where that is what is exported."""
    answers: tuple[str, ...] = ()
    not_measured: tuple[str, ...] = ()
    beside_source: tuple[ScoreCard, ...] = ()
    """The files' answers against those of the 16-bit one, or of the merged model where there is no such file."""
    choice: FileChoice | None = None

    @classmethod
    def from_older(cls, data: Any, version: int) -> Any:
        """Before there were versions: categories under another name."""
        return {**data, **{key: [older_card(card) for card in data.get(key, ())] for key in ("cards", "beside_base")}}


FACTS_FILE, SCORECARD_FILE, MEASURED_FILE = "facts.json", "scorecard.json", "measured.json"
"""Names inside artifacts of `DatasetFacts`, `ScoreCards` and `MeasuredForms`."""
OUTPUTS: Mapping[str, type[StageOutput]] = {
    output.stage: output for output in (AugmentOutput, CollectOutput, GradeOutput, SelectOutput, RewriteOutput,
                                        FormatOutput, TuneOutput, TrainOutput, EvaluateOutput, ExportOutput)}
Output = TypeVar("Output", bound=StageOutput)


def write_output(run: RunFolder, output: StageOutput) -> None:
    """Keep what a stage leaves."""
    run.write_output(output.stage, output.to_bytes())


def read_output(run: RunFolder, kind: type[Output]) -> Output:
    """What a stage of `run` left. UsageError when it has not run, LocalDistillError when it was written by a newer
    version or is damaged."""
    return kind.from_bytes(run.output(kind.stage), f"the output of the stage '{kind.stage}' of run {run.id}",
                           f"localdistill resume {run.id} makes it again")


def has_output(run: RunFolder, stage: str) -> bool:
    """True when `stage` has run and what it left can be read."""
    try:
        read_output(run, OUTPUTS[stage])
    except LocalDistillError:
        return False
    return True


def is_due(run: RunFolder, stage: str) -> bool:
    """Whether what `stage` leaves must be there: the run was asked for it and is finished. Of one whose request cannot
    be read, which every listing says, nothing is known."""
    try:
        return run.status().state == "finished" and stage in run.request()["stages"]
    except LocalDistillError:
        return False


def scope_of_run(run: RunFolder) -> FactScope | None:
    """Whose facts a run sees; None, which is everybody's, where nothing was graded or an older version did it."""
    return read_output(run, GradeOutput).scope if has_output(run, GradeOutput.stage) else None
