"""The plan of a recipe: what it will ask, cost, need and be able to detect, before anything is spent. Figures that
nobody knows are said to be unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from localdistill.api.recipes.quoting import PlanLine, quote
from localdistill.api.recipes.quoting_members import quote_augmentation, quote_members
from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.durations import estimate_text
from localdistill.core.errors import InputError, LocalDistillError, ModelFileError, nearest
from localdistill.core.prompt_kinds import kind_of
from localdistill.core.records import Prompt
from localdistill.hub.names import in_hub
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.modelfiles.hardware import Hardware, MemoryPlan, look_at_hardware
from localdistill.modelfiles.shape import shape_of
from localdistill.recipe import Recipe, advice_on
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.expanding import GUARD
from localdistill.recipe.trace_sets import AskedSet, ImportedSet
from localdistill.safety.files import free_bytes
from localdistill.scorecard import SEEDS_FOR_FORMATS
from localdistill.scorecard.statistics import detectable_difference
from localdistill.stages.answers import AnsweringPace, served_of
from localdistill.stages.asking import unique
from localdistill.stages.checking import check_recipe, require_sound
from localdistill.stages.context import build_member, build_task, build_tasks, build_trainer
from localdistill.stages.development import clean_items, last_measurement_s, most_tokens
from localdistill.stages.holdout import HeldOut, Holdout
from localdistill.stages.row_files import prompts_of, read_section
from localdistill.stages.tune import tried_arm
from localdistill.stages.tuning import rule_of
from localdistill.tasks.base import Given, Task
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store


@dataclass(frozen=True)
class Plan:
    """The plan of one recipe."""

    recipe: str
    lines: tuple[PlanLine, ...]
    warnings: tuple[str, ...]


def make_plan(workspace: Workspace, recipe: Recipe, base: Path) -> Plan:
    """The plan of `recipe`, whose relative paths start from `base`. Reads the prompts and asks nobody.
    RecipeError with everything that it is known to fail on."""
    free, hardware = free_bytes(workspace.root), look_at_hardware()
    warnings = [f"{key}: {text}" for key, text in advice_on(recipe)]
    store = open_store(workspace)
    warnings += require_sound(check_recipe(recipe, base, hardware=hardware, room_bytes=free, store=store))
    lines = [PlanLine("stages", " > ".join(recipe.stages()))]
    held = HeldOut(recipe, base, store=store)
    tasks = build_tasks(recipe, base, held)
    lines += _collecting(workspace, recipe, base, held.all, tasks, warnings)
    if recipe.student:
        lines += _training(recipe, base, hardware, warnings)
    lines += _development(workspace, recipe, base, held, tasks)
    lines += _evaluating(workspace, recipe, tasks, warnings)
    lines.append(PlanLine("disk", f"{free / 1e9:.1f} GB free in the workspace"))
    if free < 2e9:
        warnings.append("less than 2 GB of disk is free")
    return Plan(recipe.name, tuple(lines), tuple(warnings))


def plan_training(recipe: Recipe, base: Path) -> Plan:
    """The part of `make_plan` that speaks of training, which reads no prompts; empty when the recipe trains nothing."""
    warnings: list[str] = []
    lines = tuple(_training(recipe, base, look_at_hardware(), warnings)) if recipe.student else ()
    return Plan(recipe.name, lines, tuple(warnings))


def _collecting(workspace: Workspace, recipe: Recipe, base: Path, holdout: Holdout | None, tasks: Sequence[Task],
                warnings: list[str]) -> Iterator[PlanLine]:
    prompts = list[Prompt]()
    if holdout is not None:
        sides = ", ".join(f"{len(found):,} for '{side}'" for side, found in holdout.sides.items())
        yield PlanLine("holdout", f"{sides}; {holdout.left:,} prompts are left to train on ({holdout.groups:,} groups "
                                  "that stay together)")
    made = 0
    if recipe.prompts and (recipe.asked or recipe.augmentations):
        held = holdout.messages() if holdout is not None else set()
        prompts = [prompt for prompt in unique(prompts_of(recipe.prompts, base, open_store(workspace)))
                   if prompt.messages not in held]
    for member in recipe.augmentations:
        maker = build_member(AUGMENTATIONS, member, base)
        made += (most := maker.most(prompts))
        yield from quote_augmentation(workspace, recipe, base, member, most, warnings)
    if recipe.asked and prompts:
        if made:
            yield PlanLine("prompts", f"at most {made:,} more are made and asked, too; calls below are without them")
        for one in recipe.asked:
            warnings += _suffixes_of_nobody(one, prompts)
            for name in one.ask:
                yield from quote(workspace, recipe, one, recipe.engine(name), base, prompts, warnings)
    sizes: dict[str, int | None] = {one.name: (len(prompts) + made) * one.samples * len(one.ask)
                                    for one in recipe.asked}
    for imported in recipe.sets:
        if isinstance(imported, ImportedSet):
            sizes[imported.name] = count = sum(1 for _ in read_section(imported, base))
            yield PlanLine("traces", f"{count:,} rows to import into the set {imported.name}")
    replies = [_replies_to(recipe, task) for task in tasks]
    yield from quote_members(workspace, recipe, base, sizes, replies, warnings)
    if recipe.max_usd is not None:
        yield PlanLine("cap", f"${recipe.max_usd:.2f}: the run pauses before a call that could pass it")


def _suffixes_of_nobody(one: AskedSet, prompts: Sequence[Prompt]) -> Iterator[str]:
    """Suffixes for kinds of which no prompt is: a misspelled kind would go unnoticed."""
    if isinstance(one.suffix, dict) and prompts:
        kinds = Counter(kind_of(prompt) for prompt in prompts)
        there = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        for kind in one.suffix:
            if kind != "other" and kind not in kinds:
                key = key_of("traces", one.name, "suffix", kind)
                yield f"{key}: no prompt is of this kind{nearest(kind, kinds)} (there are {there})"


def _training(recipe: Recipe, base: Path, hardware: Hardware, warnings: list[str]) -> Iterator[PlanLine]:
    assert recipe.student is not None
    source = recipe.student.model
    try:
        folder = ModelFolder.open(resolve_model(source, base, fetches=False))
    except ModelFileError:
        if not in_hub(source):
            raise
        yield PlanLine("student", f"{source}: fetched when the run starts, before anything is asked; localdistill "
                                  "prefetch RECIPE does it now, and says its size and licence")
        return
    yield PlanLine("student", f"{folder.architecture}, {folder.parameter_count / 1e6:.1f} M parameters")
    if recipe.train:
        count = len(recipe.arms) * recipe.train.seeds
        seeds = recipe.train.seeds
        race = "" if seeds < 2 or not recipe.evaluate else "; all arms are measured after each seed" + (
            f", looked at from the third on, and an arm whose verdict is clear is trained no further (at best "
            f"{len(recipe.arms) * SEEDS_FOR_FORMATS} trainings)" if recipe.train.looks else "")
        yield PlanLine("training",
                       f"{len(recipe.arms)} arms x {seeds} seeds = {count} trainings, one at a time{race}")
        if recipe.tune is not None:
            yield _tuning(recipe, rule_of(shape_of(folder).hidden_size))
        trainer = build_trainer(recipe, base)
        yield _memory(trainer.estimate(shape_of(folder), recipe.student.max_tokens, hardware), hardware, warnings)


def _tuning(recipe: Recipe, rule: float) -> PlanLine:
    """What is tried before the trainings, and for how long at most."""
    tune = recipe.tune
    assert tune is not None
    lists = ((tune.ranks, "ranks"), (tune.epochs, "counts of epochs"))
    axes = "".join(f" x {len(values)} {name}" for values, name in lists if values)
    return PlanLine("tuning", f"before that, at most {estimate_text(60 * tune.minutes)} on the rows of "
                              f"{tried_arm(recipe).name}: a range test of {tune.range_steps} steps around {rule:.1e}, "
                              f"then {tune.rates} rates{axes} by successive halving on the development items")


def _memory(plan: MemoryPlan, hardware: Hardware, warnings: list[str]) -> PlanLine:
    """What a training needs, of what is free where it runs."""
    need, place = plan.total_bytes, plan.place
    have = "an unknown amount" if place.free_bytes is None else f"{place.free_bytes / 1e9:.1f} GB"
    if place.unused and place.idle and place.idle.kind != "metal":
        warnings.append(f"training runs on the CPU although this machine has a GPU ({place.idle.name}): "
                        f"{place.unused}; {place.fix}")
    if hardware.hidden_gpus:
        warnings.append(f"GPUs are hidden: {hardware.hidden_gpus}")
    if not plan.fits:
        beside = f" and {plan.host_bytes / 1e9:.1f} GB of main memory" if plan.host_bytes else ""
        warnings.append(f"training may need {need / 1e9:.1f} GB{beside}, and {have} is free")
    ways = f"; with {', '.join(plan.gives_way)}" if plan.gives_way else ""
    return PlanLine("memory", f"about {need / 1e9:.2g} GB of {have} {place.name}{ways} (estimated; measured on the "
                              "longest row before step 1)")


def _development(workspace: Workspace, recipe: Recipe, base: Path, held: HeldOut, tasks: Sequence[Task],
                 ) -> Iterator[PlanLine]:
    """What development items ask of every training, and what they decide."""
    section = recipe.train.dev if recipe.train else None
    if section is None or recipe.dev_task is None or recipe.train is None:
        return
    task = build_task(recipe.dev_task, base, held)
    if not _items(task):
        yield PlanLine("development", f"{task.name}: its items are fetched when the run starts")
        return
    found = clean_items(task.prompts(), [prompt for one in tasks for prompt in _items(one)], set())
    most = most_tokens(section, recipe.evaluate)
    trainings = len(recipe.arms) * recipe.train.seeds
    ends = f"; {section.patience} measurements without a better score end a training" if section.patience else ""
    left_out = f" ({found.scored:,} that a benchmark scores are left out)" if found.scored else ""
    yield PlanLine("development", f"{task.name}: {len(found.prompts):,} items{left_out} at every {section.every_steps} "
                                  f"steps and at the last, in each of {trainings} trainings; the {section.keep} "
                                  f"weights come out{ends}")
    last = last_measurement_s(workspace)
    took = f" (the last one in this workspace took {estimate_text(last)})" if last is not None else ""
    yield PlanLine("costs", f"each measurement at most {len(found.prompts) * most:,} new tokens, beside the training "
                            f"itself{took}; no score counts these items")


def _contestants(recipe: Recipe) -> int:
    """The base, and every arm with every seed."""
    return 1 + len(recipe.arms) * (recipe.train.seeds if recipe.train else 0)


def _items(task: Task) -> Sequence[Prompt]:
    """Those of a task; none where its file is still in the hub: what else is wrong with a file was found before."""
    try:
        return task.prompts()
    except InputError:
        return ()


def _replies_to(recipe: Recipe, task: Task) -> int:
    """How many replies all contestants give to the items of a task; 0 where they are not here yet."""
    items, drawn = _items(task), recipe.evaluate.sampling if recipe.evaluate else None
    each = len(task.requests(items[0], Given(1, None))) if items else 0
    return len(items) * each * (drawn.samples if drawn else 1) * _contestants(recipe)


def _evaluating(workspace: Workspace, recipe: Recipe, tasks: Sequence[Task],
                warnings: list[str]) -> Iterator[PlanLine]:
    paces = _paces(workspace, recipe, warnings) if tasks else []
    if recipe.evaluate and recipe.evaluate.guard and tasks[-1].name == GUARD:
        yield PlanLine("guard", f"{GUARD}, which ships, is measured too, for what an arm may lose elsewhere; "
                                "evaluate.guard = false leaves it out")
    for task in tasks:
        assert recipe.evaluate is not None
        count, models = len(_items(task)), _contestants(recipe)
        if not count:
            yield PlanLine("evaluate", f"{task.name}: its items are fetched when the run starts, before anything is "
                                       "asked; localdistill prefetch RECIPE does it now")
            continue
        drawn = recipe.evaluate.sampling
        seen = detectable_difference(count, discordant_share=0.25)
        asked = f"{task.name}: {count:,} items x {models} models"
        if all(request.kind == "score" for request in task.requests(_items(task)[0], Given(1, None))):
            yield PlanLine("evaluate", f"{asked}, scored, with nothing written")
        else:
            yield PlanLine("evaluate", asked + (f" x {drawn.samples} replies" if drawn and drawn.samples > 1 else "")
                           + f", at most {recipe.evaluate.max_tokens:,} new tokens each")
            yield PlanLine("time", f"{task.name}: {_answering_time(recipe, task, paces)}")
        yield PlanLine(
            "detects",
            f"{task.name}: a difference of {100 * seen:.1f} points or more (80 % power, paired, "
            "when a quarter of the items differ)",
        )


def _paces(workspace: Workspace, recipe: Recipe, warnings: list[str]) -> list[AnsweringPace]:
    """How fast this student answered before, in this workspace, the latest first."""
    found = []
    for artifact in workspace.newest_artifacts("answers"):
        try:
            pace = served_of(artifact).pace
        except LocalDistillError as error:
            warnings.append(f"{error.message}; how fast its replies came is not known")
            continue
        if pace and recipe.student and pace.student == recipe.student.model and pace.new_tokens and pace.elapsed_s > 0:
            found.append(pace)
    return found


def _answering_time(recipe: Recipe, task: Task, paces: Sequence[AnsweringPace]) -> str:
    """What all models take for a task, by the latest measurement of this student."""
    assert recipe.evaluate is not None
    if not paces:
        return "unknown until this student has answered something here"
    own = next((pace for pace in paces if pace.task == task.name), None)
    measured = own or paces[0]
    length = min(measured.new_tokens / measured.replies, recipe.evaluate.max_tokens)
    rate = measured.new_tokens / measured.elapsed_s
    left_s = _replies_to(recipe, task) * length / rate
    of = "there" if own else f"on {measured.task}"
    return (f"about {estimate_text(left_s)} for all models, at the {rate:,.0f} tokens per second and "
            f"{length:,.0f} tokens a reply that this student came to {of}")
