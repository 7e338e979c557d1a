"""Records to rows and back. Text comes back exactly as it went in, also text that is no valid Unicode.

DuckDB and Arrow hold UTF-8 and nothing else, but model output and JSON files hold lone surrogates. Such a code point is
stored as U+FDD0 (a code point that means nothing in any text) and its four hex digits, and so is U+FDD0 itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from localdistill.records import Grade, Message, Prompt, Trace, Usage

if TYPE_CHECKING:
    import pyarrow as pa

_MARK = "\ufdd0"
_UNSTORABLE = re.compile("[\ud800-\udfff\ufdd0]")
_MARKED = re.compile("\ufdd0([0-9a-f]{4})")

PROMPT_TYPES: Mapping[str, str] = {
    "id": "string", "messages": "string", "question": "string", "reference": "string", "original": "string",
    "tests": "string", "source": "string", "licence": "string", "metadata": "string", "kind": "string",
    "steps": "int64", "created_at": "time",
}  # fmt: skip
TRACE_TYPES: Mapping[str, str] = {
    "id": "string", "prompt_id": "string", "engine": "string", "model": "string", "reasoning": "string",
    "answer": "string", "status": "string", "trace_kind": "string", "raw": "string", "finish_reason": "string",
    "sample_index": "int64", "sampling": "string", "prompt_tokens": "int64", "completion_tokens": "int64",
    "reasoning_tokens": "int64", "cached_tokens": "int64", "usage_estimated": "bool", "cost_usd": "double",
    "elapsed_s": "double", "parent_id": "string", "rewrite": "string", "source": "string", "terms": "string",
    "created_at": "time",
}  # fmt: skip
GRADE_TYPES: Mapping[str, str] = {
    "trace_id": "string", "grader": "string", "score": "double", "reason": "string", "extracted": "string",
}  # fmt: skip

PROMPT_COLUMNS = ("messages", "reference", "original", "tests", "source", "licence", "metadata", "id")
TRACE_COLUMNS = tuple(name for name in TRACE_TYPES if name != "created_at")


def storable(text: str) -> str:
    """`text` as valid Unicode."""
    if text.isascii():
        return text
    return _UNSTORABLE.sub(lambda found: f"{_MARK}{ord(found.group()):04x}", text)


def restored(text: str) -> str:
    """What was given to `storable`."""
    if _MARK not in text:
        return text
    return _MARKED.sub(lambda found: chr(int(found.group(1), 16)), text)


def _optional(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _json(value: Any) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """The columns `PROMPT_TYPES` of a prompt."""
    kind, steps = prompt.metadata.get("kind"), prompt.metadata.get("steps")
    return {
        "id": prompt.id,
        "messages": _json([[m.role, m.content] for m in prompt.messages]),
        "question": storable(prompt.question),
        "reference": _optional(prompt.reference),
        "original": _optional(prompt.original),
        "tests": _optional(prompt.tests),
        "source": storable(prompt.source),
        "licence": storable(prompt.licence),
        "metadata": _json(dict(prompt.metadata)),
        "kind": None if kind is None else storable(str(kind)),
        "steps": steps if isinstance(steps, int) and not isinstance(steps, bool) else None,
        "created_at": _now(),
    }


def prompt_of(row: Sequence[Any]) -> Prompt:
    """The prompt of the columns `PROMPT_COLUMNS`."""
    messages, reference, original, tests, source, licence, metadata, identity = (
        restored(value) if isinstance(value, str) else value for value in row
    )
    prompt = Prompt(
        tuple(Message(role, content) for role, content in json.loads(messages)),
        reference, original, tests, source, licence, json.loads(metadata),
    )  # fmt: skip
    prompt.__dict__["_id"] = identity  # what `Prompt.id` would compute: the stored name stays the name
    return prompt


def trace_row(trace: Trace) -> dict[str, Any]:
    """The columns `TRACE_TYPES` of a trace."""
    usage = trace.usage
    return {
        "id": trace.id,
        "prompt_id": trace.prompt_id,
        "engine": storable(trace.engine),
        "model": storable(trace.model),
        "reasoning": storable(trace.reasoning),
        "answer": storable(trace.answer),
        "status": trace.status,
        "trace_kind": trace.trace_kind,
        "raw": storable(trace.raw),
        "finish_reason": storable(trace.finish_reason),
        "sample_index": trace.sample_index,
        "sampling": _json(dict(trace.sampling)),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cached_tokens": usage.cached_tokens,
        "usage_estimated": usage.estimated,
        "cost_usd": trace.cost_usd,
        "elapsed_s": trace.elapsed_s,
        "parent_id": trace.parent_id,
        "rewrite": storable(trace.rewrite),
        "source": storable(trace.source),
        "terms": storable(trace.terms),
        "created_at": _now(),
    }


def trace_of_row(row: Sequence[Any]) -> Trace:
    """The trace of the columns `TRACE_COLUMNS`."""
    value: dict[str, Any] = {
        name: restored(cell) if isinstance(cell, str) else cell for name, cell in zip(TRACE_COLUMNS, row, strict=True)
    }
    usage = Usage(
        value.pop("prompt_tokens"), value.pop("completion_tokens"), value.pop("reasoning_tokens"),
        value.pop("cached_tokens"), value.pop("usage_estimated"),
    )  # fmt: skip
    return Trace(**{**value, "sampling": json.loads(value["sampling"]), "usage": usage})


def trace_from_json(data: Mapping[str, Any]) -> Trace:
    """The trace that `dataclasses.asdict` made `data` of. TypeError, KeyError or ValueError when it is not one."""
    trace = Trace(**{**data, "usage": Usage(**data["usage"])})
    texts = (trace.id, trace.prompt_id, trace.engine, trace.model, trace.reasoning, trace.answer, trace.status)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a text of the trace is not a text")
    return trace


def grade_row(grade: Grade) -> dict[str, Any]:
    """The columns `GRADE_TYPES` of a grade."""
    return {
        "trace_id": grade.trace_id,
        "grader": storable(grade.grader),
        "score": float(grade.score),
        "reason": storable(grade.reason),
        "extracted": storable(grade.extracted),
    }


def grade_of(row: Sequence[Any]) -> Grade:
    """The grade of the columns `GRADE_TYPES`."""
    trace_id, grader, score, reason, extracted = row
    return Grade(trace_id, restored(grader), score, restored(reason or ""), restored(extracted or ""))


def table(rows: Iterable[Mapping[str, Any]], types: Mapping[str, str]) -> pa.Table:
    """An Arrow table of rows."""
    import pyarrow as pa

    kinds = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(),
             "time": pa.timestamp("us")}  # fmt: skip
    return pa.Table.from_pylist(list(rows), pa.schema([(name, kinds[kind]) for name, kind in types.items()]))


def size_of(row: Mapping[str, Any]) -> int:
    """About how many bytes of text a row holds."""
    return sum(len(value) for value in row.values() if isinstance(value, str))
