"""Opens files of prompts and traces, finds out their layout, and names the exact row that cannot be used.

Reads JSON arrays, JSON lines (plain or gzip) and parquet, row by row: a file is never held in memory. Text must be
UTF-8 (a byte order mark is fine); surrogates that stand alone in JSON escapes become U+FFFD, because no store could
hold them. Knows no layout beyond the family's table.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError
from localdistill.core.records import Prompt
from localdistill.interchange import LAYOUTS
from localdistill.interchange.base import Imported, Layout, Rows
from localdistill.interchange.columns import ColumnsLayout, guess, is_usual
from localdistill.interchange.known_sets import ColumnMap, known_set
from localdistill.interchange.rows import Row, RowPlace

MAX_ROW_CHARS = 32 * 1024 * 1024
"""Longest row that is read, in characters (bytes for JSON lines)."""
_SAMPLE_ROWS = 5
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


@dataclass
class FileReading:
    """How the reading of a file goes; rows that cannot be used are listed here and passed over."""

    rows: int = 0
    """That could be used."""
    left_out: int = 0
    examples: list[str] = field(default_factory=list)
    """Why rows were left out: the first of each kind, with their numbers."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many rows were left out by reason."""
    unused: Counter[str] = field(default_factory=Counter)
    """Columns that held something that nothing was made of, with in how many rows."""

    def leave(self, error: InputError) -> None:
        """Count a row that `error` is about."""
        reason = error.message.split(": ", 1)[-1]
        self.left_out += 1
        if reason not in self.reasons:
            self.examples.append(error.message)
        self.reasons[reason] += 1


def read_file(path: Path | str, layout: str | None = None, columns: ColumnMap | None = None,
              reading: FileReading | None = None) -> Iterator[tuple[int, Imported]]:
    """Number (line of a JSON-lines file, else position, both from 1) and content of every row, lazily.

    `layout` None detects it. `columns` says which column holds what, in place of a layout. With `reading`, rows that
    cannot be used are counted there and passed over. Raises InputError naming file and row, UsageError for an unknown
    layout name.
    """
    path = Path(path)
    reader: Layout = LAYOUTS.load(layout or detect(path))() if columns is None else ColumnsLayout(columns)
    name = path.name
    for number, values in rows_of(path):
        row = Row(values)
        try:
            item = reader.read(row, number, name)
        except InputError as error:
            if reading is None:
                raise
            reading.leave(error)
            continue
        if reading is not None:
            reading.rows += 1
            reading.unused.update(row.unused())
        yield number, item


def read_prompts(path: Path, layout: str | None = None) -> Iterator[Prompt]:
    """The prompts of a file alone, in order: what tasks are given to read their items with."""
    return (row.prompt for _, row in read_file(path, layout))


def preview(path: Path | str, count: int = 3, layout: str | None = None) -> list[tuple[int, Imported]]:
    """The first `count` rows as `read_file` gives them."""
    return list(islice(read_file(path, layout), count))


@dataclass(frozen=True)
class Likeness:
    """What the first rows of a file look like."""

    layout: str
    columns: ColumnMap | None = None
    """Which column holds what, where that is not fixed by the layout."""
    is_guess: bool = False
    """Some column could as well hold something else."""

    def require_sure(self, path: Path) -> str:
        """The layout; InputError with what to say where it is a guess."""
        if self.is_guess and self.columns is not None:
            raise InputError(
                f"{path.name}: which column holds what is only a guess: {self.columns.said()}",
                f"when that is right, say it: --map {self.columns.stated()} (in a recipe: columns = {{...}}, or "
                "layout = \"columns\")")
        return self.layout


def detect(path: Path | str) -> str:
    """The name of the layout. Raises InputError as `looks_like` does, and where columns could only be guessed."""
    return looks_like(path).require_sure(Path(path))


def looks_like(path: Path | str) -> Likeness:
    """The first layout of the family's table that recognises most of the first rows: a few may be such that cannot be
    used. Raises InputError that lists the keys seen when there is none."""
    path = Path(path)
    sample = [row for _, row in islice(rows_of(path), _SAMPLE_ROWS)]
    if not sample:
        raise InputError(f"{path.name} holds no rows", "give a file with at least one row")
    for name in LAYOUTS.members:
        layout: Layout = LAYOUTS.load(name)()
        if 2 * sum(layout.recognises(row) for row in sample) > len(sample):
            return Likeness(name) if name != ColumnsLayout.name else _columns(sample)
    keys = sorted({str(key) for row in sample for key in row})
    raise InputError(f"{path.name} has no known layout; keys seen: {', '.join(keys[:30]) or 'none'}",
                     "name the columns: --map question=COLUMN answer=COLUMN reasoning=COLUMN reference=COLUMN")


