"""What a recipe can say: one frozen, strict model per section (of prompts and sets of traces: `recipe.trace_sets`). The
docstring under a field is its help, its form label and its schema text. Everything downstream reads these models and no
other form: short forms and older ones are brought into this one before. What single sections cannot see is checked in
`recipe.references`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from localdistill.core.errors import UsageError, nearest
from localdistill.core.options import Member, Options
from localdistill.core.stages import STAGES
from localdistill.recipe.development import DevSection
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.trace_sets import (
    NAME,
    AskedSet,
    HowAsked,
    Named,
    Names,
    PromptsSection,
    RewrittenSet,
    SelectedSet,
    SetSection,
    Table,
    TraceSet,
    without_name,
)
from localdistill.recipe.tuning import TuneSection
from localdistill.scorecard.card import GUARD_MARGIN, SEEDS_FOR_FORMATS
from localdistill.trainers import TUNED


def _tables_by_name(value: Any) -> Any:
    """`{NAME: {...}}`, as TOML has it, as tables that know their names."""
    if not isinstance(value, dict):
        return value
    return [{"name": name, **table} if isinstance(table, dict) else table for name, table in value.items()]


class EngineSection(Named, Member):
    """Anything that answers requests: sets of traces and members name it."""


class StudentSection(Options):
    """The base model to train."""

    model: str
    """Folder, `shipped:NAME` or `hf://org/name`."""
    max_tokens: int = Field(2048, ge=16)
    """Longest training row; longer ones are left out and listed, never cut."""


class PartSection(Options):
    """Rows of an arm: sets of traces in one format."""

    traces: Names
    """The set whose traces are laid out, or several. Where the recipe has only one that is not rewritten, it needs no
    saying."""
    format: str
    """The training format."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The format's options, checked."""
    share: float | None = Field(None, gt=0.0, le=1.0)
    """Share of the arm's rows that this part has in the end; unset takes what is left, or all there is."""
    weight: float = Field(1.0, gt=0.0)
    """Weight of each of its rows in the loss."""

    @property
    def member(self) -> Member:
        """The format with its options."""
        return Member(use=self.format, options=self.options)


PART_KEYS = frozenset(PartSection.model_fields) - {"options", "share"}
"""Keys of a part that may stand in the arm's own table, where it has one part."""


def _arm_schema(schema: Table) -> None:
    """An arm of one part says it in its own table."""
    without_name(schema)
    part = PartSection.model_json_schema()["properties"]
    short = {name: part[name] for name in ("traces", "format", "weight")}
    schema["properties"] = {**short, **schema["properties"]}
    schema["required"] = [name for name in schema["required"] if name != "parts"]


