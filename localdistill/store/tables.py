"""Prompts, traces and facts as Arrow tables, column by column, in which the database takes them in: no row is an object
of its own, and a column that says the same everywhere is made once. By rows it took five times as long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.store.raw_text import packed
from localdistill.store.rows import (
    FACT_COLUMN_OF,
    FACT_FIELDS,
    FACT_TABLE,
    LONG_TEXT,
    METRICS,
    PACKED,
    PROMPT_FIELDS,
    TEXT,
    TRACE_FIELDS,
    USAGE_COLUMNS,
    USAGE_FIELDS,
    Kind,
    are_alike,
    arrow_type,
    packed_raw,
    storable,
)

if TYPE_CHECKING:
    import pyarrow as pa

TIME = "created_at"


def prompt_table(prompts: Sequence[Prompt]) -> pa.Table:
    """The columns `PROMPT_TABLE` of prompts, but for the time."""
    return _table({"id": _column(TEXT, [one.id for one in prompts]), **_columns(prompts, PROMPT_FIELDS),
                   "question": _column(LONG_TEXT, [one.question for one in prompts])})


def trace_table(traces: Sequence[Trace]) -> pa.Table:
    """The columns `TRACE_TABLE` of traces, but for the time."""
    columns = _columns(traces, {name: kind for name, kind in TRACE_FIELDS.items() if name != PACKED[0]})
    raws = [_raw_cell(trace) if trace.raw else "" for trace in traces]
    usage = _columns([trace.usage for trace in traces], USAGE_FIELDS)
    return _table({**columns, PACKED[0]: _column(_CELLS, raws),
                   **{USAGE_COLUMNS[name]: cells for name, cells in usage.items()}})


def _raw_cell(trace: Trace) -> str:
    if all([getattr(trace, name).isascii() for name in PACKED]):  # nothing to escape
        return packed_raw(trace)
    cells = [storable(getattr(trace, name)) for name in PACKED]
    return packed_raw(trace) if all(cell is getattr(trace, name) for name, cell in zip(PACKED, cells)) else packed(
        *cells)


def fact_table(facts: Sequence[Fact], created: Sequence[datetime]) -> pa.Table:
    """The columns `FACT_TABLE` of facts that were said at these times."""
    values = [fact.value for fact in facts]
    columns = _columns(facts, FACT_FIELDS)
    return _table({
        **{FACT_COLUMN_OF[name]: cells for name, cells in columns.items()},
        "number": _column(FACT_TABLE["number"], [None if isinstance(one, str) else one for one in values]),
        "text": _column(FACT_TABLE["text"], [one if isinstance(one, str) else None for one in values]),
        TIME: _array(FACT_TABLE[TIME], created)})


def at_times(data: pa.Table, created: Sequence[datetime] | datetime) -> pa.Table:
    """The table with the time when each row, or all of them, were stored."""
    import pyarrow as pa

    kind = arrow_type(FACT_TABLE[TIME].arrow)
    cells = pa.repeat(pa.scalar(created, kind), len(data)) if isinstance(created, datetime) else pa.array(created, kind)
    return data.append_column(TIME, cells)


def with_numbers(data: pa.Table, name: str, numbers: Sequence[int | None]) -> pa.Table:
    """The table with a column of whole numbers."""
    import pyarrow as pa

    return data.append_column(name, pa.array(numbers, pa.int64()))


def size_of(record: Prompt | Trace | Fact) -> int:
    """About how many characters of text a record holds, without short names."""
    if isinstance(record, Trace):
        return len(record.reasoning) + len(record.answer) + len(record.raw) + _size_of_turns(record.asked or ()) + (
            len(str(record.tool_calls)) if record.tool_calls else 0)
    if isinstance(record, Prompt):
        return _size_of_turns(record.messages) + len(record.original or "") + (
            len(str(record.metadata)) if record.metadata else 0)
    return len(record.reason) + len(record.extracted)


def _size_of_turns(turns: Sequence[Message]) -> int:
    return sum([len(turn.counted) for turn in turns])


def require_storable(record: Prompt | Trace) -> None:
    """The errors of `json` for a record of which some part lies too deep to be stored."""
    for name, kind in (PROMPT_FIELDS if isinstance(record, Prompt) else TRACE_FIELDS).items():
        if (value := getattr(record, name)) and not isinstance(value, (str, int, float)):
            kind.store(value)


_CELLS = replace(TEXT, store=lambda cell: cell)
"""Texts that are as they are to be kept."""


def _columns(records: Sequence[object], fields: Mapping[str, Kind]) -> dict[str, pa.Array]:
    return {name: _column(kind, list(map(attrgetter(name), records))) for name, kind in fields.items()}


def _column(kind: Kind, values: list[Any]) -> pa.Array:
    """The cells of a column. Where all values are one and the same, which is so of most columns, that is stored once.
    """
    import pyarrow as pa

    first, many = values[0], len(values)
    is_one = are_alike(values)
    if is_one and kind.arrow != METRICS.arrow:
        return pa.repeat(pa.scalar(kind.store(first), arrow_type(kind.arrow)), many)
    return _array(kind, [kind.store(first)] * many if is_one else list(map(kind.store, values)))


def _array(kind: Kind, cells: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(cells, arrow_type(kind.arrow))


def _table(columns: Mapping[str, pa.Array]) -> pa.Table:
    import pyarrow as pa

    return pa.table(dict(columns))
