"""What the pages of a Parquet file can unfold to, found out from their headers before a library builds anything: a
page may say that it holds two gigabytes, a dictionary may repeat one long text for every row, and a row may hold any
number of values. Reads headers, dictionaries and, where rows hold lists, the levels that tell where each begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from localdistill.core.borders import BORDERS
from localdistill.interchange.parquet_footer import Chunk, Damaged, Table, ThriftReader, number_at
from localdistill.interchange.unpacking import Unfolding

MOST_PAGE_BYTES = 128 << 20
"""What one page may unfold to; tools write pages of 1 MB, some of 100 MB."""
VALUE_BYTES = 8
"""What a value counts at least, also one that is not there."""
_MOST_HEADER_BYTES = 16 << 20
_HEADER_BYTES = 4096
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_BY_DICTIONARY, _BY_PREFIX = (2, 8), (7,)
_CODECS = {1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_UNPACKED = 0


@dataclass(frozen=True, slots=True)
class ValuePage:
    """What a page of values can become."""

    rows: int
    """Rows that begin in it."""
    values: int
    size: int
    """Bytes of its values as they lie in it."""
    longest: int = 0
    """Bytes of the longest value, where values lie elsewhere than in it; else 0."""
    row_values: int = 1
    """Values of one row at most."""

    def held(self, rows: int) -> int:
        """Bytes that so many of its rows take at most."""
        values = min(self.values, rows * self.row_values)
        return values * max(self.longest, VALUE_BYTES) + (0 if self.longest else self.size)


def rows_at_once(columns: Sequence[Sequence[ValuePage]], budget: int) -> int:
    """How many rows of these columns may be held together so that they take at most `budget` bytes; at least 1."""
    rows = BORDERS.parquet_rows
    while rows > 1 and sum(_held(pages, rows) for pages in columns) > budget:
        rows //= 4
    return max(1, rows)


def _held(pages: Sequence[ValuePage], rows: int) -> int:
    """Bytes that any `rows` rows one behind the other take at most."""
    most = total = begun = first = 0
    for place, page in enumerate(pages):
        total += page.held(rows)
        begun += page.rows
        while first < place and begun - pages[first].rows - page.rows >= rows:
            total -= pages[first].held(rows)
            begun -= pages[first].rows
            first += 1
        most = max(most, total)
    return most


def pages_of(file: IO[bytes], chunk: Chunk, watch: Unfolding, budget: int) -> list[ValuePage]:
    """The pages of a column. Where rows begin in a column of lists is found out when all of it, or one page, can become
    more than `budget` bytes. Raises Damaged, and InputError for what unfolds to too much."""
    found: list[ValuePage] = []
    longest = values = 0
    for header, body_at in _headers(file, chunk):
        size, packed = number_at(header, 2), number_at(header, 3)
        if not 0 <= size <= MOST_PAGE_BYTES:
            raise Damaged(f"a page of the column '{chunk.name}' says that it unfolds to {size:,} bytes")
        if chunk.codec == _UNPACKED and size != packed:
            raise Damaged(f"a page of the column '{chunk.name}' says two sizes")
        watch.grown(size)
        if header[1] == _DICTIONARY:
            if chunk.is_text:
                longest = _longest_text(_body(file, body_at, packed, size, chunk.codec))
            continue
        if header[1] not in (_DATA, _DATA_V2):
            continue
        inner = header.get(5 if header[1] == _DATA else 8)
        if not isinstance(inner, dict) or (count := number_at(inner, 1)) < 0:
            raise Damaged(f"a page of the column '{chunk.name}' does not say how many values it holds")
        values += count
        watch.grown(count * VALUE_BYTES)
        coding = number_at(inner, 2 if header[1] == _DATA else 4)
        each = longest if coding in _BY_DICTIONARY else size if coding in _BY_PREFIX else 0
        rows, row_values = count, 1
        if chunk.most_repetition:
            rows, row_values = 0, count
            if chunk.unpacked > budget or each * count > budget:
                levels = (_at(file, body_at, min(number_at(inner, 6), packed)) if header[1] == _DATA_V2 else
                          _behind_length(_body(file, body_at, packed, size, chunk.codec)))
                rows, row_values = _rows_in(levels, count, chunk.most_repetition.bit_length())
        found.append(ValuePage(rows, count, size, each, row_values))
        if values >= chunk.values:
            break
    if values != chunk.values:
        raise Damaged(f"the column '{chunk.name}' holds {values:,} values and says {chunk.values:,}")
    return found


def _headers(file: IO[bytes], chunk: Chunk) -> Iterator[tuple[Table, int]]:
    """Each page's header, and where its body begins."""
    at, end = chunk.start, chunk.start + chunk.size
    while at < end:
        header, length = _header_at(file, at, end)
        packed = number_at(header, 3)
        if packed < 0 or at + length + packed > end:
            raise Damaged(f"a page of the column '{chunk.name}' reaches beyond its column")
        yield header, at + length
        at += length + packed


