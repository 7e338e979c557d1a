"""Traces with their prompts and verdicts by place, as a stream for whoever takes them out of the store: what is held at
once does not grow with the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from localdistill.core.borders import BORDERS
from localdistill.core.records import FactScope, Prompt, Trace
from localdistill.store.columns import verdicts_sql
from localdistill.store.pages import rows_at
from localdistill.store.reading import pick, rows_query, sweep
from localdistill.store.rows import PROMPT_COLUMNS, TRACE_COLUMNS, prompt_of, trace_of_row
from localdistill.store.session import Sessions

TEXT_AT_ONCE = 4 << 20
"""Characters of traces that are held at once, about."""
FEWEST, MOST = 16, 2048
"""Traces that are fetched together."""


@dataclass(frozen=True, slots=True)
class TakenOut:
    """One trace as it is stored."""

    prompt: Prompt | None
    """None where it is not stored."""
    trace: Trace
    right: bool | None
    """What is decided of it; None where nobody did."""
    facts: int
    """How many things are said of it beside verdicts."""


def stored_at(sessions: Sessions, places: Sequence[int], scope: FactScope | None = None) -> Iterator[TakenOut]:
    """The traces at these places, in that order; places that are gone are left out. As many are fetched together as
    hold little text."""
    start, many = 0, 64
    while start < len(places):
        chunk = list(places[start:start + many])
        start += len(chunk)
        found = {row[0]: row[1:] for row in pick(sessions, chunk, rows_query("traces", ["prompt_seq", *TRACE_COLUMNS]))}
        rows = [(seq, found[seq][0], trace_of_row(found[seq][1:])) for seq in chunk if seq in found]
        held = sum(len(one.reasoning) + len(one.answer) + len(one.raw) for _, _, one in rows)
        wanted = sorted({place for _, place, _ in rows if place is not None})
        prompts = {row[0]: prompt_of(row[1:]) for row in pick(sessions, wanted, rows_query("prompts", PROMPT_COLUMNS))}
        verdicts, facts = _said(sessions, chunk, scope)
        yield from (TakenOut(prompts.get(place), trace, verdicts.get(seq), facts.get(seq, 0))
                    for seq, place, trace in rows)
        many = max(FEWEST, min(MOST, 2 * many, int(many * TEXT_AT_ONCE / max(1, held))))


def prompts_of(sessions: Sessions, places: Sequence[int] | None = None) -> Iterator[Prompt]:
    """The prompts of the traces at these places, or all that are stored, each once."""
    if places is None:
        for row in sweep(sessions, "prompts", rows_query("prompts", PROMPT_COLUMNS), BORDERS.span_rows):
            yield prompt_of(row[1:])
        return
    seen = set[int]()
    for start in range(0, len(places), BORDERS.lookup_ids):
        rows = pick(sessions, list(places[start:start + BORDERS.lookup_ids]), rows_query("traces", ["prompt_seq"]))
        new = sorted({place for _, place in rows if place is not None} - seen)
        seen.update(new)
        for begin in range(0, len(new), BORDERS.prompts_taken_out):
            some = new[begin:begin + BORDERS.prompts_taken_out]
            for row in pick(sessions, some, rows_query("prompts", PROMPT_COLUMNS)):
                yield prompt_of(row[1:])


def _said(sessions: Sessions, places: Sequence[int],
          scope: FactScope | None) -> tuple[dict[int, bool], dict[int, int]]:
    where = "facts WHERE trace_seq BETWEEN $low AND $high AND trace_seq IN (SELECT unnest($wanted::BIGINT[]))"
    counted = f"SELECT trace_seq, count(*) FROM {where} AND kind <> 'published' GROUP BY trace_seq"
    verdicts, counts = sessions.run(lambda con: (
        rows_at(con, verdicts_sql("trace_seq", where, scope), places), rows_at(con, counted, places)))
    return {seq: right for seq, right in verdicts if right is not None}, dict(counts)
