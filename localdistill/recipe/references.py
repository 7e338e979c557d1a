"""What single sections of a recipe cannot see: names that refer to nothing, circles, and inputs that are missing. Reads
no file of the recipe's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from localdistill.augmentations import AUGMENTATIONS
from localdistill.core.errors import nearest
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.sections import ArmSection, Recipe
from localdistill.recipe.trace_sets import AskedSet, ImportedSet, RewrittenSet, SelectedSet, StoredSet
from localdistill.trainers import TRAINERS

FEW = 8
Problem = tuple[str, str]
"""Key, empty where it belongs to none, and text."""


@dataclass(frozen=True)
class StatedNames:
    """What a recipe states, also where it is wrong."""

    sections: Collection[str]
    engines: Collection[str]
    sets: Collection[str]
    arms: Collection[str]


def reference_problems(recipe: Recipe, stated: StatedNames) -> Iterator[Problem]:
    """Problems of `recipe`, which holds what is right of it."""
    yield from _inputs(recipe, stated)
    yield from _sets(recipe, stated)
    yield from _arms(recipe, stated)
    yield from _results(recipe, stated)


def unknown(noun: str, name: str, known: Iterable[str]) -> str:
    """That there is no such thing, with the nearest, or with all where they are few."""
    names = list(known)
    others = f" (known: {', '.join(names)})" if 0 < len(names) <= FEW else ""
    return f"there is no {noun} named '{name}'{nearest(name, names) or others}"


def circle(start: str, arrows: Callable[[str], Iterable[str]]) -> list[str]:
    """The way from `start` back to itself, both ends included; empty when there is none."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        for name in arrows(way[-1]):
            if name == start:
                return [*way, start]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return []


def _inputs(recipe: Recipe, stated: StatedNames) -> Iterator[Problem]:
    if not stated.sets and not recipe.augmentations:
        asks = "prompts" in stated.sections
        yield "", ("[prompts] needs a [teacher] that answers them, or a set in [traces] that asks an engine"
                   if asks else "nothing to work on: give [prompts] and [teacher], or [traces] with a set that is "
                   "asked, imported or stored")
    files = (*recipe.prompts.files, *recipe.prompts.stored) if recipe.prompts else ()
    # One that there is not is told where it stands.
    reads = {place: AUGMENTATIONS.load(one.use).reads if one.use in AUGMENTATIONS.members else "documents"
             for place, one in enumerate(recipe.augmentations)}
    for place in (place for place, what in reads.items() if what == "prompts" and not files):
        yield f"augment[{place}]", (f"{recipe.augmentations[place].use} needs [prompts] with files or stored ones to "
                                    "start from")
    is_made = "documents" in reads.values()
    is_there = any(isinstance(one, ImportedSet | StoredSet | SelectedSet) for one in recipe.sets)
    if recipe.asked and not files and not is_made and not ("prompts" in stated.sections and recipe.prompts is None):
        who = "[teacher]" if "teacher" in stated.sections else f"the set '{recipe.asked[0].name}'"
        yield "", f"{who} needs [prompts] with files or stored ones"
    elif recipe.prompts and not files and not is_made and not (is_there and recipe.prompts.holdout):
        yield "prompts.files", "is missing"
    for one in recipe.asked:
        if one.until_verified and "grade" not in stated.sections:
            key = "collect" if "collect" in stated.sections else key_of("traces", one.name)
            yield f"{key}.until_verified", "needs a [[grade]] that says which answers are right"


def _sets(recipe: Recipe, stated: StatedNames) -> Iterator[Problem]:
    sources: Mapping[str, tuple[str, ...]] = {one.name: one.from_ for one in recipe.sets
                                              if isinstance(one, RewrittenSet)}
    told: set[str] = set()
    for one in recipe.sets:
        if isinstance(one, AskedSet):
            for name in one.ask:
                if name not in stated.engines:
                    yield key_of("traces", one.name, "ask"), unknown("engine", name, stated.engines)
        for name in sources.get(one.name, ()):
            if name not in stated.sets:
                yield key_of("traces", one.name, "from"), unknown("set", name, stated.sets)
        way = circle(one.name, lambda name: sources.get(name, ()))
        if way and one.name not in told:
            told.update(way)
            says = "is made from itself" if len(way) == 2 else f"goes in a circle: {' from '.join(way)}"
            yield key_of("traces", one.name, "from"), says


def _arms(recipe: Recipe, stated: StatedNames) -> Iterator[Problem]:
    starts = {arm.name: arm.start for arm in recipe.arms if arm.start}
    told: set[str] = set()
    for arm in recipe.arms:
        key = key_of("arm", arm.name)
        for name in arm.sets:
            if name not in stated.sets:
                yield f"{key}.traces", unknown("set", name, stated.sets)
        yield from ((f"{key}.parts", text) for text in _shares(arm))
        if arm.name in ("base", "best"):
            means = "the untrained student" if arm.name == "base" else "the arm that may be exported"
            yield key, f"an arm may not be named '{arm.name}': that is {means}"
        if arm.start and arm.start not in stated.arms:
            yield f"{key}.start", unknown("arm", arm.start, stated.arms)
        way = circle(arm.name, lambda name: [starts[name]] if name in starts else [])
        if way and arm.name not in told:
            told.update(way)
            says = "starts from itself" if len(way) == 2 else f"goes in a circle: {' from '.join(way)}"
            yield f"{key}.start", says
    if "arm" in stated.sections and "student" not in stated.sections:
        yield "", "[arm] needs a [student] to lay the rows out for"


