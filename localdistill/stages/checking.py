"""Every problem of a recipe that can be known before its first call: what its members would refuse, files that are not
there, engines that cannot do what they would be asked, a student that could not be trained or exported. Asks nobody,
loads no weights, and fetches nothing but, at the start of a run, the student."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from localdistill.core.capabilities import needed_by, require
from localdistill.core.errors import LocalDistillError, MissingExtra, RecipeError, UsageError, nearest
from localdistill.core.options import Options
from localdistill.core.stages import STAGES
from localdistill.engines import ENGINES
from localdistill.exporters import EXPORTERS
from localdistill.exporters.base import Exporter
from localdistill.exporters.job import ExportPlan
from localdistill.filters import FILTERS
from localdistill.graders import GRADERS
from localdistill.hub import datasets
from localdistill.hub.models import fetch
from localdistill.hub.names import DATASETS, HubName, in_hub
from localdistill.labels import LABELS
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.modelfiles.gguf_files import open_gguf
from localdistill.modelfiles.hardware import Hardware, look_at_hardware
from localdistill.modelfiles.shipped import resolve_path
from localdistill.recipe import Member, Recipe
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.engine_uses import EngineUse, engine_uses
from localdistill.recipe.hub_models import hub_data, hub_uses
from localdistill.recipe.members import PlacedMember, members_of
from localdistill.recipe.problems import Problem
from localdistill.recipe.trace_sets import ImportedSet
from localdistill.stages.context import StageContext, build_member, build_task, build_tasks, build_trainer
from localdistill.stages.development import clean_items, require_rule
from localdistill.stages.export_checks import export_plans
from localdistill.stages.filter_checks import filter_problems
from localdistill.stages.first_rows import first_rows, untold_arms
from localdistill.stages.holdout import HeldOut, looks_into_store
from localdistill.stages.learning import objective_of, why_unlearnable
from localdistill.stages.tokenizing import format_of
from localdistill.store import Store
from localdistill.tasks.base import Given, Task
from localdistill.workspace.folder import check_file
from localdistill.workspace.hub_pins import keep_pins, pins
from localdistill.workspace.run_folder import HUB

DEV = "train.dev.task"
_IN_USE = 50_000_000
"""Parameters from which a student is one that somebody may come to use."""
_TRAINING = frozenset({"tune", "train"})
_NEED_STUDENT = frozenset(stage.name for stage in STAGES if stage.uses_student)


def check_recipe(recipe: Recipe, base: Path, stages: Sequence[str] = (), hardware: Hardware | None = None,
                 room_bytes: int | None = None, store: Store | None = None) -> list[Problem]:
    """What is known to be wrong with `stages` of `recipe`, or with all, and, as warnings, what could not be looked at.
    Relative paths start from `base`. hardware: where it would run; this machine. room_bytes: free disk
    of the workspace, and store: what it holds, where that is known."""
    look = _Look(recipe, base, tuple(stages) or recipe.stages(), hardware, room_bytes, store)
    return list(dict.fromkeys(problem for check in _CHECKS for problem in check(look)))


def require_sound(problems: Sequence[Problem], where: str = "") -> list[str]:
    """RecipeError that says every error among `problems`; without one, the warnings in words."""
    errors = [problem for problem in problems if problem.kind == "error"]
    if errors:
        named = f"{where}: " if where else ""
        lines = [f"{named}{problem.key}: {problem.text}" for problem in errors]
        hints = dict.fromkeys(problem.hint for problem in errors if problem.hint)
        raise RecipeError("\n".join(lines), "\n".join(hints))
    return [f"{problem.key}: {problem.text}" for problem in problems]


def check_at_start(context: StageContext) -> None:
    """At the first stage of a run: say what the check before it doubted, fetch the models that lie in the hub, each in
    one revision from now on, and see that the student can go through the run before anything is asked. RecipeError when
    it cannot."""
    for text in context.run.request().get("warnings", ()):
        context.warn(text)
    stages = context.run.request()["stages"]
    uses, data = hub_uses(context.recipe, bool(_NEED_STUDENT.intersection(stages))), hub_data(context.recipe)
    if not uses and not data:
        return
    for name in data:
        if datasets.here(name) is None:
            context.note(f"{name} is fetched before anything is asked")
            datasets.bring(name, context.emit, context.cancel)
    known, found = pins(context.workspace), dict[str, str]()
    for use in uses:
        context.note(f"{use.source} is fetched, unless it is here, and looked at before anything is asked")
        model = fetch(known.get(use.source, use.source), context.emit, context.cancel, use.weights)
        found[use.source] = HubName.of(use.source).at(model.commit)
    context.run.amend_request(**{HUB: {**context.run.request().get(HUB, {}), **found}})
    keep_pins(context.workspace, found)
    context.recipe = context.run.recipe()
    for text in require_sound(check_recipe(context.recipe, context.base, stages, store=context.store)):
        context.warn(text)


@dataclass
class _Look:
    """What is checked, and what several checks look at."""

    recipe: Recipe
    base: Path
    stages: tuple[str, ...]
    hardware: Hardware | None
    room_bytes: int | None
    store: Store | None
    unfit: set[str] = field(default_factory=set)
    """Tables of members whose files are not as they should be."""

    @property
    def members(self) -> Iterator[PlacedMember]:
        """Those of the stages."""
        return (placed for placed in members_of(self.recipe) if placed.stage in self.stages)

    @property
    def trains(self) -> bool:
        """They train something, if only to try it."""
        return not _TRAINING.isdisjoint(self.stages)

    @property
    def source(self) -> str:
        """Where the student lies, when the stages need one; empty when they need none."""
        student = self.recipe.student
        return student.model if student is not None and _NEED_STUDENT.intersection(self.stages) else ""

    @cached_property
    def student(self) -> Path | None:
        """The student's folder; None when there is none, it is not here, or it cannot be opened."""
        try:
            folder = resolve_model(self.source, self.base, fetches=False) if self.source else None
            if folder is not None:
                ModelFolder.open(folder)
        except LocalDistillError:
            return None
        return folder


