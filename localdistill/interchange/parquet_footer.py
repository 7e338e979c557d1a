"""A strict reader of Parquet footers: proves that a file's counts, places and sizes fit before native code sees it. The
library ends the process on some footers that lie, and believes others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

MOST_FOOTER_BYTES = 8 << 20
MOST_COLUMNS = 10_000
_MOST_DEPTH = 32
_REPEATED, _BYTE_ARRAY = 2, 6
Table = dict[int, Any]
"""A thrift struct: values by the numbers of their fields."""


class Damaged(Exception):
    """What is wrong with the file."""


@dataclass(frozen=True)
class Chunk:
    """The pages of one column in one row group, as the footer places them."""

    name: str
    start: int
    size: int
    unpacked: int
    values: int
    codec: int
    """The number of the packing; 0 is none."""
    most_repetition: int
    """How many lists its values lie in."""
    is_text: bool


@dataclass(frozen=True)
class RowGroup:
    """Rows that lie together."""

    rows: int
    columns: tuple[Chunk, ...]


def row_groups(raw: IO[bytes]) -> Sequence[RowGroup]:
    """What the footer of `raw` says, proven to lie inside the file. Raises Damaged."""
    size = raw.seek(0, os.SEEK_END)
    raw.seek(max(0, size - 8))
    tail = raw.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or length > size - 12:
        raise Damaged("its last bytes are not those of a parquet file")
    if length > MOST_FOOTER_BYTES:
        raise Damaged(f"its footer takes {length:,} bytes; {MOST_FOOTER_BYTES:,} are taken")
    raw.seek(size - 8 - length)
    try:
        footer = ThriftReader(raw.read(length)).struct()
    except IndexError:
        raise Damaged("its footer is cut off or damaged") from None
    leaves = list(_leaves(footer))
    if len(leaves) > MOST_COLUMNS:
        raise Damaged(f"it has {len(leaves):,} columns; {MOST_COLUMNS:,} are taken")
    groups = [_group(group, leaves, size - 8 - length) for group in _tables(footer, 4)]
    if sum(group.rows for group in groups) != number_at(footer, 3):
        raise Damaged(f"its groups hold {sum(group.rows for group in groups):,} rows and it says "
                      f"{number_at(footer, 3):,}")
    return groups


def _leaves(footer: Table) -> Iterator[tuple[int, bool]]:
    """Of every column, in how many lists its values lie and whether they are text."""
    elements = _tables(footer, 2)
    open_children, levels = [1], [0]
    for place, element in enumerate(elements):
        while open_children and not open_children[-1]:
            open_children.pop()
            levels.pop()
        if not open_children or len(levels) > _MOST_DEPTH:
            raise Damaged("its columns are nested in a way that cannot be")
        open_children[-1] -= 1
        level = levels[-1] + (place > 0 and element.get(3) == _REPEATED)
        children = element.get(5, 0)
        if not isinstance(children, int) or not 0 <= children < len(elements):
            raise Damaged("its columns are nested in a way that cannot be")
        if children or not place:
            open_children.append(children)
            levels.append(level)
        else:
            yield level, element.get(1) == _BYTE_ARRAY
    if any(open_children):
        raise Damaged("some of its columns are not described")


def _group(group: Table, leaves: Sequence[tuple[int, bool]], size: int) -> RowGroup:
    columns = _tables(group, 1)
    rows = number_at(group, 3)
    if len(columns) != len(leaves) or rows < 0:
        raise Damaged(f"a group of rows has {len(columns):,} columns, and the file {len(leaves):,}")
    return RowGroup(rows, tuple(_chunk(column, *leaf, rows, size) for column, leaf in zip(columns, leaves)))


def _chunk(column: Table, most_repetition: int, is_text: bool, rows: int, size: int) -> Chunk:
    said = column.get(3)
    if not isinstance(said, dict) or column.get(1):
        raise Damaged("a column lies in another file, or nowhere")
    names = said.get(3)
    name = b".".join(one for one in names if isinstance(one, bytes)).decode("utf-8", "replace")[:80] if isinstance(
        names, list) else ""
    starts = [said[field] for field in (9, 11) if isinstance(said.get(field), int) and said[field]]
    start, length, values = min(starts, default=0), number_at(said, 7), number_at(said, 5)
    if start < 4 or length < 0 or start + length > size:
        raise Damaged(f"the column '{name}' lies beyond the file")
    if values < 0 or (not most_repetition and values != rows):
        raise Damaged(f"the column '{name}' holds {values:,} values for {rows:,} rows")
    return Chunk(name, start, length, number_at(said, 6), values, number_at(said, 4), most_repetition, is_text)


def _tables(table: Table, field: int) -> list[Table]:
    found = table.get(field)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Damaged("its footer lacks a list")
    return found


def number_at(table: Table, field: int) -> int:
    """The number that a struct holds in a field. Raises Damaged when there is none."""
    value = table.get(field)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Damaged("a header in it lacks a number")
    return value


class ThriftReader:
    """Reads the compact protocol of thrift. Raises IndexError at the end of the data, and Damaged."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self._data) - self.at:
            raise IndexError
        self.at += count
        return self._data[self.at - count:self.at]

    def varint(self) -> int:
        """A whole number of at most 64 bits."""
        value = shift = 0
        while shift < 70:
            byte = self._data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise Damaged("it holds a number that never ends")

    def struct(self, depth: int = 0) -> Table:
        """A struct."""
        if depth > _MOST_DEPTH:
            raise Damaged("a header in it is nested too deeply")
        found: Table = {}
        field = 0
        while head := self.take(1)[0]:
            field = field + (head >> 4) if head >> 4 else self._signed()
            found[field] = (head & 15) == 1 if head & 15 in (1, 2) else self._value(head & 15, depth)
        return found

    def _signed(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 12:
            return self.struct(depth + 1)
        if kind == 8:
            return self.take(self.varint())
        if kind in (1, 2, 3, 7):
            return self.take(8 if kind == 7 else 1)
        if kind in (9, 10):
            return self._list(depth + 1)
        raise Damaged(f"a header in it holds a value of the kind {kind}")

    def _list(self, depth: int) -> list[Any]:
        if depth > _MOST_DEPTH:
            raise Damaged("a header in it is nested too deeply")
        head = self.take(1)[0]
        count = head >> 4 if head >> 4 < 15 else self.varint()
        if count > len(self._data) - self.at:
            raise Damaged("a list in it says that it is longer than the file")
        return [self._value(head & 15, depth) for _ in range(count)]