def _columns(sample: Sequence[Mapping[str, Any]]) -> Likeness:
    for row in sample:
        if (known := known_set(row)) is not None:
            return Likeness(ColumnsLayout.name, known.columns)
    guessed = next(found for row in sample if (found := guess(row)) is not None)
    return Likeness(ColumnsLayout.name, guessed, is_guess=not is_usual(guessed))


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write `rows` as JSON lines (gzip when the name ends in .gz), complete or not at all; their number."""
    partial = path.with_name(path.name + ".partial")
    count = 0
    with gzip.open(partial, "wb") if path.suffix == ".gz" else partial.open("wb") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
            count += 1
    partial.replace(path)
    return count


def rows_of(path: Path) -> Rows:
    """The raw rows of a file with their numbers. Raises InputError for anything that is not a row of JSON objects."""
    if not path.is_file():
        raise InputError(f"there is no file {path}", "check the path")
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    return _json_rows(path)


def _json_rows(path: Path) -> Rows:
    number = 0
    try:
        with cast("IO[bytes]", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as file:
            is_array = _first_byte(file) == b"["
            for number, value in _array(file, path) if is_array else _lines(file, path):
                if not isinstance(value, dict):
                    raise RowPlace(path.name, number).error("is not a JSON object")
                yield number, value
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        place = RowPlace(path.name, number + 1)
        raise place.error(f"the file cannot be read ({error})", "get the file again") from error


def _first_byte(file: IO[bytes]) -> bytes:
    """The first byte that is neither space nor byte order mark; the file is rewound to after the mark."""
    begin = len(codecs.BOM_UTF8)
    if file.read(begin) != codecs.BOM_UTF8:
        begin = 0
        file.seek(0)
    while (piece := file.read(BORDERS.file_bytes)) and not piece.strip():
        pass
    file.seek(begin)
    return piece.strip()[:1]


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, Any]]:
    number, name = 0, path.name
    while line := file.readline(MAX_ROW_CHARS + 1):
        number += 1
        if len(line) > MAX_ROW_CHARS:
            raise RowPlace(name, number).error(f"is longer than {MAX_ROW_CHARS} bytes")
        if line.strip():
            try:
                value = _decoded(line)
            except UnicodeDecodeError as error:
                raise RowPlace(name, number).error(f"is not UTF-8 (byte {error.start + 1} of the row)",
                                                   "save the file as UTF-8") from error
            except (json.JSONDecodeError, RecursionError) as error:
                raise RowPlace(name, number).error(f"is not JSON ({error})",
                                                   "each line must be one JSON object") from error
            yield number, value


def _decoded(line: bytes) -> Any:
    """The JSON value that is all of `line`, read in half the time that `json.loads` takes for a short one."""
    text = line.decode("utf-8").strip(_JSON_SPACE)
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return _without_lone_surrogates(value, True) if b"\\" in line and rb"\ud" in line.lower() else value


def _array(file: IO[bytes], path: Path) -> Iterator[tuple[int, Any]]:
    """The items of one JSON array, holding one item and one chunk at a time."""
    text = _Text(file, path)
    text.take("[", 1)
    number = 1
    if text.peek() == "]":
        return
    while True:
        yield number, text.value(number)
        if text.peek() == "]":
            return
        text.take(",", number)
        number += 1


class _Text:
    """A moving window on the text of a file, white space skipped between tokens."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path
        self._buffer, self._at = "", 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def peek(self) -> str:
        """The next character that is not white space, empty at the end of the file."""
        while True:
            if space := _SPACE.match(self._buffer, self._at):
                self._at = space.end()
            if self._at < len(self._buffer) or not self._more(0):
                return self._buffer[self._at:self._at + 1]

    def take(self, mark: str, number: int) -> None:
        """Go past `mark`, which must be next."""
        found = self.peek()
        if found != mark:
            raise RowPlace(self._path.name, number).error(
                f"is followed by '{found or 'the end'}', expected '{mark}'", "the file is cut off or damaged")
        self._at += 1

    def value(self, number: int) -> Any:
        """The JSON value that comes next."""
        place = RowPlace(self._path.name, number)
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except RecursionError as error:
                raise place.error("is nested too deeply") from error
            except json.JSONDecodeError as error:
                if len(self._buffer) - self._at > MAX_ROW_CHARS:
                    raise place.error(f"is longer than {MAX_ROW_CHARS} characters") from error
                if not self._more(number):
                    raise place.error(f"is not JSON ({error.msg})", "the file is cut off or damaged") from error
                continue
            may_hold = "\\ud" in self._buffer[self._at:end].lower()
            self._at = end
            return _without_lone_surrogates(value, may_hold)

    def _more(self, number: int) -> bool:
        """Read as much again as is held, so that a long row is not parsed again and again; False at the end."""
        self._buffer, self._at = self._buffer[self._at:], 0
        chunk = self._file.read(max(BORDERS.file_bytes, len(self._buffer)))
        try:
            self._buffer += self._utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise RowPlace(self._path.name, max(number, 1)).error(
                "or a row soon after it is not UTF-8", "save the file as UTF-8") from error
        return bool(chunk)


def _without_lone_surrogates(value: Any, may_hold: bool) -> Any:
    if not may_hold:
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_lone_surrogates(item, True) for item in value]
    if isinstance(value, dict):
        return {_without_lone_surrogates(k, True): _without_lone_surrogates(v, True) for k, v in value.items()}
    return value


def _parquet_rows(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BORDERS.parquet_rows):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        place = RowPlace(path.name, number + 1)
        raise place.error(f"the parquet file cannot be read ({error})", "get the file again") from error
