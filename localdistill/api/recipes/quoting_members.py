"""What members will ask of engines beside the teachers (judges, scorers, summarizers): how many answers they look at,
and what that takes, as far as the workspace knows it from earlier questions. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from localdistill.api.recipes.quoting import LEAST_REPLIES, PlanLine, total_of
from localdistill.core.errors import LocalDistillError
from localdistill.core.records import Usage
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine, Metered
from localdistill.providers import NANO_PER_USD, Price, cost_nano_usd
from localdistill.recipe import Member, Recipe
from localdistill.stages.context import build_member
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.terms import engines_in, who_answers


def quote_members(workspace: Workspace, recipe: Recipe, base: Path, answers: int,
                  warnings: list[str]) -> Iterator[PlanLine]:
    """A line for every member that asks an engine about answers, of which there will be `answers`."""
    for stage, role, use, options in engines_in(recipe):
        if stage in ("collect", "evaluate"):
            continue
        try:
            engine: Engine = build_member(ENGINES, Member(use=use, options=dict(options)), base)
        except LocalDistillError as error:
            warnings.append(f"{role}: {error.message}")
            continue
        try:
            model = engine.identity()
            price = engine.price() if isinstance(engine, Metered) else None
            costs = who_answers(use, options).costs
            if costs and price is None and recipe.max_usd is not None:
                warnings.append(f"there is a cap and the price of {role} is unknown: state usd_per_million_input and "
                                "usd_per_million_output")
            yield PlanLine(role.split()[0], f"{role} asks {use} about at most {answers:,} answers; what is known is "
                                            f"not asked again; {_cost(workspace, model, answers, costs, price)}")
        except LocalDistillError as error:
            warnings.append(f"{role}: {error.message}")
        finally:
            engine.close()


def _cost(workspace: Workspace, model: str, answers: int, costs: bool, price: Price | None) -> str:
    if not costs:
        return "it costs nothing: the engine runs here"
    store = open_store(workspace)
    replies: Sequence[tuple[int, int, float]] = store.usage_of_questions(model) if store.path.exists() else ()
    if price is None or len(replies) < LEAST_REPLIES:
        return "what that costs is unknown" + ("" if price is None else " until it was asked a few times")
    total = total_of([cost_nano_usd(price, Usage(into, out)) / NANO_PER_USD for into, out, _ in replies], answers)
    return f"about ${total.middle:.2f} (${total.low:.2f} to ${total.high:.2f}) if each is asked about once"
