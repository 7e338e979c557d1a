"""One trace for the eye: in full, or as the training text of a format with the weight of every span."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import UsageError
from localdistill.core.records import Example, Grade, Prompt, Skip, Trace
from localdistill.formats import FORMATS
from localdistill.modelfiles.folder import resolve_model
from localdistill.modelfiles.rows import tokenize_example
from localdistill.modelfiles.shipped import resolve_path
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.store import Store
from localdistill.templates import ChatTemplate


@dataclass(frozen=True)
class Shown:
    """The same content as text and as JSON-ready data."""

    text: str
    data: dict[str, Any]


def render_trace(store: Store, trace_id: str, form: str = "", student: str = "shipped:pantry/student") -> Shown:
    """The trace whose id starts with `trace_id`; with `form`, as that training format for `student`."""
    trace = store.find_trace(trace_id)
    if trace is None:
        raise UsageError(f"there is no trace '{trace_id}' here", "`localdistill traces` lists them")
    prompt, _ = next(iter(store.pairs([trace.id])))
    if form:
        return _as_format(prompt, trace, form, student)
    return _in_full(prompt, trace, store.grades([trace.id]).get(trace.id, []))


def _in_full(prompt: Prompt, trace: Trace, grades: list[Grade]) -> Shown:
    head = f"{trace.id}  {trace.engine} {trace.model}  {trace.status}"
    parts = [head, *(f"[{m.role}{'' if m in prompt.messages else ', as sent'}]\n{m.content}"
                     for m in trace.asked or prompt.messages)]
    parts += [] if trace.thinks is None else [f"[thinks] {'yes' if trace.thinks else 'no'}, as the engine was told"]
    parts += [f"[reasoning]\n{trace.reasoning}"] if trace.reasoning else []
    parts += [f"[answer]\n{trace.answer}"]
    if prompt.reference is not None:
        parts.append(f"[reference] {prompt.reference}")
    parts += [
        f"[{g.grader}] {g.score:g}: {g.reason}" + (f" (took '{g.extracted}')" if g.extracted else "") for g in grades
    ]
    if trace.parent_id:
        parts.append(f"[parent] {trace.parent_id} by {trace.rewrite}")
    return Shown(
        "\n\n".join(parts), {"prompt": asdict(prompt), "trace": asdict(trace), "grades": [asdict(g) for g in grades]}
    )


def _as_format(prompt: Prompt, trace: Trace, form: str, student: str) -> Shown:
    cls = FORMATS.load(form)
    folder = resolve_model(student if student.startswith("hf://") else str(resolve_path(student, Path.cwd())))
    tokenizer = StudentTokenizer(folder)
    example: Example | Skip = cls(cls.Options()).lay_out(prompt, trace, tokenizer.count)
    if isinstance(example, Skip):
        raise UsageError(f"this trace cannot be laid out as {form}: {example.reason}", "")
    row = tokenize_example(example, ChatTemplate.from_folder(folder), tokenizer, 1 << 30)
    if isinstance(row, Skip):
        raise UsageError(f"this trace cannot be tokenized for {student}: {row.reason}", "")
    pieces: list[tuple[float, list[int]]] = []
    for token, weight in zip(row.input_ids, row.weights, strict=True):
        if not pieces or pieces[-1][0] != weight:
            pieces.append((weight, []))
        pieces[-1][1].append(token)
    spans = [{"weight": round(weight, 4), "tokens": len(ids), "text": tokenizer.decode(ids)} for weight, ids in pieces]
    lines = [f"{form}: {len(row.input_ids)} tokens, {row.trained_tokens} trained; thinks: {example.thinks}"]
    lines += [f"--- weight {s['weight']:g}, {s['tokens']} tokens\n{s['text']}" for s in spans]
    return Shown("\n".join(lines), {"format": form, "thinks": example.thinks, "spans": spans})
