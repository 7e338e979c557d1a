"""What a recipe's teachers will take, asking some prompts first to know it better, and a new cap. Answers are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localdistill import (
    Plan,
    RunFolder,
    TermsQuestion,
    UsageError,
    accept_terms,
    load_recipe,
    make_plan,
    open_terms,
    recipe_file,
    start,
)
from tui.flows.probing import number
from tui.flows.terms import ask_terms
from tui.text import line, safe
from tui.ui import Ui
from tui.widgets.dialogs import ConfirmDialog
from tui.widgets.text_dialog import Field, TextDialog, Then

ASKED_AT_FIRST = 5
MONEY_LINES = ("prompts", "money", "cap")


@dataclass(frozen=True)
class Quote:
    """What must be decided or known before prompts are asked."""

    terms: Sequence[TermsQuestion]
    plan: Plan | None


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """A plan for a report: what to mind comes first."""
    return [*(("! warning", text) for text in plan.warnings), *((row.label, row.text) for row in plan.lines)]


def ask_some(ui: Ui, name: str, begun: Callable[[RunFolder, int], None]) -> None:
    """Ask how many prompts of the recipe `name`, say what they can cost, and start; `begun` gets the run."""

    def typed(values: Mapping[str, str]) -> None:
        count = int(number(values["count"], "prompts"))
        if count < 1:
            raise UsageError("at least one prompt has to be asked", "for example 5")
        _price(ui, name, count, (), begun)

    ui.push_screen(TextDialog(
        f"Ask some prompts of {line(Path(name).name)} first", [Field("count", "how many prompts", str(ASKED_AT_FIRST))],
        typed, "Their answers are kept and not asked again. What it can cost is said before anything is sent."))


def _price(ui: Ui, name: str, count: int, accepted: Sequence[str],
           begun: Callable[[RunFolder, int], None]) -> None:
    def work() -> Quote:
        path = recipe_file(name)
        recipe = load_recipe(path, [f"prompts.limit={count}"])
        accept_terms(recipe, ui.workspace, accepted)
        terms = open_terms(recipe, ui.workspace)
        return Quote(terms, None if terms else make_plan(ui.workspace, recipe, path.resolve().parent))

    def priced(quote: Quote) -> None:
        if quote.plan is None:
            ask_terms(ui, quote.terms, lambda names: _price(ui, name, count, names, begun))
            return
        money = [row for row in quote.plan.lines if row.label in MONEY_LINES]
        if all(row.text.startswith("nothing") for row in money if row.label == "money"):
            _start(ui, name, count, begun)
            return
        text = "\n".join([*(f"{row.label}: {row.text}" for row in money),
                          *(f"warning: {text}" for text in quote.plan.warnings)])
        ui.push_screen(ConfirmDialog(f"{safe(text)}\n\nAsk {count} prompts now?",
                                     lambda: _start(ui, name, count, begun)))

    ui.jobs.do(work, priced, group="price")


def _start(ui: Ui, name: str, count: int, begun: Callable[[RunFolder, int], None]) -> None:
    def work() -> RunFolder:
        path = recipe_file(name)
        text = path.read_text(encoding="utf-8")
        return start(ui.workspace, load_recipe(path), text, path.resolve().parent, "collect", sample=count)

    ui.jobs.do(work, lambda run: begun(run, count))


def raise_cap(ui: Ui, run_id: str, cap_usd: float | None, problem: str = "") -> None:
    """Ask for a new cap of a run, ask whether, and let the run go on. cap_usd: the present one; None is none. problem:
    why nobody knows what it has spent; then that is asked too."""

    def typed(values: Mapping[str, str]) -> Then:
        wanted = number(values["cap"], "US dollars")
        spent = number(values["spent"], "US dollars") if problem else None
        said = "" if spent is None else f"{line(run_id, 60)} has spent ${spent:,.2f}, as you say. It"
        question = ConfirmDialog(
            f"{said or line(run_id, 60)} may then spend ${wanted:,.2f} in all, what it spent before included. Go on?",
            lambda: ui.resume_run(run_id, wanted, spent))
        return lambda: ui.push_screen(question)

    fields = [Field("cap", "US dollars in all", "" if cap_usd is None else f"{2 * cap_usd:g}",
                    "there is no cap now" if cap_usd is None else f"now {cap_usd:g}")]
    if problem:
        fields.append(Field("spent", "spent so far", "", f"its ledger of calls: {line(problem)}"))
    ui.push_screen(TextDialog(f"New cap for {line(run_id, 60)}", fields, typed))