def _shares(arm: ArmSection) -> Iterator[str]:
    """What is wrong with the shares of an arm's parts."""
    shares = [part.share for part in arm.parts if part.share is not None]
    total = sum(shares)
    if total > 1 + 1e-9:
        yield f"the shares add up to {total:g}, more than 1"
    elif len(shares) == len(arm.parts) and total < 1 - 1e-9:
        yield f"the shares add up to {total:g}, less than 1; a part without a share takes the rest"
    elif shares and len(shares) < len(arm.parts) and total > 1 - 1e-9:
        yield "the shares add up to 1, and nothing is left for the part without one"


def _tasks(recipe: Recipe) -> Iterator[Problem]:
    """Sides of the holdout that are asked are there, and what decides on the way is not scored."""
    dev = recipe.train.dev if recipe.train else None
    scored = list(enumerate(recipe.evaluate.tasks if recipe.evaluate else ()))
    named = [(f"evaluate.task[{place}]", task) for place, task in scored]
    if dev is not None and dev.task is None:
        yield "train.dev", ("asks nothing: name a task whose items nothing scores, or set prompts aside: [prompts] "
                            "holdout = { dev = 0.05 }")
    elif dev is not None and dev.task is not None:
        named.append(("train.dev.task", dev.task))
        side = dev.task.options.get("split")
        for place, task in scored:
            if task.use == dev.task.use == "holdout" and task.options.get("split") == side:
                yield "train.dev.task.split", (f"evaluate.task[{place}] scores these prompts, which must not decide "
                                               "anything before: take the other side")
    holdout = recipe.prompts.holdout if recipe.prompts else None
    for key, task in named:
        side = task.options.get("split")
        if task.use == "holdout" and side and not (holdout and getattr(holdout, str(side))):
            yield f"{key}.split", f"nothing is set aside for '{side}': [prompts] holdout = {{ {side} = 0.1 }} does"


def _tuning(recipe: Recipe, stated: StatedNames) -> Iterator[Problem]:
    """What is to be found is looked for, by something, on an arm that can be trained alone."""
    train, tune = recipe.train, recipe.tune
    if train is not None and train.is_tuned and tune is None:
        yield "train.learning_rate", "is to be found, and nothing looks for it: add [train.tune], or state a rate"
    if train is None or tune is None:
        return
    if train.dev is None:
        yield "train.tune", ("compares by development items: add [train.dev], with [prompts] holdout = { dev = 0.05 } "
                             "or a task whose items nothing scores")
    named = next((arm for arm in recipe.arms if arm.name == tune.arm), None)
    if tune.arm and tune.arm not in stated.arms:
        yield "train.tune.arm", unknown("arm", tune.arm, stated.arms)
    elif named is not None and named.start:
        yield "train.tune.arm", f"'{tune.arm}' starts from '{named.start}': name an arm that starts from the base"
    for rank in tune.ranks if train.use in TRAINERS.members else ():
        try:
            TRAINERS.load(train.use).Options.model_validate({**train.options, "rank": rank})
        except ValidationError as error:
            yield "train.tune.ranks", f"{rank}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"


def _twins(recipe: Recipe) -> Iterator[Problem]:
    """Twins, and those whose twins they are, are benchmarks of the recipe."""
    section = recipe.evaluate
    if section is None or not section.twins:
        return
    known = section.task_names
    for name, twins in section.twins.items():
        key = key_of("evaluate", "twins", name)
        if name not in known:
            yield key, unknown("benchmark", name, known)
        elif twins not in known:
            yield key, unknown("benchmark", twins, known)
        elif twins == name:
            yield key, "a benchmark is no twin of itself: name one that asks other items"


def _results(recipe: Recipe, stated: StatedNames) -> Iterator[Problem]:
    if "train" in stated.sections and "arm" not in stated.sections:
        yield "", "[train] needs at least one arm in [arm]"
    if "export" in stated.sections and "train" not in stated.sections:
        yield "", "[export] needs [train]"
    if recipe.export and not recipe.export.to:
        yield "", '[export] needs at least one [[export.to]], for example use = "gguf"'
    if recipe.evaluate and not recipe.evaluate.tasks:
        yield "", "[evaluate] needs at least one [[evaluate.task]]"
    yield from _tasks(recipe)
    yield from _tuning(recipe, stated)
    yield from _twins(recipe)
    known = [*stated.arms, "best", "base"]
    if recipe.export and recipe.export.arm not in known:
        yield "export.arm", unknown("arm", recipe.export.arm, known)
    if recipe.export and recipe.export.arm == "best" and "evaluate" not in stated.sections:
        yield "", 'export.arm = "best" needs [evaluate]; or name the arm'
