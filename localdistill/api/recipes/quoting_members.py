"""What members will ask of engines beside the teachers (judges, scorers, summarizers): how many answers they look at,
and what that takes, as far as the workspace knows it from earlier questions. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from localdistill.api.recipes.quoting import LEAST_REPLIES, PlanLine, total_of
from localdistill.core.errors import LocalDistillError
from localdistill.core.records import Usage
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine, Metered
from localdistill.providers import NANO_PER_USD, Price, cost_nano_usd
from localdistill.recipe import Member, Recipe
from localdistill.recipe.engine_uses import EngineUse, engine_uses
from localdistill.recipe.trace_sets import RewrittenSet
from localdistill.stages.context import build_member
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.terms import who_answers


def quote_members(workspace: Workspace, recipe: Recipe, base: Path, sizes: Mapping[str, int | None],
                  replies: Sequence[int], warnings: list[str]) -> Iterator[PlanLine]:
    """A line for every member that asks an engine about answers. sizes: how many there will be at most of each set that
    is not rewritten; what is missing there is not known before the run. replies: of all contestants, per benchmark."""
    for one in engine_uses(recipe):
        if one.stage in ("augment", "collect", "export") or (one.stage == "rewrite" and not one.trace_set):
            continue  # told where it begins
        answers = _answers(recipe, one, sizes, replies)
        about = "as many answers as there are" if answers is None else f"at most {answers:,} answers"
        if one.task is not None and recipe.export is not None:
            about += ", and those of the exported files"
        yield from _quote(workspace, recipe, base, one, about, answers, warnings)


def quote_augmentation(workspace: Workspace, recipe: Recipe, base: Path, member: Member, most: int,
                       warnings: list[str]) -> Iterator[PlanLine]:
    """A line for every engine that one augmentation asks, which makes at most so many questions."""
    told: set[str] = set()
    for one in engine_uses(recipe):
        if one.role == f"augmentation {member.use}" and one.engine.name not in told:
            told.add(one.engine.name)
            yield from _quote(workspace, recipe, base, one, f"at most {most:,} new questions, each several times where "
                              "it checks them", most, warnings)


def _quote(workspace: Workspace, recipe: Recipe, base: Path, one: EngineUse, about: str, answers: int | None,
           warnings: list[str]) -> Iterator[PlanLine]:
    role, use, options = one.role, one.engine.use, one.engine.options
    try:
        engine: Engine = build_member(ENGINES, one.engine, base)
    except LocalDistillError as error:
        warnings.append(f"{role}: {error.message}")
        return
    try:
        model = engine.identity()
        price = engine.price() if isinstance(engine, Metered) else None
        costs = who_answers(use, options).costs
        if costs and price is None and recipe.max_usd is not None:
            warnings.append(f"there is a cap and the price of {role} is unknown: state usd_per_million_input and "
                            "usd_per_million_output")
        yield PlanLine(role.split()[0], f"{role} asks {one.engine.name} about {about}; what is known is not asked "
                                        f"again; {_cost(workspace, model, answers, costs, price)}")
    except LocalDistillError as error:
        warnings.append(f"{role}: {error.message}")
    finally:
        engine.close()


def _answers(recipe: Recipe, use: EngineUse, sizes: Mapping[str, int | None], replies: Sequence[int]) -> int | None:
    """How many answers it looks at, at most; None where nobody knows."""
    if use.task is not None:
        return replies[use.task]
    looked_at = recipe.sets if use.stage == "grade" else recipe.originals
    return _most(recipe, [use.trace_set] if use.trace_set else [one.name for one in looked_at], sizes)


def _most(recipe: Recipe, names: Sequence[str], sizes: Mapping[str, int | None]) -> int | None:
    """How many traces these sets have at most; None where nobody knows."""
    count = 0
    for name in names:
        made = recipe.trace_set(name)
        size = _most(recipe, made.from_, sizes) if isinstance(made, RewrittenSet) else sizes.get(name)
        if size is None:
            return None
        count += size
    return count


def _cost(workspace: Workspace, model: str, answers: int | None, costs: bool, price: Price | None) -> str:
    if not costs:
        return "it costs nothing: the engine runs here"
    store = open_store(workspace)
    replies: Sequence[tuple[int, int, float]] = store.usage_of_questions(model) if store.path.exists() else ()
    if price is None or answers is None or len(replies) < LEAST_REPLIES:
        return "what that costs is unknown" + ("" if price is None else " until it was asked a few times")
    total = total_of([cost_nano_usd(price, Usage(into, out)) / NANO_PER_USD for into, out, _ in replies], answers)
    return f"about ${total.middle:.2f} (${total.low:.2f} to ${total.high:.2f}) if each is asked about once"
