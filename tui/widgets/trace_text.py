"""One trace in full: what was asked, the thinking (which folds), the answer, its grades with their reasons, and where
it comes from and went. Whatever a model wrote is shown through `shown`, in pieces that stay quick to draw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from localdistill import Fact, Judgement, TraceDetail, judgement_among, rules_in
from tui.text import joined, line, shown

LONGEST_PART = 20_000
"""Characters of one part that are drawn before somebody asks for all of them."""

MARKS = {True: ("✓", "$text-success"), False: ("✗", "$text-error")}


def verdict(score: float | None) -> tuple[str, str]:
    """Mark and kind of a score, readable without colour."""
    if score is None:
        return "-", "muted"
    if score >= 1:
        return "✓", "good"
    return ("✗", "bad") if score <= 0 else ("~", "warn")


class TraceText(VerticalScroll, can_focus=True):
    """One trace in full; the arrows scroll."""

    DEFAULT_CSS = """
    TraceText { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    TraceText > #asked { margin-top: 1; }
    TraceText > Static { height: auto; }
    TraceText > .body { padding-left: 2; }
    TraceText > .head { text-style: bold; margin-top: 1; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._detail: TraceDetail | None = None
        self.folded = True
        """The thinking is folded away."""
        self.whole = False
        """Long parts are drawn to their end."""

    def compose(self) -> Iterable[Widget]:
        """A part for each thing."""
        yield Static(id="about")
        yield Static(id="asked")
        yield Static(id="thinking-head", classes="head")
        yield Static(id="thinking", classes="body")
        yield Static(shown("answer"), id="answer-head", classes="head")
        yield Static(id="answer", classes="body")
        yield Static(shown("grades"), id="grades-head", classes="head")
        yield Static(id="grades", classes="body")
        yield Static(shown("lineage"), id="lineage-head", classes="head")
        yield Static(id="lineage", classes="body")

    @property
    def detail(self) -> TraceDetail | None:
        """The trace that is shown."""
        return self._detail

    def show(self, detail: TraceDetail | None, problem: str = "") -> None:
        """Show a trace from its beginning; None while it is fetched, or with why it cannot be."""
        if detail is None or self._detail is None or detail.trace.id != self._detail.trace.id:
            self.scroll_home(animate=False)
        self._detail = detail
        for child in self.query(Static):
            child.display = detail is not None or child.id == "about"
        if detail is None:
            self._part("about", shown(problem or "fetching ...", "" if problem else "$foreground-muted"))
            return
        trace, prompt = detail.trace, detail.prompt
        self._part("about", joined(*_about(detail)))
        self._part("asked", joined(*(part for number, message in enumerate(trace.asked or prompt.messages) for part in (
            shown(f"{chr(10) * 2 if number else ''}{line(message.role)}", "bold"),
            shown("\n" if message in prompt.messages else ", as sent\n", "$foreground-muted"),
            self._text(message.shown)))))
        self._draw_thinking()
        said = "\n".join(filter(None, (trace.answer, *(f"calls {call}" for call in trace.called))))
        self._part("answer", self._text(said) if said else shown("(empty)", "$foreground-muted"))
        self._part("grades", joined(*_facts(detail.facts, prompt.reference)))
        self._part("lineage", joined(*_lineage(detail)))

    def toggle_thinking(self) -> None:
        """Fold the thinking away or open it."""
        self.folded = not self.folded
        if self._detail is not None:
            self._draw_thinking()

    def toggle_whole(self) -> None:
        """Draw long parts to their end, or only their beginning."""
        self.whole = not self.whole
        if self._detail is not None:
            self.show(self._detail)

    def _draw_thinking(self) -> None:
        assert self._detail is not None
        trace = self._detail.trace
        there = bool(trace.reasoning)
        kind = {"summary": "thinking, as the provider summed it up", "encrypted": "thinking, encrypted"}.get(
            trace.trace_kind, "thinking")
        arrow = "▸" if self.folded else "▾"
        hint = f"  {len(trace.reasoning):,} characters, t {'unfolds' if self.folded else 'folds'}"
        self._part("thinking-head", joined(shown(f"{arrow} {kind}"), shown(hint, "not bold $foreground-muted"))
                   if there else shown("no thinking", "not bold $foreground-muted"))
        body = self.query_one("#thinking", Static)
        body.display = there and not self.folded
        if body.display:
            body.update(self._text(trace.reasoning, "italic $text 90%"))

    def _text(self, text: str, style: str = "") -> Content:
        if self.whole or len(text) <= LONGEST_PART:
            return shown(text, style)
        more = f"\n… {len(text) - LONGEST_PART:,} more characters: m shows them"
        return joined(shown(text[:LONGEST_PART], style), shown(more, "$text-warning"))

    def _part(self, name: str, content: Content) -> None:
        self.query_one(f"#{name}", Static).update(content)


def _about(detail: TraceDetail) -> Iterator[Content]:
    trace, usage = detail.trace, detail.trace.usage
    yield shown(line(trace.id), "bold")
    good = trace.status == "complete"
    yield shown(f"  {line(trace.status)}\n", "" if good else "bold $text-warning")
    model = line(trace.model or trace.engine or trace.source or "imported")
    yield shown(f"{model[:23]}…\n" if model.startswith("sha256:") else f"{model}\n", "$foreground-muted")
    facts = [f"{usage.completion_tokens:,} new tokens" + (" (counted here)" if usage.estimated else "")] if (
        usage.completion_tokens) else ["tokens unknown"]
    if usage.reasoning_tokens:
        facts.append(f"{usage.reasoning_tokens:,} of them thinking")
    if usage.prompt_tokens:
        facts.append(f"{usage.prompt_tokens:,} in the prompt")
    facts.append("cost unknown" if trace.cost_usd is None else f"${trace.cost_usd:.6f}".rstrip("0").rstrip("."))
    if trace.elapsed_s:
        facts.append(f"{trace.elapsed_s:.1f} s")
    if trace.finish_reason:
        facts.append(f"ended by {line(trace.finish_reason, 40)}")
    yield shown(" · ".join(facts), "$foreground-muted")


def _facts(facts: Iterable[Fact], reference: str | None) -> Iterator[Content]:
    verdicts = [fact for fact in facts if fact.kind not in ("label", "judgement")]
    person = judgement_among(facts)
    if person.text:
        yield from _by_person(person)
    for fact in verdicts:
        yield shown(*_mark(fact))
        took = f"  took '{line(fact.extracted)}'" if fact.extracted else ""
        yield shown(f"  {line(fact.by)}@{fact.version}: {line(fact.reason, 2000)}{_numbers(fact)}{took}\n")
        for name, says in rules_in(fact.reason).items():
            yield shown(f"    {line(name)}: {line(says, 200)}\n", "$foreground-muted")
    if not verdicts and not person.text:
        yield shown("nobody has judged it\n", "$foreground-muted")
    for fact in facts:
        if fact.kind == "label":
            value = "none" if fact.value is None else fact.value if isinstance(fact.value, str) else f"{fact.value:g}"
            yield shown(f"{line(fact.by)}  ", "$foreground-muted")
            yield shown(f"{line(value)}{_numbers(fact)}\n")
    if reference is not None:
        yield joined(shown("reference  ", "$foreground-muted"), shown(line(reference, 2000)))


def _mark(fact: Fact) -> tuple[str, str]:
    """A verdict that can be read without colour."""
    if not isinstance(fact.value, float):
        return ("? undecided", "bold $text-warning")
    mark, style = MARKS[fact.value >= 1] if fact.value in (0, 1) else ("~", "$text-warning")
    return f"{mark} {fact.value:g}", f"bold {style}"


def _by_person(said: Judgement) -> Iterator[Content]:
    if said.passed is not None:
        mark, style = MARKS[said.passed]
        yield shown(f"{mark} {said.passed:d}  ", f"bold {style}")
    marks = [*(["★ favourite"] if said.favourite else []), *(f"#{line(tag)}" for tag in said.tags)]
    yield shown(f"a person: {' '.join([*marks, line(said.note, 2000)])}\n")


def _numbers(fact: Fact) -> str:
    return "".join(f"  {line(name)} {number:g}" for name, number in fact.metrics.items())


def _lineage(detail: TraceDetail) -> Iterator[Content]:
    trace, prompt = detail.trace, detail.prompt
    origin = ", ".join(line(part, 80) for part in (prompt.source, prompt.licence) if part)
    others = f", {detail.siblings:,} more answers to it" if detail.siblings else ""
    rows = [("prompt", f"{line(prompt.id)}{'  ' + origin if origin else ''}{others}")]
    if trace.parent_id:
        rows.append(("made from", f"{line(trace.parent_id)} by {line(trace.rewrite)}   u opens it"))
    rows += [("became", f"{line(made)} by {line(rewrite)}" + ("   d opens it" if number == 0 else ""))
             for number, (made, rewrite) in enumerate(detail.made_of_it)]
    if trace.sampling:
        known = {k: v for k, v in trace.sampling.items() if v not in ("", [], ())}
        said = ", ".join(f"{name} {value}" for name, value in known.items())
        told = {None: "", True: ", told to think", False: ", told not to think"}[trace.thinks]
        rows.append(("sampled", f"{line(said)}, sample {trace.sample_index}{told}"))
    if trace.terms:
        rows.append(("terms", line(trace.terms)))
    rows.append(("selected in", line(", ".join(detail.selections)) or "no selection"))
    rows += [("trained in", line(digest)) for digest in detail.datasets] or [("trained in", "no dataset")]
    for label, text in rows:
        yield shown(f"{label:<12}", "$foreground-muted")
        yield shown(text + "\n")
