"""Rows of comma- or tab-separated text as objects of text, by the names in its first row; and the lines of a text with
a question on each. Holds one row, whatever the file's size."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from typing import IO

from localdistill.core.errors import InputError
from localdistill.interchange.base import Rows
from localdistill.interchange.json_rows import MAX_ROW_CHARS, Leave
from localdistill.interchange.rows import RowPlace

SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}
"""What stands between the columns, by the file's ending; of several, the one that is in the first row most often."""
MOST_COLUMNS = 10_000


def table_rows(file: IO[bytes], separators: str, name: str, leave: Leave) -> Rows:
    """The rows of `file` with the numbers of their lines; the first names the columns. Raises InputError that names the
    row."""
    csv.field_size_limit(MAX_ROW_CHARS)
    lines = _Lines(file, name)
    first = next(lines, "")
    separator = max(separators, key=first.count)
    try:
        names = next(csv.reader([first], delimiter=separator), [])
    except csv.Error as error:
        raise RowPlace(name, 1).error(f"does not name the columns ({error})",
                                      "save the file with usual line ends") from error
    _require_names(names, name)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        number = lines.number + 1
        place = RowPlace(name, number)
        lines.begins_row(place)
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise place.error(f"is not readable as a row of columns ({error})",
                              "a quotation mark may be missing in it") from error
        if row is None:
            return
        if len(row) > len(names):
            leave(place.error(f"has {len(row):,} columns, and the first row names {len(names):,}"))
        elif row:
            yield number, dict(zip(names, row))


def question_lines(file: IO[bytes], name: str, leave: Leave) -> Rows:
    """Every line that says something, as a row that asks it. Raises InputError that names the line."""
    lines = _Lines(file, name)
    while True:
        lines.begins_row(RowPlace(name, lines.number + 1))
        line = next(lines, None)
        if line is None:
            return
        if line.strip():
            yield lines.number, {"question": line.strip()}


def _require_names(names: list[str], file: str) -> None:
    place = RowPlace(file, 1)
    if not any(name.strip() for name in names):
        raise place.error("names no columns", "the first row of such a file holds the names of its columns")
    if len(names) > MOST_COLUMNS:
        raise place.error(f"names {len(names):,} columns; {MOST_COLUMNS:,} are taken")
    seen = set[str]()
    for name in names:
        if name in seen:
            raise place.error(f"names the column '{name[:80]}' twice", "give the columns different names")
        seen.add(name)


class _Lines(Iterator[str]):
    """Lines of text, no longer than a row may be."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self.number = file, 0
        self._place, self._chars = RowPlace(name, 1), 0

    def begins_row(self, place: RowPlace) -> None:
        """The next line begins a row, which may go over several."""
        self._place, self._chars = place, 0

    def __next__(self) -> str:
        line = self._file.readline(MAX_ROW_CHARS + 1)
        self._chars += len(line)
        if self._chars > MAX_ROW_CHARS:
            raise self._place.error(f"is longer than {MAX_ROW_CHARS} bytes", "a quotation mark may be missing in it")
        if not line:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._not_utf8(error) from error

    def _not_utf8(self, error: UnicodeDecodeError) -> InputError:
        return self._place.error(f"is not UTF-8 (byte {error.start + 1} of line {self.number})",
                                 "save the file as UTF-8")
