"""What the `replay` engine finds in a file: recorded replies and scores by what was asked. Rows are all checked before
anything is answered, one at a time, and stay in the file: only where they lie is held."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, get_args

from localdistill.core.errors import InputError, ModelFileError
from localdistill.core.messages import turn_key
from localdistill.core.records import Message, Status, TokenScores, TraceKind, content_id
from localdistill.safety.bounded_json import Bounds, table_of

_ROW = Bounds(8 << 20, 1_000_000)
"""Of one row: what rows of other files may hold too."""
_Place = tuple[int, int]
"""Where a row begins in its file, and its number."""


def _version_of(file: IO[bytes]) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


class Recording:
    """What a file holds, by `key_of` what was asked."""

    def __init__(self, path: Path) -> None:
        """Read and check all of it. Raises InputError that names the row."""
        self._path = path
        self._replies: dict[str, list[_Place]] = {}
        self._scores: dict[tuple[str, str, tuple[int, ...]], _Place] = {}
        with self._opened() as file:
            self._version = _version_of(file)
            self._find_rows(file)

    def replies(self, key: str) -> int:
        """How many replies are recorded of what was asked."""
        return len(self._replies.get(key, ()))

    def reply(self, key: str, number: int) -> Mapping[str, Any]:
        """One of them, from 0, in the order of the file."""
        return self._row(self._replies[key][number])

    def scores(self, key: str, continuation: str, token_ids: tuple[int, ...]) -> Mapping[str, Any] | None:
        """What is recorded of a continuation, as text or token ids, of what was asked."""
        place = self._scores.get((key, continuation, token_ids))
        return None if place is None else self._row(place)

    def _find_rows(self, file: IO[bytes]) -> None:
        number = begins = 0
        while line := file.readline(_ROW.size_bytes + 1):
            number += 1
            if line.strip() and (number > 1 or line.strip() != codecs.BOM_UTF8):
                self._take_row(self._decoded(line, number), (begins, number))
            begins += len(line)

    def _row(self, place: _Place) -> Mapping[str, Any]:
        with self._opened() as file:
            if _version_of(file) != self._version:
                raise InputError(f"{self._path} was changed while it was in use", "start again")
            file.seek(place[0])
            return self._decoded(file.readline(_ROW.size_bytes + 1), place[1])

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            if self._path.exists() and not self._path.is_file():
                raise InputError(f"{self._path} is not a file", "check the path of the recording")
            with self._path.open("rb") as file:
                yield file
        except (OSError, ValueError) as error:
            raise InputError(f"{self._path} cannot be read: {getattr(error, 'strerror', None) or error}",
                             "check the path of the recording") from None

    def _decoded(self, line: bytes, number: int) -> dict[str, Any]:
        where = f"{self._path}, row {number}"
        if len(line) > _ROW.size_bytes:
            raise InputError(f"{where} is longer than {_ROW.size_bytes:,} bytes", "leave it out")
        try:
            return table_of(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, where, _ROW)
        except ModelFileError as error:
            raise InputError(f"{error.message}, so it is not a recorded reply", "needs `messages` or `question`") \
                from None

    def _take_row(self, row: Mapping[str, Any], place: _Place) -> None:
        where = f"{self._path}, row {place[1]}"
        try:
            key = key_of(row.get("text"), [Message(m["role"], m["content"]) for m in row["messages"]]
                         if "messages" in row else [Message("user", row["question"])] if "text" not in row else [])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{where} is not a recorded reply: {error}", "needs `messages` or `question`") from None
        if "continuation" in row or "token_ids" in row:
            try:
                name = key, str(row.get("continuation") or ""), tuple(int(one) for one in row.get("token_ids") or ())
                scores_from_json(row["scores"], 0)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise InputError(f"{where} is no record of scores: {error}",
                                 "needs `scores` with `ids` and `logprobs`, of one length") from None
            self._scores[name] = place
            return
        if row.get("status", "complete") not in get_args(Status) or row.get("trace_kind", "raw") not in get_args(
                TraceKind):
            raise InputError(f"{where} has an unknown status or trace_kind", f"known: {', '.join(get_args(Status))}")
        if not any(isinstance(row.get(key), str) for key in ("answer", "raw")) and row.get("status") != "error":
            raise InputError(f"{where} has neither `answer` nor `raw`", "add the answer")
        self._replies.setdefault(key, []).append(place)


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
    return content_id("messages", [*map(turn_key, messages)]) if text is None else content_id("text", text)
