"""What a recipe can say: one frozen, strict model per section. The docstring under a field is its help, its form
label and its schema text. What single sections cannot see is checked by `Recipe` itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from localdistill.core.errors import nearest
from localdistill.core.options import Options
from localdistill.core.stages import STAGES

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class Member(Options):
    """A family member and its options: `use` picks it, the rest of the table is checked against its options."""

    use: str
    """Name of the family member."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The member's options, checked."""


class TeacherSection(Member):
    """Who answers the prompts; several are asked side by side."""

    name: str = Field("", pattern=r"^$|" + NAME)
    """Name for people, in progress and counts; the engine's when empty."""


class PromptsSection(Options):
    """Which prompts are asked."""

    files: tuple[str, ...]
    """Files to read: relative to the recipe, absolute, or `shipped:NAME`."""
    layout: str = "auto"
    """Layout of the files; `auto` detects it."""
    limit: int = Field(0, ge=0)
    """Take only the first so many prompts of each file; 0 takes all."""


class TracesSection(PromptsSection):
    """Traces that exist already, instead of a teacher."""


class CollectSection(Options):
    """How the teacher is asked."""

    samples: int = Field(1, ge=1, le=64)
    """Answers asked per prompt; with `until_verified`, the most that are asked."""
    until_verified: bool = False
    """Ask each prompt again, up to `samples` times, until every [[grade]] that applies accepts an answer. The number of
    tries is kept as the prompt's label `tries`, a measure of its difficulty."""
    max_tokens: int = Field(1024, ge=1)
    """Upper limit of new tokens in one reply, reasoning included."""
    temperature: float = Field(0.0, ge=0.0, le=5.0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    """Nucleus: the smallest set of tokens with this probability mass."""
    top_k: int = Field(0, ge=0)
    """Only the so many most likely tokens; 0 keeps all."""
    seed: int = 0
    """Seed of the sampler; the sample index is added."""
    system: str = ""
    """System prompt put before every prompt that has none."""
    suffix: str = ""
    """Text put after the last user turn, for example a request to box the answer."""
    thinks: bool | None = None
    """Switch thinking on or off at the teacher; unset leaves its default."""
    json_schema: str = ""
    """JSON Schema, as JSON text, that every reply must follow, for engines that can."""
    grammar: str = ""
    """GBNF grammar that every reply must follow, for llama.cpp."""
    top_logprobs: int = Field(0, ge=0, le=256)
    """Log-probabilities of so many tokens kept at every new token, in Parquet files of the run, for engines that can.
    0 keeps none."""
    may_fail: float = Field(0.01, ge=0.0, le=1.0)
    """Share of prompts that may stay without an answer; above it the run stops as partial and can be resumed."""


class SelectSection(Options):
    """Which traces are trained on."""

    name: str = Field("", pattern=r"^$|" + NAME)
    """Name under which the selection is saved; the recipe's name when empty."""
    from_: str = Field("", alias="from")
    """Use this saved selection instead of choosing."""
    filters: tuple[Member, ...] = Field((), alias="filter")
    """Filters in order; each row is counted at the first one that removes it."""


class RewriteSection(Options):
    """A rewrite whose traces arms can use."""

    name: str = Field(pattern=NAME)
    """Name that arms refer to."""
    use: str
    """The rewrite."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The rewrite's options, checked."""
    engine: Member | None = None
    """Who writes; the teacher when absent."""
    max_tokens: int = Field(512, ge=1)
    """Upper limit of new tokens for one rewritten trace."""


class StudentSection(Options):
    """The base model to train."""

    model: str
    """Folder, `shipped:NAME` or `hf://org/name`."""
    max_tokens: int = Field(2048, ge=16)
    """Longest training row; longer ones are left out and listed, never cut."""


class ArmSection(Options):
    """One contestant of the race."""

    name: str = Field(pattern=NAME)
    """Name on the score card."""
    format: str
    """The training format."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The format's options, checked."""
    rewrite: str = ""
    """Name of the rewrite whose traces this arm trains on; empty takes the original traces."""
    selection: str = ""
    """A saved selection for this arm alone (another teacher, another prompt); empty takes the recipe's."""
    objective: Member | None = None
    """What this arm minimises; unset is what `[train]` says."""
    start: str = ""
    """Name of an arm that this one goes on from, with the same seed; empty starts from the base."""
    epochs: float | None = Field(None, gt=0)
    """How often this arm sees every row; unset is what `[train]` says."""


class TrainSection(Options):
    """How every arm is trained."""

    use: str = "torch_lora"
    """The trainer."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The trainer's options, checked."""
    objective: Member = Member(use="sft")
    """What is minimised."""
    budget: Literal["epochs", "tokens"] = "epochs"
    """`epochs`: equal epochs and steps for all arms. `tokens`: equal trained tokens."""
    seeds: int = Field(1, ge=1, le=32)
    """Trainings per arm; a verdict on formats needs at least 3."""


class EvaluateSection(Options):
    """How the base and every arm are measured."""

    tasks: tuple[Member, ...] = Field((), alias="task")
    """Benchmarks; a guard task is one outside the target."""
    max_tokens: int = Field(1024, ge=1)
    """One cap on new tokens for every contestant."""
    exclude_contaminated: bool = True
    """Leave out items whose question stands in the training set (they are counted)."""
    engine_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the `transformers` engine that runs the students: batch size, threads, dtype."""


class ExportSection(Options):
    """What is exported."""

    arm: str = "best"
    """Name of an arm, `base`, or `best`: the arm with the highest score on the first task that is no guard, of those
    that are better than the base there and worse on no other task; where there is none, nothing is exported."""
    to: tuple[Member, ...] = ()
    """Exporters in order, at least one."""


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
    """Prompts for the teacher."""
    teachers: tuple[TeacherSection, ...] = Field((), alias="teacher")
    """The engines that answer."""
    collect: CollectSection = CollectSection()
    """How it is asked."""
    traces: TracesSection | None = None
    """Traces to import instead of asking."""
    graders: tuple[Member, ...] = Field((), alias="grade")
    """Graders in order; the lowest score counts."""
    select: SelectSection = SelectSection()
    """What is kept."""
    rewrites: tuple[RewriteSection, ...] = Field((), alias="rewrite")
    """Rewrites that arms may use."""
    student: StudentSection | None = None
    """Who learns."""
    arms: tuple[ArmSection, ...] = Field((), alias="arm")
    """The contestants."""
    train: TrainSection | None = None
    """How they are trained."""
    evaluate: EvaluateSection | None = None
    """How they are measured."""
    export: ExportSection | None = None
    """What comes out."""

    @field_validator("teachers", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @property
    def teacher(self) -> TeacherSection | None:
        """The first teacher."""
        return self.teachers[0] if self.teachers else None

    @model_validator(mode="after")
    def _sections_fit(self) -> Recipe:
        problems = list(_section_problems(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def stages(self) -> tuple[str, ...]:
        """The stages that this recipe runs, in order."""
        given = {name for name, value in self if value}
        return tuple(stage.name for stage in STAGES if not stage.sections or not given.isdisjoint(stage.sections))


def _section_problems(recipe: Recipe) -> list[str]:
    """What single sections cannot see: missing inputs and names that refer to nothing."""
    problems = []
    if recipe.prompts and not recipe.teacher:
        problems.append("[prompts] needs a [teacher] that answers them, or [traces] with answers that exist")
    if recipe.collect.until_verified and not recipe.graders:
        problems.append("collect.until_verified needs a [[grade]] that says which answers are right")
    if recipe.teacher and not recipe.prompts:
        problems.append("[teacher] needs [prompts]")
    if not (recipe.prompts or recipe.traces or recipe.select.from_):
        problems.append('nothing to work on: give [prompts] and [teacher], or [traces], or select.from = "NAME"')
    names = {rewrite.name for rewrite in recipe.rewrites}
    for arm in recipe.arms:
        if arm.rewrite and arm.rewrite not in names:
            problems.append(f"arm '{arm.name}': there is no rewrite named '{arm.rewrite}'{nearest(arm.rewrite, names)}")
        if arm.start and arm.start not in {other.name for other in recipe.arms if other is not arm}:
            others = [other.name for other in recipe.arms if other is not arm]
            problems.append(f"arm '{arm.name}': there is no other arm named '{arm.start}'{nearest(arm.start, others)}")
    for kind, seen in (("arm", [a.name for a in recipe.arms]), ("rewrite", [r.name for r in recipe.rewrites])):
        problems += [f"two {kind}s are named '{n}'" for n in sorted({n for n in seen if seen.count(n) > 1})]
    if "base" in {arm.name for arm in recipe.arms}:
        problems.append("an arm may not be named 'base': that is the untrained student")
    if recipe.arms and not recipe.student:
        problems.append("[[arm]] needs a [student] to lay the rows out for")
    if recipe.train and not recipe.arms:
        problems.append("[train] needs at least one [[arm]]")
    if recipe.export and not recipe.train:
        problems.append("[export] needs [train]")
    if recipe.export and not recipe.export.to:
        problems.append('[export] needs at least one [[export.to]], for example use = "gguf"')
    if recipe.evaluate and not recipe.evaluate.tasks:
        problems.append("[evaluate] needs at least one [[evaluate.task]]")
    arm_names = {arm.name for arm in recipe.arms} | {"best", "base"}
    if recipe.export and recipe.export.arm not in arm_names:
        close = nearest(recipe.export.arm, arm_names)
        problems.append(f"export.arm: there is no arm named '{recipe.export.arm}'{close}")
    if recipe.export and recipe.export.arm == "best" and not recipe.evaluate:
        problems.append('export.arm = "best" needs [evaluate]; or name the arm')
    return problems
