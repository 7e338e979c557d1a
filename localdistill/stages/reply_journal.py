"""Replies of one contestant to the items of a task, on disk as they come, in the folder where its answers are made: a
measurement that was killed asks only for what was in flight. Judges nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from localdistill.core.records import Reply
from localdistill.safety.journal import JournalWriter, read
from localdistill.store.replies import reply_of


class ReplyJournal:
    """Who answered comes first in the file; what anybody else said is not taken."""

    def __init__(self, path: Path, engine: str, model: str) -> None:
        self._path, self._who = path, {"engine": engine, "model": model}
        self._writer: JournalWriter | None = None

    def known(self, wanted: Collection[str]) -> dict[str, Reply]:
        """The replies that are there, by their ids, of those that are `wanted`."""
        found: dict[str, Reply] = {}
        same = False
        for record, _ in read(self._path):
            if "who" in record:
                same = record["who"] == self._who
            elif same:
                try:
                    reply = reply_of(record["reply"])
                except (KeyError, TypeError, ValueError):
                    continue  # written by another version: it is asked again
                if reply.request_id in wanted:
                    found[reply.request_id] = reply
        return found

    def keep(self, reply: Reply) -> None:
        """`reply` is on disk when this returns. One that is an error is left out: it is asked for again."""
        if reply.status == "error":
            return
        if self._writer is None:
            self._writer = JournalWriter(self._path)
            self._writer.append({"who": self._who})
        self._writer.append({"reply": asdict(reply)})
        self._writer.sync()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
