"""Raw rows of any file that people bring: what it is packed in, how it arranges rows, and each of them, as a stream.
Knows no layout."""

from __future__ import annotations

import codecs
from pathlib import Path

from localdistill.core.errors import InputError
from localdistill.core.explaining import reason_of
from localdistill.interchange.base import Rows
from localdistill.interchange.json_rows import HEAD_BYTES, Leave, json_rows
from localdistill.interchange.rows import RowPlace
from localdistill.interchange.table_rows import SEPARATORS, question_lines, table_rows
from localdistill.interchange.unpacking import MOST_UNFOLD, UNREADABLE, opened

_PACKED = (".gz", ".zst", ".zstd")
_PARQUET = b"PAR1"


def rows_of(path: Path, leave: Leave | None = None, unfold: float = MOST_UNFOLD) -> Rows:
    """The rows of a file as objects, with their numbers (the line in files of one row a line, else the position; from
    1): JSON in any arrangement, CSV, TSV, Parquet, a `.txt` with a question on each line, plain or packed with gzip or
    zstd.

    Raises InputError that names file and row for what cannot be read. With `leave`, that is told of a row which cannot
    be used where the next one can, and reading goes on. unfold: how many times larger than the file its content may be.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", "check the path")
    number, leave = 0, leave or _refuse
    try:
        for number, row in _rows(path, leave, unfold):
            yield number, row
    except UNREADABLE as error:
        place = RowPlace(path.name, number + 1)
        raise place.error(f"the file cannot be read ({reason_of(error)})", "get the file again") from error


def _refuse(error: InputError) -> None:
    raise error


def _rows(path: Path, leave: Leave, unfold: float) -> Rows:
    with opened(path, unfold) as file:
        head = file.read(HEAD_BYTES)
    endings = [ending.lower() for ending in path.suffixes]
    ending = next((one for one in reversed(endings) if one not in _PACKED), "")
    if head.startswith(_PARQUET) or ending == ".parquet":
        from localdistill.interchange.parquet_rows import parquet_rows

        return parquet_rows(path, leave, unfold)
    return _text_rows(path, ending, head, leave, unfold)


def _text_rows(path: Path, ending: str, head: bytes, leave: Leave, unfold: float) -> Rows:
    with opened(path, unfold) as file:
        if ending in SEPARATORS:
            yield from table_rows(file, SEPARATORS[ending], path.name, leave)
        elif ending == ".txt" and not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith((b"{", b"[")):
            yield from question_lines(file, path.name, leave)
        else:
            yield from json_rows(file, head, path.name, leave)
