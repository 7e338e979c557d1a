"""Files of rows that are written: JSON lines, plain or gzip, and Parquet, as a stream in little memory. Knows no
layout: columns and their shapes are told."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import UsageError
from localdistill.interchange.base import Shape
from localdistill.interchange.json_rows import without_lone_surrogates

if TYPE_CHECKING:
    import pyarrow as pa

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
_BREAKS = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"})
"""Some readers take these for the end of a line. In JSON they stand inside texts only."""
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
Put = Callable[[Mapping[str, Any]], bool]
"""Writes a row; True where it held half characters, which no file of UTF-8 can hold: they became U+FFFD, as they do
when a file is read."""


def ending_of(path: Path) -> str:
    """The ending that says how rows are written; UsageError for another one."""
    found = next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if path.name.endswith(ending)), "")
    if not found:
        raise UsageError(f"'{path.name}' does not say how rows are to be written", f"endings: {', '.join(ENDINGS)}")
    return found


@contextmanager
def writing_rows(path: Path, ending: str, columns: Mapping[str, Shape]) -> Iterator[Put]:
    """A function that writes rows to `path` in the way of `ending`. A file of the same rows has the same bytes."""
    if ending == ".parquet":
        with _parquet(path, columns) as put:
            yield put
        return
    with path.open("wb") as raw:
        if ending.endswith(".gz"):
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                yield lambda row: _line(row, packed.write)
        else:
            yield lambda row: _line(row, raw.write)


def _line(row: Mapping[str, Any], write: Callable[[bytes], object]) -> bool:
    has_halves = False
    text = _ENCODE(row)
    try:
        line = text.encode() if text.isascii() else text.translate(_BREAKS).encode()
    except UnicodeEncodeError:
        has_halves = True
        line = _ENCODE(without_lone_surrogates(row)).translate(_BREAKS).encode()
    write(line + b"\n")
    return has_halves


@contextmanager
def _parquet(path: Path, columns: Mapping[str, Shape]) -> Iterator[Put]:
    """Rows wait until they are many or long, and become a row group."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    schema = pa.schema([(name, _type(shape)) for name, shape in columns.items()])
    waiting: list[Mapping[str, Any]] = []
    held = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as file:

        def flush() -> None:
            nonlocal held
            if waiting:
                file.write_table(pa.Table.from_pylist(waiting, schema))
            waiting.clear()
            held = 0

        def put(row: Mapping[str, Any]) -> bool:
            nonlocal held
            if strange := row.keys() - columns.keys():
                raise ValueError(f"the layout does not say that its rows have a column '{min(strange)}'")
            encoded = {name: _ENCODE(value) if columns[name] == "json" and value is not None else value
                       for name, value in row.items()}
            clean = without_lone_surrogates(encoded)
            waiting.append(clean)
            held += len(repr(clean))
            if len(waiting) >= BORDERS.imported_rows or held >= BORDERS.imported_chars:
                flush()
            return bool(clean != encoded)

        yield put
        flush()


def _type(shape: Shape) -> pa.DataType:
    import pyarrow as pa

    if isinstance(shape, Mapping):
        return pa.struct([(name, _type(inner)) for name, inner in shape.items()])
    if isinstance(shape, Sequence) and not isinstance(shape, str):
        return pa.list_(_type(shape[0]))
    return {"text": pa.string(), "json": pa.string(), "flag": pa.bool_(), "whole": pa.int32(),
            "number": pa.float32()}[shape]