def _found(key: str, work: Callable[[], object], prefix: str = "") -> Iterator[Problem]:
    """What `work` refuses; a warning when it could not look."""
    try:
        work()
    except MissingExtra as missing:
        yield Problem(key, f"{prefix or 'it '}was not checked: {missing.message}", "warning", missing.hint)
    except LocalDistillError as error:
        yield Problem(key, prefix + error.message, hint=error.hint)


def _files(look: _Look) -> Iterator[Problem]:
    """Files that the recipe names are there, and model files can be opened."""
    if "collect" in look.stages:
        sets = {key_of("traces", one.name): one.files for one in look.recipe.sets if isinstance(one, ImportedSet)}
        prompts = {"prompts": look.recipe.prompts.files} if look.recipe.prompts else {}
        for key, names in {**prompts, **sets}.items():
            for name in names:
                yield from _file(f"{key}.files", name, look.base)
        yield from _stored_prompts(look)
    for placed in look.members:
        for option in placed.family.load(placed.member.use).Options.file_fields():
            problems = list(_file(f"{placed.key}.{option}", str(placed.member.options.get(option) or ""), look.base))
            look.unfit |= {placed.key} if problems else set()
            yield from problems


def _stored_prompts(look: _Look) -> Iterator[Problem]:
    """What the recipe asks of the store is there."""
    names = look.recipe.prompts.stored if look.recipe.prompts else ()
    if names and look.store is None:
        yield Problem("prompts.stored", "not looked at: it depends on what a workspace holds", "warning")
        return
    known = look.store.prompt_sources() if names and look.store and look.store.path.exists() else ()
    for name in names:
        if name not in known and not (name == "*" and known):
            yield Problem("prompts.stored", f"no stored prompt is from '{name}'{nearest(name, known)}",
                          hint="localdistill import FILE stores some; localdistill prompts lists them")


def _file(key: str, name: str, base: Path) -> Iterator[Problem]:
    if name.startswith(DATASETS):
        yield from _data_file(key, name)
    elif name and not in_hub(name):
        yield from _found(key, partial(_require_file, name, base))


def _data_file(key: str, name: str) -> Iterator[Problem]:
    """An address names a file of the hub, and that it is not here, where it is not."""
    try:
        is_here = datasets.here(name) is not None
    except LocalDistillError as error:
        yield Problem(key, error.message, hint=error.hint)
        return
    if not is_here:
        text = f"{name} is not here; it is fetched when the run starts, before anything is asked"
        yield Problem(key, text, "warning", "localdistill prefetch RECIPE fetches it now")


