"""Prompts as lines of a table: the ordered row numbers of those that a view shows, and short rows of some of them."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localdistill.store.pages import EXCERPT_CHARS, rows_at
from localdistill.store.reading import sweep
from localdistill.store.rows import restored, storable
from localdistill.store.session import Sessions

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_IS_MADE = "contains(metadata, '\"made_by\"')"
_ROWS = f"""
    SELECT p.seq, p.id, left(p.question, {EXCERPT_CHARS}), p.source, p.licence, p.reference IS NOT NULL,
           coalesce(t.answers, 0), CASE WHEN {_IS_MADE} THEN p.metadata END
    FROM (SELECT * FROM prompts WHERE seq BETWEEN $low AND $high AND seq IN (SELECT unnest($wanted::BIGINT[]))) p
    LEFT JOIN (SELECT prompt_seq, count(*) AS answers FROM traces WHERE prompt_seq BETWEEN $low AND $high
               GROUP BY prompt_seq) t ON t.prompt_seq = p.seq"""


ANY_SOURCE = "*"


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt as a line of a table."""

    seq: int
    id: str
    question: str
    """The first characters of the last user turn; what a stranger wrote is not safe for a terminal."""
    source: str
    licence: str
    has_reference: bool
    answers: int
    """Stored traces."""
    made_by: str = ""
    """What made it, and in which version, where an augmentation did."""
    made_from: tuple[str, ...] = ()
    """Ids of the prompts that it was made from, or of a piece of a document."""
    document: str = ""
    """The document that it was made from, with the number of the piece."""


def prompt_places(sessions: Sessions, answered: bool | None = None, source: str = "", search: str = "",
                  made: bool | None = None) -> Iterator[array[int]]:
    """The `seq` of the prompts that have a stored trace, or have none (None: both), come from `source`, hold the text
    in any case, and were made by an augmentation, or were not (None: both), in stored order, in pieces as they are
    found."""
    has = "seq IN (SELECT prompt_seq FROM traces WHERE prompt_seq BETWEEN $low AND $high)"
    asked = {"source = $source": storable(source), "contains(lower(question), lower($search))": storable(search)}
    conditions = ["seq BETWEEN $low AND $high", *(condition for condition, text in asked.items() if text)]
    conditions += [] if answered is None else [has if answered else f"NOT {has}"]
    conditions += [] if made is None else [_IS_MADE if made else f"NOT coalesce({_IS_MADE}, false)"]
    values = {name: text for name, text in zip(("source", "search"), asked.values(), strict=True) if text}

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[array[int]]:
        rows = con.execute(f"SELECT seq FROM prompts WHERE {' AND '.join(conditions)} ORDER BY seq",
                           {"low": low, "high": high, **values}).fetchall()
        return [array("q", [row[0] for row in rows])] if rows else []

    yield from sweep(sessions, "prompts", query)


def prompt_ids(sessions: Sessions, sources: Sequence[str]) -> Iterator[str]:
    """Ids of the prompts that come from one of these sources, from any with `*`, in stored order, but for those that an
    augmentation made."""
    is_from = "" if ANY_SOURCE in sources else "AND source IN (SELECT unnest($sources::VARCHAR[]))"
    values = {} if ANY_SOURCE in sources else {"sources": [*map(storable, sources)]}

    def query(con: DuckDBPyConnection, low: int, high: int, among: list[int] | None) -> list[str]:
        return [row[0] for row in con.execute(
            f"SELECT id FROM prompts WHERE seq BETWEEN $low AND $high AND NOT coalesce({_IS_MADE}, false) {is_from} "
            "ORDER BY seq", {"low": low, "high": high, **values}).fetchall()]

    return sweep(sessions, "prompts", query)


def prompt_rows(sessions: Sessions, places: Sequence[int]) -> list[PromptRow]:
    """The prompts at these places, in that order; places that are gone are left out."""
    found = {}
    for seq, *texts, has_reference, answers, metadata in sessions.run(lambda con: rows_at(con, _ROWS, places)):
        identity, question, source, licence = (restored(text or "") for text in texts)
        found[seq] = PromptRow(seq, identity, question, source, licence, has_reference, answers, *_lineage(metadata))
    return [found[place] for place in places if place in found]


def _lineage(metadata: str | None) -> tuple[str, tuple[str, ...], str]:
    """What made a prompt, of what, and of which document; nothing where its metadata only look like it."""
    try:
        said = json.loads(restored(metadata or "{}"))
    except ValueError:
        return "", (), ""
    made_from, document = said.get("made_from"), said.get("document")
    if not isinstance(said.get("made_by"), str) or not isinstance(made_from, list):
        return "", (), ""
    return said["made_by"], tuple(map(str, made_from)), f"{document} {said.get('chunk', '')}" if document else ""