def _header_at(file: IO[bytes], at: int, end: int) -> tuple[Table, int]:
    size = _HEADER_BYTES
    while True:
        file.seek(at)
        data = file.read(min(size, end - at))
        try:
            reader = ThriftReader(data)
            return reader.struct(), reader.at
        except IndexError as error:
            if len(data) < size or size >= _MOST_HEADER_BYTES:
                raise Damaged("the header of a page is cut off or damaged") from error
            size *= 16


def _at(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(max(0, count))


def _behind_length(data: bytes) -> bytes:
    return data[4:4 + int.from_bytes(data[:4], "little")]


def _body(file: IO[bytes], at: int, packed: int, size: int, codec: int) -> bytes:
    """A page's bytes, unpacked; at most `size` of them."""
    import pyarrow as pa

    data = _at(file, at, packed)
    if codec == _UNPACKED:
        return data
    if codec not in _CODECS:
        raise Damaged(f"a page is packed in the way {codec}, which is not read")
    try:
        return bytes(pa.decompress(data, decompressed_size=size, codec=_CODECS[codec], asbytes=True))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged("a page cannot be unpacked") from error


def _longest_text(data: bytes) -> int:
    """The longest of the texts that lie in `data` one behind the other, each behind its length."""
    longest = at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at:at + 4], "little")
        longest = max(longest, length)
        at += 4 + length
    return min(longest, len(data))


def _rows_in(data: bytes, count: int, width: int) -> tuple[int, int]:
    """How many rows begin among `count` values, and how many values one of them has at most, by the levels of
    repetition in a page: runs of equal levels, or levels of `width` bits side by side."""
    levels = ThriftReader(data)
    starts = seen = longest = run = 0
    try:
        while seen < count:
            head = levels.varint()
            number = (head >> 1) * (8 if head & 1 else 1)
            size = (head >> 1) * width if head & 1 else (width + 7) // 8
            packed = int.from_bytes(levels.take(size), "little")
            number = min(number, count - seen)
            seen += number
            if head & 1:
                marks = _marks(packed, number, width).split("0")  # what stands between two beginnings
                starts += len(marks) - 1
                run += len(marks[0])
                if len(marks) > 1:
                    longest, run = max(longest, run, *(1 + len(mark) for mark in marks[1:])), 1 + len(marks[-1])
            elif packed:
                run += number
            elif number:
                starts, longest, run = starts + number, max(longest, run), 1
            longest = max(longest, run)
    except IndexError as error:
        raise Damaged("a page holds too few levels") from error
    return starts, longest


def _marks(packed: int, number: int, width: int) -> str:
    """`0` for each of `number` levels of `width` bits that is 0, `1` for others."""
    merged = packed
    for shift in range(1, width):
        merged |= packed >> shift
    return f"{merged:0{number * width}b}"[::-1][::width][:number]
