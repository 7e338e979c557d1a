"""Records to rows and back: the fields of a record and their types say what columns there are and how they are kept.
Text comes back exactly as it went in, also text that is no valid Unicode.

DuckDB and Arrow hold UTF-8 and nothing else, but model output and JSON files hold lone surrogates. Such a code point is
stored as U+FDD0 (a code point that means nothing in any text) and its four hex digits, and so is U+FDD0 itself.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from localdistill.core.messages import Message, is_beside, message_of, turn_key, turns_json
from localdistill.core.records import Fact, Prompt, Trace, Usage
from localdistill.store.raw_text import packed, unpacked

if TYPE_CHECKING:
    import pyarrow as pa

_MARK = "\ufdd0"
_UNSTORABLE = re.compile("[\ud800-\udfff\ufdd0]")
_MARKED = re.compile("\ufdd0([0-9a-f]{4})")


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


def _restored_text(text: str | None) -> str | None:
    return None if text is None else restored(text)


@dataclass(frozen=True)
class Kind:
    """How a field of one type is kept."""

    arrow: str
    """Type of the column, as `table` knows it."""
    store: Callable[[Any], Any]
    restore: Callable[[Any], Any]
    """What was stored; also of a row that is older than the column and holds NULL."""
    accepts: Callable[[object], bool]
    """Whether a value read from JSON can be stored."""
    dump: Callable[[Any], object] = lambda value: value
    """The value as JSON holds it."""
    load: Callable[[Any], Any] = lambda value: value
    """What was given to `dump`."""
    is_long: bool = False
    """Its texts may be long."""


def _json(value: object) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def is_text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def is_number(value: object) -> bool:
    """What a column of numbers takes."""
    return isinstance(value, float | bool) or _is_whole(value)


def _or_none(kind: Kind) -> Kind:
    """The same, or None."""
    return Kind(
        kind.arrow,
        lambda value: None if value is None else kind.store(value),
        lambda cell: None if cell is None else kind.restore(cell),
        lambda value: value is None or kind.accepts(value),
        lambda value: None if value is None else kind.dump(value),
        lambda value: None if value is None else kind.load(value),
        kind.is_long,
    )


def _are_messages(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(turn, dict) and [*turn][:2] == ["role", "content"] and is_text(turn["role"])
        and is_text(turn["content"]) and all(is_beside(name, one) for name, one in [*turn.items()][2:])
        for turn in value)


def _messages_cell(turns: Sequence[Message]) -> str:
    """The JSON of their keys; by far the most are two texts each, and for those that is made in half the time."""
    if any([turn.beside for turn in turns]):
        return _json([*map(turn_key, turns)])
    return storable(f"[{turns_json(turns)}]")


def _message(role: Any, content: str, beside: Mapping[str, Any] | None = None) -> Message:
    return message_of(role, content, beside) if beside else Message(role, content)


TEXT = Kind("string", storable, lambda cell: restored(cell or ""), is_text)
LONG_TEXT = replace(TEXT, is_long=True)
INTEGER = Kind("int64", lambda value: value, lambda cell: cell or 0, _is_whole)
FLAG = Kind("bool", lambda value: value, bool, lambda value: isinstance(value, bool))
NUMBER = Kind("double", float, lambda cell: cell or 0.0, is_number)
MAPPING = Kind("string", lambda value: _json(dict(value)) if value else "{}", lambda cell: json.loads(restored(cell)),
               lambda value: isinstance(value, dict), dict, is_long=True)
MESSAGES = Kind(
    "string",
    _messages_cell,
    lambda cell: tuple(_message(*turn) for turn in json.loads(restored(cell))),
    _are_messages,
    lambda value: [{"role": turn.role, "content": turn.content, **turn.beside} for turn in value],
    lambda value: tuple(_message(turn["role"], turn["content"], {
        name: one for name, one in turn.items() if name not in ("role", "content")}) for turn in value),
    is_long=True,
)
OBJECTS = Kind(
    "string", lambda value: _json(list(value)) if value else "[]",
    lambda cell: tuple(json.loads(restored(cell or "[]"))),
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value), list, tuple, is_long=True,
)
MOMENT = Kind("time", lambda value: value, lambda cell: cell, lambda value: False)
LABELS = Kind(
    "labels", lambda value: value, lambda cell: {restored(name): _restored_text(text) for name, text in cell.items()},
    lambda value: False, is_long=True,
)
"""Names and their values as text. Only read: a view makes them of what is stored."""
TEXTS = Kind("texts", lambda value: value, lambda cell: [restored(text) for text in cell or ()], lambda value: False)
"""Several texts. Only read, as the above."""
METRICS = Kind(
    "metrics", lambda value: [(storable(name), float(number)) for name, number in value.items()],
    lambda cell: {restored(name): number for name, number in dict(cell or ()).items()},
    lambda value: isinstance(value, dict) and all(map(is_number, value.values())), dict,
)
"""Names and numbers."""



_BY_TYPE: Mapping[Any, Kind] = {
    str: TEXT, int: INTEGER, float: NUMBER, bool: FLAG, tuple[Message, ...]: MESSAGES, Mapping[str, Any]: MAPPING,
    Mapping[str, float]: METRICS, tuple[Mapping[str, Any], ...]: OBJECTS,
}  # fmt: skip


def _kind_of(hint: Any) -> Kind:
    """How a field of this type is kept."""
    if typing.get_origin(hint) is typing.Literal:
        return TEXT
    if types.NoneType in (parts := typing.get_args(hint)):
        return _or_none(_kind_of(next(part for part in parts if part is not types.NoneType)))
    return _BY_TYPE[hint]


def _fields_of(record: type, *, long: Collection[str] = (), without: Collection[str] = ()) -> dict[str, Kind]:
    """Every field of a record, kept as its type says: a record is all that says which fields there are. long: whose
    texts may be."""
    return {name: replace(kind, is_long=True) if name in long else kind for name, hint in typing.get_type_hints(
        record).items() if name not in without for kind in [_kind_of(hint)]}


PROMPT_FIELDS = _fields_of(Prompt, long=("original",))
TRACE_FIELDS = _fields_of(Trace, long=("reasoning", "answer", "raw"), without=("usage",))
USAGE_FIELDS = _fields_of(Usage)
FACT_FIELDS = _fields_of(Fact, long=("reason", "extracted"), without=("value",))
"""Of a fact, without its value, which is a number or a text and has a column for each."""

USAGE_COLUMNS = {name: "usage_estimated" if name == "estimated" else name for name in USAGE_FIELDS}

PROMPT_TABLE: Mapping[str, Kind] = {"id": TEXT, **PROMPT_FIELDS, "question": LONG_TEXT, "created_at": MOMENT}
TRACE_TABLE: Mapping[str, Kind] = {
    **TRACE_FIELDS, **{USAGE_COLUMNS[name]: kind for name, kind in USAGE_FIELDS.items()}, "created_at": MOMENT,
}  # fmt: skip
FACT_COLUMN_OF = {name: "member" if name == "by" else name for name in FACT_FIELDS}
"""`by` is a word of SQL."""
FACT_TABLE: Mapping[str, Kind] = {
    **{FACT_COLUMN_OF[name]: kind for name, kind in FACT_FIELDS.items()},
    "number": _or_none(NUMBER), "text": _or_none(TEXT), "created_at": MOMENT,
}  # fmt: skip

PACKED = ("raw", "reasoning", "answer")
"""Fields of a trace of which the first is kept packed with the others (`store.raw_text`)."""

PROMPT_COLUMNS = (*PROMPT_FIELDS, "id")
TRACE_COLUMNS = tuple(name for name in TRACE_TABLE if name != "created_at")
FACT_COLUMNS = tuple(name for name in FACT_TABLE if name != "created_at")


def types_of(columns: Mapping[str, Kind]) -> dict[str, str]:
    """The type of each column, as `table` knows it."""
    return {name: kind.arrow for name, kind in columns.items()}


def moment(at: float | None = None) -> datetime:
    """A time in seconds since the epoch, or this moment, in UTC, as `created_at` columns hold it."""
    return (datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)).replace(tzinfo=None)


def _restored(cells: Sequence[object], columns: Mapping[str, Kind]) -> dict[str, Any]:
    return {name: kind.restore(cell) for (name, kind), cell in zip(columns.items(), cells, strict=True)}


def prompt_of(row: Sequence[object]) -> Prompt:
    """The prompt of the columns `PROMPT_COLUMNS`."""
    return named(Prompt(**_restored(row[:-1], PROMPT_FIELDS)), str(row[-1]))


def named(prompt: Prompt, identity: str) -> Prompt:
    """The prompt under the id that it is stored by."""
    prompt.__dict__["_id"] = identity  # what `Prompt.id` would compute: the stored name stays the name
    return prompt


def packed_raw(trace: Trace) -> str:
    """The raw text of a trace with marks in place of its reasoning and answer; worked out once."""
    known: str | None = trace.__dict__.get("_packed")
    if known is None:
        known = trace.__dict__["_packed"] = packed(trace.raw, trace.reasoning, trace.answer)
    return known


def trace_of_row(row: Sequence[object]) -> Trace:
    """The trace of the columns `TRACE_COLUMNS`."""
    own = len(TRACE_FIELDS)
    cells = dict(zip(TRACE_FIELDS, row[:own], strict=True))
    cells["raw"] = unpacked(*(str(cells[name] or "") for name in PACKED))
    return Trace(**_restored(list(cells.values()), TRACE_FIELDS), usage=Usage(**_restored(row[own:], USAGE_FIELDS)))


def restored_cells(names: Sequence[str], cells: Sequence[object]) -> dict[str, Any]:
    """What some columns of `TRACE_TABLE` held when they were stored."""
    return _restored(cells, {name: TRACE_TABLE[name] for name in names})


def fact_of(row: Sequence[Any]) -> Fact:
    """The fact of the columns `FACT_COLUMNS`."""
    *cells, number, text = row
    return Fact(**_restored(cells, FACT_FIELDS), value=number if text is None else restored(text))


def are_alike(values: Sequence[object]) -> bool:
    """Whether the values of a field are one and the same in all records, as those of most fields are. False also where
    that would take long to find out."""
    first = values[0]
    return values.count(first) == len(values) if isinstance(first, str) else len(set(map(id, values))) == 1


def table(rows: Iterable[Mapping[str, Any]], types: Mapping[str, str]) -> pa.Table:
    """An Arrow table of rows."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), pa.schema([(name, arrow_type(kind)) for name, kind in types.items()]))


@cache
def arrow_type(name: str) -> pa.DataType:
    """The type of a column, by the name that `Kind.arrow` has for it."""
    import pyarrow as pa

    return {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(),
            "time": pa.timestamp("us"), "labels": pa.map_(pa.string(), pa.string()), "texts": pa.list_(pa.string()),
            "metrics": pa.map_(pa.string(), pa.float64())}[name]  # fmt: skip