def _require_file(name: str, base: Path) -> None:
    path = resolve_path(name, base)
    if not path.exists():
        raise UsageError(f"there is no file or folder {path}", "correct the name, or put it there")
    if (path / "config.json").is_file():
        ModelFolder.open(path)
    elif path.suffix == ".gguf":
        open_gguf(path)
    if path.is_file():
        check_file(path)


def _engines(look: _Look) -> Iterator[Problem]:
    """Engines can do what they will be asked."""
    for use in engine_uses(look.recipe):
        key = key_of("engine", use.engine.name)
        if use.stage in look.stages and key not in look.unfit:
            yield from _found(key, partial(_require_able, use, look.base), f"as {use.role}: ")


def _require_able(use: EngineUse, base: Path) -> None:
    with closing(build_member(ENGINES, use.engine, base)) as engine:
        require(engine, use.must, use.engine.name)


def _fact_makers(look: _Look) -> Iterator[Problem]:
    """Graders and labels can work on this machine."""
    for section, family, members in (("grade", GRADERS, look.recipe.graders), ("label", LABELS, look.recipe.labels)):
        for number, member in enumerate(members if "grade" in look.stages else ()):
            with closing(build_member(family, member, look.base)) as maker:
                yield from _found(f"{section}.{number}", maker.check, f"{member.use}: ")


def _filters(look: _Look) -> Iterator[Problem]:
    """Filters name columns that there will be, and conditions of users can be used."""
    return filter_problems(look.recipe, [placed for placed in look.members if placed.family is FILTERS], look.base)


def _student(look: _Look) -> Iterator[Problem]:
    """The student is there, and can be trained and exported, as far as its files say."""
    if not look.source:
        return
    key, student = "student.model", look.recipe.student
    assert student is not None
    if look.student is None and in_hub(look.source):
        text = f"{look.source} is not here; it is fetched and looked at when the run starts, before anything is asked"
        yield Problem(key, text, "warning")
        return
    if look.student is None:
        yield from _found(key, lambda: ModelFolder.open(resolve_model(look.source, look.base)))
        return
    if look.trains and look.recipe.train is not None:
        trainer, hardware = build_trainer(look.recipe, look.base), look.hardware or look_at_hardware()
        yield from _found(key, partial(trainer.check, look.student, student.max_tokens, hardware),
                          f"this student cannot be trained by {look.recipe.train.use}: ")
    yield from _exports(look, key, look.student)


def _exports(look: _Look, key: str, student: Path) -> Iterator[Problem]:
    """The exporters take every arm that may be exported."""
    members, plans = [placed.member for placed in look.members if placed.family is EXPORTERS], list[ExportPlan]()
    if members:
        yield from _found(key, lambda: plans.extend(export_plans(look.recipe, look.base, student)), "its export: ")
    before: dict[str, Options] = {}
    for member in members:
        exporter: Exporter = build_member(EXPORTERS, member, look.base)
        for plan in plans:
            yield from _found(key, partial(exporter.check, replace(plan, before=dict(before))),
                              f"this student cannot be exported by {member.use}: ")
        before[member.use] = exporter.options


def _rows(look: _Look) -> Iterator[Problem]:
    """The student's template and tokenizer make a row of the first prompt, and of one with tools, in every arm, and an
    arm that is trained to think and not to can be told which."""
    if look.student is None or "format" not in look.stages:
        return
    try:
        for arm, what in first_rows(look.recipe, look.base, look.student, look.store):
            yield Problem(key_of("arm", arm), what, "warning")
        for arm in untold_arms(look.recipe, look.base, look.student):
            yield Problem(key_of("arm", arm), "it is trained to think and to answer at once, and the student's chat "
                          "template asks for both in the same way: nobody can tell it which", "warning",
                          "make two arms of it, or take a student whose template has a thinking switch")
    except MissingExtra as missing:
        yield Problem("student.model", f"its template was not tried: {missing.message}", "warning", missing.hint)
    except LocalDistillError as error:
        yield Problem("student.model", error.message, hint=error.hint)


