"""What the `replay` engine finds in a file: recorded replies and scores by what was asked. Rows are checked when they
are read, so that a wrong one is named before anything is answered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from localdistill.core.errors import InputError
from localdistill.core.records import Message, Status, TokenScores, TraceKind, content_id


@dataclass(frozen=True)
class Recording:
    """What a file holds, by `key_of` what was asked."""

    replies: dict[str, list[Mapping[str, Any]]]
    scores: dict[tuple[str, str, tuple[int, ...]], Mapping[str, Any]]
    """By that key, and the continuation as text or token ids."""


def scores_from_json(data: Mapping[str, Any], top: int) -> TokenScores:
    """Scores with the `top` likeliest tokens of those that were recorded. Raises KeyError, TypeError or ValueError when
    `data` does not hold them, or fewer than `top`."""
    ids, logprobs = tuple(map(int, data["ids"])), tuple(map(float, data["logprobs"]))
    top_ids = tuple(tuple(map(int, row))[:top] for row in data.get("top_ids") or [()] * len(ids))
    top_logprobs = tuple(tuple(map(float, row))[:top] for row in data.get("top_logprobs") or [()] * len(ids))
    if len({len(ids), len(logprobs), len(top_ids), len(top_logprobs)}) > 1:
        raise ValueError("the columns of log-probabilities are of different lengths")
    if any(len(row) < top for row in (*top_ids, *top_logprobs)):
        raise ValueError(f"it holds fewer than {top} of the likeliest tokens")
    return TokenScores(ids, logprobs, top_ids, top_logprobs)


def key_of(text: str | None, messages: Iterable[Message]) -> str:
    """By what a reply is looked up: the raw text, else the messages."""
    return content_id("messages", [[m.role, m.content] for m in messages]) if text is None else content_id("text", text)


def read_recording(path: Path) -> Recording:
    """What the file at `path` holds. Raises InputError that names the row."""
    recording = Recording({}, {})
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    _take_row(recording, line, f"{path}, row {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "check the path of the recording") from None
    return recording


def _take_row(recording: Recording, line: str, where: str) -> None:
    try:
        row = json.loads(line)
        key = key_of(row.get("text"), [Message(m["role"], m["content"]) for m in row["messages"]]
                      if "messages" in row else [Message("user", row["question"])] if "text" not in row else [])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where} is not a recorded reply: {error}", "needs `messages` or `question`") from None
    if "continuation" in row or "token_ids" in row:
        try:
            name = key, str(row.get("continuation") or ""), tuple(int(one) for one in row.get("token_ids") or ())
            scores_from_json(row["scores"], 0)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where} is no record of scores: {error}",
                             "needs `scores` with `ids` and `logprobs`, of one length") from None
        recording.scores[name] = row
        return
    if row.get("status", "complete") not in get_args(Status) or row.get("trace_kind", "raw") not in get_args(TraceKind):
        raise InputError(f"{where} has an unknown status or trace_kind", f"known: {', '.join(get_args(Status))}")
    if not any(isinstance(row.get(key), str) for key in ("answer", "raw")) and row.get("status") != "error":
        raise InputError(f"{where} has neither `answer` nor `raw`", "add the answer")
    recording.replies.setdefault(key, []).append(row)


