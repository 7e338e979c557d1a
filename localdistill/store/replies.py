"""Replies of engines to questions of members (judges, scorers, summarizers): as rows, and as lines of a journal. They
are known by what was asked, so that a resume, another run and another member ask nothing twice."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from localdistill.core.records import Reply, Request, content_id
from localdistill.store.rows import restored, storable

ReplyKey = tuple[str, int]
"""Content of the question, and the attempt (`Request.sample_index`)."""


def reply_key(request: Request, engine: str, model: str) -> ReplyKey:
    """What a question is known by: who is asked, and all that is asked but for the member's own id of it. A field that
    says nothing does not count, so that one that comes later leaves the names of earlier questions as they are."""
    asked = {name: value for name, value in _plain(request).items() if name not in ("id", "sample_index")}
    return content_id("question", engine, model, asked), request.sample_index


def _plain(value: Any) -> Any:
    """The value as JSON holds it, without what is as it is by default."""
    if dataclasses.is_dataclass(value):
        return {part.name: _plain(getattr(value, part.name)) for part in dataclasses.fields(value)
                if getattr(value, part.name) != part.default}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def reply_line(key: ReplyKey, engine: str, model: str, reply: Reply, about: str) -> dict[str, Any]:
    """A line of a journal. about: the member's own id of the question, which is the trace's where it speaks of one."""
    return {"kind": "reply", "id": key[0], "attempt": key[1], "engine": engine, "model": model, "about": about,
            "reply": dataclasses.asdict(reply)}


def reply_row(record: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """The columns of the table `replies`, of such a line. TypeError, KeyError or ValueError when it is none."""
    reply = reply_of(record["reply"])
    names = {"about": record.get("about", ""), **{name: record[name] for name in ("id", "engine", "model")}}
    if not all(isinstance(name, str) for name in names.values()) or type(record["attempt"]) is not int:
        raise ValueError("not the names of a question")
    return {**{name: storable(text) for name, text in names.items()}, "attempt": record["attempt"],
            "status": reply.status, "cost_usd": reply.cost_usd, "prompt_tokens": reply.usage.prompt_tokens,
            "completion_tokens": reply.usage.completion_tokens, "elapsed_s": reply.elapsed_s,
            "reply": storable(json.dumps(record["reply"], ensure_ascii=False)),
            "created_at": at}


def reply_of_cell(cell: str) -> Reply:
    """What the column `reply` holds."""
    return reply_of(json.loads(restored(cell)))


def reply_of(data: Any) -> Reply:
    """The reply that `dataclasses.asdict` and JSON made `data` of, today or when a reply had fewer fields. TypeError or
    ValueError when it is none."""
    reply = _made(Reply, data)
    assert isinstance(reply, Reply)
    return reply


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _made(kind: Any, value: Any) -> Any:
    """`value`, as JSON holds it, as what the type `kind` says."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: _made(hints[name], item) for name, item in dict(value).items()})
    if origin in (typing.Union, types.UnionType):
        return None if value is None and type(None) in parts else _made(parts[0], value)
    if origin is tuple:
        return tuple(_made(parts[0], item) for item in value)
    if origin is typing.Literal:
        kind = str
    if origin is Mapping:
        kind = dict
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, kind):
        raise ValueError(f"a {kind.__name__} is expected, not a {type(value).__name__}")
    return value