class ArmSection(Named):
    """One contestant of the race: rows and how they are learned."""

    model_config = ConfigDict(json_schema_extra=_arm_schema)

    parts: tuple[PartSection, ...] = Field(min_length=1)
    """Several sets or formats in one arm, each with its share."""
    filters: tuple[Member, ...] | None = Field(None, alias="filter")
    """Filters of this arm alone, in place of those of its sets; an empty list takes everything, wrong answers too."""
    objective: Member | None = None
    """What is minimised; unset takes that of [train]."""
    start: str = ""
    """The arm whose trained adapter this one goes on from; empty starts from the base."""
    epochs: float | None = Field(None, gt=0.0)
    """Passes over its rows; unset takes those of [train]."""

    @model_validator(mode="before")
    @classmethod
    def _one_part(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "parts" in value:
            return value
        own = {key: value[key] for key in (*PART_KEYS, "options") if key in value}
        return {**{key: said for key, said in value.items() if key not in own}, "parts": [own]}

    @property
    def sets(self) -> tuple[str, ...]:
        """The names of its sets, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.traces))


class TrainSection(Options):
    """How every arm is trained."""

    use: str = "torch_lora"
    """The trainer; `auto`, like none at all, is MLX on Apple silicon where it is installed, else torch."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The trainer's options, checked."""
    objective: Member = Member(use="sft")
    """What is minimised."""
    budget: Literal["epochs", "tokens"] = "epochs"
    """`epochs`: equal epochs and steps for all arms. `tokens`: equal trained tokens."""
    seeds: int = Field(1, ge=1, le=32)
    """Trainings per arm; a verdict on formats needs at least 3."""
    looks: bool = False
    """Look at the scores after the third seed and each one after it, and train an arm no further whose verdict is
    clear; the error of all looks together stays what it is for one."""
    dev: DevSection | None = None
    """Development items, which stop a training and choose its weights. Unset: none are asked, and the last weights
    count."""
    tune: TuneSection | None = None
    """Find the learning rate first. Unset: nothing is tried."""

    @property
    def is_tuned(self) -> bool:
        """It trains with what tuning finds."""
        return self.options.get("learning_rate") == TUNED

    def heaviest_options(self) -> dict[str, Any]:
        """The trainer's options with the most memory and time that tuning may choose."""
        tune = self.tune if self.is_tuned else None
        lists = {"rank": tune.ranks, "epochs": tune.epochs} if tune else {}
        return {**self.options, **{name: max(values) for name, values in lists.items() if values}}

    @model_validator(mode="after")
    def _has_something_to_look_at(self) -> TrainSection:
        if self.looks and self.seeds <= SEEDS_FOR_FORMATS:
            raise ValueError(f"looks come after {SEEDS_FOR_FORMATS} seeds and each one more: set seeds to "
                             f"{SEEDS_FOR_FORMATS + 1} or more")
        return self


class SamplingSection(Options):
    """How replies to items are drawn."""

    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token each time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Smallest set of tokens with at least this probability; 1 keeps all."""
    top_k: int = Field(0, ge=0)
    """So many likeliest tokens; 0 keeps all."""
    samples: int = Field(1, ge=1, le=1024)
    """Replies to each item. From 2 on, the score card tells the chance in items and in replies apart, and says pass@k;
    for pass@k it takes 2k."""
    seed: int = 0
    """Of the sampler; every contestant draws with the same."""

    @model_validator(mode="after")
    def _draws(self) -> SamplingSection:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are {self.samples} times the same reply: give "
                             "a temperature, or leave samples out")
        return self

    def told(self) -> str:
        """In words."""
        if self.temperature == 0:
            return "greedy, one reply to each item"
        cuts = [f"top_p {self.top_p:g}"] * (self.top_p < 1) + [f"top_k {self.top_k}"] * (self.top_k > 0)
        replies = "one reply" if self.samples == 1 else f"{self.samples} replies"
        return ", ".join([f"temperature {self.temperature:g}", *cuts, f"{replies} to each item, seed {self.seed}"])


class EvaluateSection(Options):
    """How the base and every arm are measured."""

    tasks: tuple[Member, ...] = Field((), alias="task")
    """Benchmarks; a guard task is one outside the target. Without any, what `prompts.holdout` sets aside for `test`, by
    the first grader."""
    max_tokens: int = Field(1024, ge=1)
    """One cap on new tokens for every contestant."""
    sampling: SamplingSection | None = None
    """How replies are drawn; unset asks as each task says, once and greedily where it says nothing."""
    guard_margin: float = Field(GUARD_MARGIN, ge=0, le=1)
    """How much of a guard's score an arm may lose, 0 to 1, and still be called harmless: the whole interval of its
    difference from the base must lie above minus this."""
    guard: bool | None = None
    """Whether the small everyday guard that ships is measured where no task is a guard, so that what an arm loses
    elsewhere is seen. Unset: with a student of the hub. `false` leaves it out."""
    twins: dict[str, str] = Field(default_factory=dict)
    """Benchmark -> the one that asks twins of its items, fresh or rewritten, which nobody can have seen:
    `{ gsm8k = "jsonl" }`. What an arm gains on the first and not on its twins may be memory, its own or its teacher's;
    the score card says so."""
    exclude_contaminated: bool = True
    """Leave out items whose question stands in the training set (they are counted)."""
    engine_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the engine that runs the students, `transformers` after a training in torch, `mlx` after
    one in MLX: batch size, dtype."""

    @property
    def task_names(self) -> tuple[str, ...]:
        """What its benchmarks are called: a benchmark that is named several times, with other options, by number."""
        uses = [task.use for task in self.tasks]
        return tuple(use if uses.count(use) == 1 else f"{use} {uses[:place].count(use) + 1}"
                     for place, use in enumerate(uses))


class ExportSection(Options):
    """What is exported."""

    arm: str = "best"
    """Name of an arm, `base`, or `best`: the arm with the highest score on the first task that is no guard, of those
    that are better than the base there, worse on no other target, and lose no more than `evaluate.guard_margin` on any
    guard; where there is none, nothing is exported."""
    tolerance: float = Field(GUARD_MARGIN, ge=0, le=1)
    """How much of a score a quantized file may lose, 0 to 1, and still be recommended: on every task the whole interval
    of its difference from the 16-bit file must lie above minus this. At 0 only a file that got better is."""
    to: tuple[Member, ...] = ()
    """Exporters in order, at least one."""


class TeacherSection(Member):
    """The short form: an engine, and a set of the same name that it is asked for. Several of them answer side by side
    in one set, `teacher`."""

    name: str = Field("", pattern=r"^$|" + NAME)
    """Name of the engine, for people and for members that use it; `teacher` when empty."""


class CollectSection(HowAsked):
    """How engines are asked, where a set does not say it itself."""


class ShortForm(Options):
    """What a recipe may say in short."""

    teachers: tuple[TeacherSection, ...] = Field((), alias="teacher")
    """The engines that answer, in short."""
    collect: CollectSection = CollectSection()
    """How engines are asked, where a set does not say it itself."""


def _named(noun: str, name: str, among: Sequence[Named]) -> Any:
    known = {one.name: one for one in among}
    if name not in known:
        raise UsageError(f"there is no {noun} named '{name}'{nearest(name, known)}",
                         f"known: {', '.join(known)}" if known else f"the recipe names no {noun}")
    return known[name]


class Recipe(Options):
    """A whole chain, from prompts to exported files."""

    name: str = Field(pattern=NAME)
    """Name of the recipe and of what it saves."""
    description: str = ""
    """One sentence for listings."""
    seed: int = 0
    """Base of all seeds."""
    max_usd: float | None = Field(None, ge=0)
    """Most US dollars that a run may spend on all its calls. Reserved before each call, so it is never passed; a run
    that reaches it pauses. Unset: no cap."""
    prompts: PromptsSection | None = None
    """Prompts for the engines."""
    augmentations: tuple[Member, ...] = Field((), alias="augment")
    """What makes more prompts, from [prompts] or from documents; all that are asked get them, none is measured on."""
    engines: Annotated[tuple[EngineSection, ...],
                       BeforeValidator(_tables_by_name, json_schema_input_type=dict[str, EngineSection])
                       ] = Field((), alias="engine")
    """Engines by name: whatever answers requests."""
    sets: Annotated[tuple[TraceSet, ...],
                    BeforeValidator(_tables_by_name, json_schema_input_type=dict[str, TraceSet])
                    ] = Field((), alias="traces")
    """Sets of traces by name: asked, imported, stored, selected or rewritten."""
    graders: tuple[Member, ...] = Field((), alias="grade")
    """Graders in order; the lowest score counts."""
    labels: tuple[Member, ...] = Field((), alias="label")
    """What is measured of the prompts and traces, for filters and for looking at them."""
    filters: tuple[Member, ...] = Field((), alias="filter")
    """Filters in order, for every set that has none of its own; each row is counted at the first one that removes
    it."""
    student: StudentSection | None = None
    """Who learns."""
    arms: Annotated[tuple[ArmSection, ...],
                    BeforeValidator(_tables_by_name, json_schema_input_type=dict[str, ArmSection])
                    ] = Field((), alias="arm")
    """The contestants by name."""
    train: TrainSection | None = None
    """How they are trained."""
    evaluate: EvaluateSection | None = None
    """How they are measured."""
    export: ExportSection | None = None
    """What comes out."""

    @property
    def dev_task(self) -> Member | None:
        """The benchmark of the development items; None where there are none."""
        return self.train.dev.task if self.train and self.train.dev else None

    @property
    def tune(self) -> TuneSection | None:
        """How the learning rate is found; None where nothing is tried."""
        return self.train.tune if self.train else None

    @property
    def asked(self) -> tuple[AskedSet, ...]:
        """The sets that engines are asked for."""
        return tuple(one for one in self.sets if isinstance(one, AskedSet))

    @property
    def asked_engines(self) -> tuple[EngineSection, ...]:
        """The engines that sets are asked of, each once."""
        return tuple(map(self.engine, dict.fromkeys(name for one in self.asked for name in one.ask)))

    @property
    def originals(self) -> tuple[SetSection, ...]:
        """The sets that are not rewritten."""
        return tuple(one for one in self.sets if not isinstance(one, RewrittenSet))

    @property
    def rewrites(self) -> tuple[RewrittenSet, ...]:
        """The rewritten sets, each after those that it is made from."""
        return tuple(self._in_order())

    def _in_order(self) -> Iterator[RewrittenSet]:
        waiting = [one for one in self.sets if isinstance(one, RewrittenSet)]
        while waiting:
            names = {one.name for one in waiting}
            ready = [one for one in waiting if names.isdisjoint(one.from_)] or waiting
            yield from ready
            waiting = [one for one in waiting if one not in ready]

    def filters_of(self, one: SetSection) -> tuple[Member, ...]:
        """What a set is filtered by: its own filters, else the recipe's where they count for it."""
        if one.filters is not None:
            return one.filters
        return () if isinstance(one, RewrittenSet | SelectedSet) else self.filters

    def filter_lists(self) -> Iterator[tuple[str, tuple[str, ...], tuple[Member, ...]]]:
        """The lists of filters: key, the stages that use it, filters. Sets that are rewritten are filtered where they
        are made."""
        stages = {one.name: "rewrite" if isinstance(one, RewrittenSet) else "select" for one in self.sets}
        yield "filter", ("select",), self.filters
        for one in self.sets:
            yield key_of("traces", one.name, "filter"), (stages[one.name],), one.filters or ()
        for arm in self.arms:
            own = {stages[name] for name in arm.sets if name in stages}
            yield key_of("arm", arm.name, "filter"), tuple(sorted(own, reverse=True)), arm.filters or ()

    def engine(self, name: str) -> EngineSection:
        """The engine of that name; UsageError with the nearest where there is none."""
        found: EngineSection = _named("engine", name, self.engines)
        return found

    def trace_set(self, name: str) -> SetSection:
        """The set of that name; UsageError with the nearest where there is none."""
        found: SetSection = _named("set", name, self.sets)
        return found

    def engines_of(self, name: str) -> tuple[str, ...]:
        """The engines that answered for a set, or for what it was rewritten from."""
        one = self.trace_set(name)
        if isinstance(one, RewrittenSet):
            return tuple(dict.fromkeys(engine for source in one.from_ for engine in self.engines_of(source)))
        return one.ask if isinstance(one, AskedSet) else ()

    def stages(self, until: str = "") -> tuple[str, ...]:
        """The stages that this recipe runs, in order, up to the one named. UsageError when it has none of that name."""
        found = tuple(stage.name for stage in STAGES
                      if not stage.sections or any(getattr(self, name) for name in stage.sections))
        if until and until not in found:
            raise UsageError(f"this recipe has no stage '{until}'{nearest(until, found)}",
                             f"it has: {', '.join(found)}")
        return found[: found.index(until) + 1] if until else found
