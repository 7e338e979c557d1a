"""One trace for the eye: in full, or as the training text of a format with the weight of every span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from localdistill.api.traces.browsing import browse
from localdistill.api.traces.by_rule import rules_in
from localdistill.api.traces.previews import DEFAULT_STUDENT, Layouter, siblings_of
from localdistill.core.errors import UsageError
from localdistill.core.judgements import Judgement
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.recipe import Member
from localdistill.store import Store
from localdistill.store.pages import made_of
from localdistill.workspace.folder import Workspace


@dataclass(frozen=True)
class Shown:
    """The same content as text and as JSON-ready data."""

    text: str
    data: dict[str, Any]


def render_trace(store: Store, trace_id: str, form: str = "", student: str = DEFAULT_STUDENT) -> Shown:
    """The trace whose id starts with `trace_id`; with `form`, as that training format for `student`."""
    trace = store.require_trace(trace_id)
    prompt, _ = next(iter(store.pairs([trace.id])))
    if form:
        return _as_format(store, prompt, trace, form, student)
    said = store.facts([trace.id, prompt.id])
    facts = [*said.get(trace.id, ()), *said.get(prompt.id, ())]
    return in_full(prompt, trace, facts, made_of(store.sessions, trace.id))


def in_full(prompt: Prompt, trace: Trace, facts: Sequence[Fact], made_of_it: Sequence[tuple[str, str]],
            is_folded: bool = False) -> Shown:
    """A trace with all that is said of it, and where it comes from and went. is_folded: the text has the length of the
    reasoning in its place. made_of_it: (id, rewrite) of what was made of it."""
    head = f"{trace.id}  {trace.engine} {trace.model}  {trace.status}"
    parts = [head, *(f"[{m.role}{'' if m in prompt.messages else ', as sent'}]\n{m.shown}"
                     for m in trace.asked or prompt.messages)]
    parts += [] if trace.thinks is None else [f"[thinks] {'yes' if trace.thinks else 'no'}, as the engine was told"]
    if trace.reasoning:
        folded = f"[reasoning] {len(trace.reasoning):,} characters, folded"
        parts.append(folded if is_folded else f"[reasoning]\n{trace.reasoning}")
    parts += [f"[answer]\n{trace.answer}"]
    parts += [f"[calls] {call}" for call in trace.called]
    if prompt.reference is not None:
        parts.append(f"[reference] {prompt.reference}")
    parts += [f"[{fact.name}] {text}" for fact in facts if (text := _said(fact))]
    rules = {name: says for fact in facts if fact.kind == "grade" for name, says in rules_in(fact.reason).items()}
    parts += ["[rules]\n" + "\n".join(f"{name}: {says}" for name, says in rules.items())] if rules else []
    if trace.parent_id:
        parts.append(f"[parent] {trace.parent_id} by {trace.rewrite}")
    parts += [f"[became] {child} by {rewrite}" for child, rewrite in made_of_it]
    return Shown(
        "\n\n".join(parts), {"prompt": asdict(prompt), "trace": asdict(trace),
                              "facts": [asdict(fact) for fact in facts],
                              "became": [{"trace": child, "rewrite": rewrite} for child, rewrite in made_of_it]}
    )


def sample_traces(workspace: Workspace, count: int = 20, where: str = "", search: str = "", selection: str = "",
                  seed: int = 0, is_folded: bool = False) -> list[Shown]:
    """So many traces to read, drawn at random from those that meet the condition: the same ones for the same seed, as
    long as nothing else is stored. UsageError as `browse`, and for a count below 1."""
    if count < 1:
        raise UsageError(f"{count} traces are nothing to read", "give a count of 1 or more")
    browser = browse(workspace, where, search, "stored", selection, count, seed)
    browser.resolve()
    details = [browser.detail(index) for index in range(browser.count)]
    return [in_full(one.prompt, one.trace, one.facts, one.made_of_it, is_folded) for one in details]


def _said(fact: Fact) -> str:
    """A fact in one line; empty for a judgement that was taken back."""
    return Judgement.of(fact).text if fact.kind == "judgement" else fact.text


def _as_format(store: Store, prompt: Prompt, trace: Trace, form: str, student: str) -> Shown:
    row = Layouter(student).lay_out(prompt, trace, form, Member(use=form), False, partial(siblings_of, store, trace))
    if row.skipped:
        raise UsageError(f"this trace cannot be laid out as {form} for {student}: {row.skipped}",
                         "take another format or student, or leave the trace out")
    lines = [f"{form}: {row.tokens} tokens, {row.trained_tokens} trained; thinks: {row.thinks}"]
    lines += ["shown as what not to do"] if row.sign < 0 else []
    lines += [f"seen together with {', '.join(row.beside)}"] if row.beside else []
    lines += [f"--- weight {span.weight:g}, {span.tokens} tokens\n{span.text}" for span in row.spans]
    spans = [{"weight": span.weight, "tokens": span.tokens, "text": span.text} for span in row.spans]
    return Shown("\n".join(lines), {
        "format": form, "thinks": row.thinks, "spans": spans, "sign": row.sign, "beside": list(row.beside)})