def _items(look: _Look) -> Iterator[Problem]:
    """Something is left when prompts are set aside, and every task has items."""
    if look.store is None and looks_into_store(look.recipe):
        yield Problem("prompts.holdout", "not looked at: it depends on what a workspace holds", "warning")
        return
    held = HeldOut(look.recipe, look.base, store=look.store)
    problems = list(_found("prompts.holdout", lambda: held.all))
    yield from problems
    if problems:
        return
    tasks = build_tasks(look.recipe, look.base, held)
    for place, task in enumerate(tasks if "evaluate" in look.stages else ()):
        key = f"evaluate.task.{place}"
        if key not in look.unfit:
            problems = list(_found(key, partial(_require_items, task, look)))
            yield from problems or _unjudged(key, task, look.base)
    yield from _unguarded(look, tasks)
    if look.recipe.dev_task is not None and look.trains and DEV not in look.unfit:
        task = build_task(look.recipe.dev_task, look.base, held)
        problems = list(_found(DEV, partial(_require_dev_items, task, tasks, look)))
        yield from problems or _unjudged(DEV, task, look.base)


def _require_dev_items(task: Task, scored: Sequence[Task], look: _Look) -> None:
    """It can be answered and judged in the middle of a training, and something of it is not scored."""
    require_rule(task)
    there = [(place, one) for place, one in enumerate(scored) if f"evaluate.task.{place}" not in look.unfit]
    clean_items(task.prompts(), [prompt for _, one in there for prompt in one.prompts()], set())


def _unguarded(look: _Look, tasks: Sequence[Task]) -> Iterator[Problem]:
    """What an arm loses elsewhere is seen, where somebody may come to use it."""
    section = look.recipe.evaluate
    if section is None or section.guard is not None or look.student is None or "evaluate" not in look.stages:
        return
    if not any(task.is_guard for task in tasks) and ModelFolder.open(look.student).parameter_count >= _IN_USE:
        yield Problem("evaluate", "no benchmark is a guard, so nobody will see what an arm loses outside the target",
                      "warning", "evaluate.guard = true adds the small one that ships; false says that none is wanted")


def _unjudged(key: str, task: Task, base: Path) -> Iterator[Problem]:
    """Items that the task's grader does not apply to: they could only count as wrong."""
    if not task.grader:
        return
    items, options = task.prompts(), dict(task.grader_options)
    with closing(build_member(GRADERS, Member(use=task.grader, options=options), base)) as grader:
        yield from _found(key, grader.check, f"{task.grader}: ")
        count = sum(not grader.applies(item) for item in items)
    if count:
        yield Problem(key, f"{count:,} of the {len(items):,} items of the task {task.name} have nothing that the "
                           f"grader {task.grader} could judge by, and would count as wrong",
                      "error" if count == len(items) else "warning", "give them a reference, or take another grader")


def _require_items(task: Task, look: _Look) -> None:
    items = task.prompts()
    if not items:
        raise UsageError(f"the task {task.name} has no items", "give it a file that holds some")
    if look.student is None:
        return
    served = build_trainer(look.recipe, look.base).served(look.student, None)
    runs = Member(use=served.engine, options={**served.options, **served.places})
    with closing(build_member(ENGINES, runs, look.base)) as engine:
        for request in task.requests(items[0], Given(1, None)):
            require(engine, needed_by(request), f"{served.engine}, which runs the student,")


def _learning(look: _Look) -> Iterator[Problem]:
    """Objectives can learn from what the formats of their arms make."""
    if "format" not in look.stages:
        return
    for arm in look.recipe.arms:
        objective = objective_of(look.recipe, arm, look.base)
        for part in arm.parts if objective else ():
            if objective and (why := why_unlearnable(format_of(part.member, look.base), objective)):
                yield Problem(key_of("arm", arm.name), why, hint="give the arm another format, or another objective")


def _disk(look: _Look) -> Iterator[Problem]:
    """The disk holds at least the merged model and its first file."""
    if look.student is None or look.room_bytes is None or "export" not in look.stages:
        return
    size = sum(file.stat().st_size for file in look.student.glob("*.safetensors"))
    if 2 * size > look.room_bytes:
        yield Problem("export", f"at least {2 * size / 1e9:.1f} GB of disk are needed beside the student, and "
                                f"{look.room_bytes / 1e9:.1f} GB are free", hint="free some disk")


_CHECKS: tuple[Callable[[_Look], Iterator[Problem]], ...] = (
    _files, _engines, _fact_makers, _filters, _student, _learning, _rows, _items, _disk)
