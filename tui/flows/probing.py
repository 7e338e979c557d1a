"""A probe from the choice of a teacher to its report: terms of use, the price, the question, the small questions
themselves. One at a time, and it can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localdistill import (
    Cancel,
    Examined,
    LocalDistillError,
    ProbeTarget,
    SpendLedger,
    TermsQuestion,
    UsageError,
    accept_terms,
    asking_recipe,
    examine_teacher,
    findings_of,
    load_recipe,
    local_target,
    open_terms,
    provider,
    provider_target,
    recipe_file,
    recipe_targets,
    tune_teacher,
    worst_cost_usd,
)
from tui.flows.terms import ask_terms
from tui.text import line, safe
from tui.ui import Ui
from tui.widgets.dialogs import ConfirmDialog, ReportDialog
from tui.widgets.facts import FactRows
from tui.widgets.text_dialog import Field, PathDialog, TextDialog

CAP_USD = 0.05


@dataclass(frozen=True)
class ProbeQuote:
    """What has to be known before a probe."""

    terms: Sequence[TermsQuestion]
    targets: Sequence[ProbeTarget]
    costs: Sequence[float | None]


class Probing:
    """The probes of one screen."""

    def __init__(self, ui: Ui, working: Callable[[str], None], probed: Callable[[], None]) -> None:
        """working: told what is under way, empty when nothing is. probed: told when a report was kept."""
        self._ui, self._working, self._probed = ui, working, probed
        self._stop: threading.Event | None = None

    def provider(self, name: str) -> None:
        """Ask which model of a provider, then probe it."""
        known = provider(name)
        exact = next((model.match for model in known.models if not set(model.match) & set("*?[")), "")

        def typed(values: Mapping[str, str]) -> None:
            target = provider_target(name, values["model"], values["base_url"], values["key_env"])
            self._prepare(lambda: [target], number(values["cap"], "US dollars"))

        self._ui.push_screen(TextDialog(f"Probe {safe(known.title)}", [
            Field("model", "model", exact, "as the server calls it"),
            Field("base_url", "address", "", f"empty: {safe(known.base_url)}"),
            Field("key_env", "variable of the key", "", f"its name; empty: {safe(known.api_key_env or 'none')}",
                  is_variable=True),
            Field("cap", "at most, US dollars", f"{CAP_USD:g}", "it stops before passing this")],
            typed, "Some small questions; what they can cost is said first."))

    def recipe(self, name: str) -> None:
        """Probe the teachers of a recipe."""
        def targets() -> list[ProbeTarget]:
            path = recipe_file(name)
            return list(recipe_targets(load_recipe(path), path.resolve().parent))

        self._prepare(targets, CAP_USD)

    def file(self) -> None:
        """Choose a GGUF file and ask it."""
        self._ui.push_screen(PathDialog("Probe a GGUF file", lambda path: self._prepare(
            lambda: [local_target(path)], 0.0), self._ui.workspace.root, (".gguf",)))

    def tune(self) -> None:
        """Choose a GGUF file and measure which settings are fastest."""
        self._ui.push_screen(PathDialog("Tune llama.cpp for a GGUF file", self._tune, self._ui.workspace.root,
                                        (".gguf",), "It takes some minutes and every core."))

    def _tune(self, path: Path) -> None:
        report = ReportDialog(f"Settings for {line(path.name)}",
                              waiting="measuring ... (closing this does not stop it)")
        self._ui.push_screen(report)

        def work() -> FactRows:
            rates = tune_teacher(path).rates.items()
            return [(name, f"{rate:,.1f} tokens/s") for name, rate in sorted(rates, key=lambda row: -row[1])]

        self._ui.jobs.do(work, report.fill, failed=report.fail)

    def stop(self) -> None:
        """Let the probe end at its next safe point."""
        if self._stop is not None:
            self._stop.set()

    def _prepare(self, targets: Callable[[], list[ProbeTarget]], cap_usd: float, accepted: Sequence[str] = ()) -> None:
        if self._stop is not None:
            raise UsageError("a probe is under way", "wait for it, or press x to stop it")
        workspace = self._ui.workspace

        def work() -> ProbeQuote:
            found = targets()
            recipe = asking_recipe(found)
            accept_terms(recipe, workspace, accepted)
            terms = open_terms(recipe, workspace)
            return ProbeQuote(terms, found, [] if terms else [worst_cost_usd(target) for target in found])

        def priced(quote: ProbeQuote) -> None:
            if quote.terms:
                ask_terms(self._ui, quote.terms, lambda names: self._prepare(targets, cap_usd, names))
            elif all(cost == 0 for cost in quote.costs):
                self._probe(quote.targets, cap_usd)
            else:
                self._ui.push_screen(ConfirmDialog(quote_text(quote, cap_usd),
                                                   lambda: self._probe(quote.targets, cap_usd)))

        self._ui.jobs.do(work, priced, group="price")

    def _probe(self, targets: Sequence[ProbeTarget], cap_usd: float) -> None:
        workspace, stop = self._ui.workspace, threading.Event()
        self._stop = stop
        self._working(f"asking {', '.join(line(target.label, 60) for target in targets)} ...   x: stop")

        def work() -> list[Examined]:
            ledger, cancel = SpendLedger(cap_usd=cap_usd), Cancel(stop.is_set)
            return [examine_teacher(workspace, target, ledger, cancel) for target in targets]

        def done(found: list[Examined]) -> None:
            self._ended()
            rows = [row for one in found for row in report_rows(one)]
            self._ui.push_screen(ReportDialog("What the probe found", rows))
            self._probed()

        def failed(error: LocalDistillError) -> None:
            self._ended()
            self._ui.show_error(error)

        self._ui.jobs.do(work, done, failed=failed)

    def _ended(self) -> None:
        self._stop = None
        self._working("")


def report_rows(found: Examined) -> FactRows:
    """The report of one probe and what changed since the one before."""
    rows: FactRows = [("", found.label), *findings_of(found.probe)]
    if found.before is not None:
        since = f"since {found.before.probed_at}"
        rows += [("! changed", f"{change} ({since})") for change in found.changes] or [("changed", f"nothing {since}")]
    return rows


def quote_text(quote: ProbeQuote, cap_usd: float) -> str:
    """The question before a probe that costs money."""
    rows = []
    for target, cost in zip(quote.targets, quote.costs):
        said = "an unknown amount: no price is known" if cost is None else f"at most about ${cost:.4f}"
        rows.append(f"Probing {line(target.label, 80)} costs {said}.")
    rows.append("The cap cannot hold without a price." if None in quote.costs else f"It stops at ${cap_usd:g}.")
    return "\n".join(rows) + "\n\nAsk the questions?"


def number(text: str, what: str) -> float:
    """The number that was typed. UsageError when it is none."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e12:
        raise UsageError(f"'{line(text, 40)}' is no number of {what}", "for example 5")
    return found
