"""Rows of a Parquet file, a few at a time: as many as its pages are proven to hold little in. Must be given a file that
lies on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError
from localdistill.core.explaining import reason_of
from localdistill.interchange.base import Rows
from localdistill.interchange.json_rows import MAX_ROW_CHARS, Leave, checked
from localdistill.interchange.parquet_footer import Damaged, RowGroup, row_groups
from localdistill.interchange.parquet_pages import VALUE_BYTES, pages_of, rows_at_once
from localdistill.interchange.rows import RowPlace
from localdistill.interchange.unpacking import Unfolding


def parquet_rows(path: Path, leave: Leave, unfold: float) -> Rows:
    """The rows of the file with their positions. Raises InputError that names the row, also for what unfolds to more
    than `unfold` times the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with path.open("rb") as raw:
            groups = row_groups(raw)
            with pq.ParquetFile(path, buffer_size=BORDERS.file_bytes, pre_buffer=False) as file:
                for number, row in enumerate(_rows(file, groups, raw, path.name, unfold), start=1):
                    if _size(row) > MAX_ROW_CHARS:
                        leave(RowPlace(path.name, number).error(f"is longer than {MAX_ROW_CHARS} characters"))
                        continue
                    yield number, checked(row, RowPlace(path.name, number), False)
    except (pa.ArrowException, OSError, UnicodeDecodeError, Damaged) as error:
        place = RowPlace(path.name, number + 1)
        otherwise = "what it holds is not what it says of it"
        why = str(error) if isinstance(error, Damaged) else reason_of(error, otherwise)
        raise place.error(f"the parquet file cannot be read ({why})", "get the file again") from error


def _rows(file: Any, groups: Sequence[RowGroup], raw: IO[bytes], name: str, unfold: float) -> Iterator[dict[str, Any]]:
    read = 0
    in_pages, in_rows = (Unfolding(name, lambda: read, unfold) for _ in range(2))
    for place, group in enumerate(groups):
        read += sum(chunk.size for chunk in group.columns)
        pages = [pages_of(raw, chunk, in_pages, BORDERS.parquet_bytes) for chunk in group.columns]
        for chunk, found in zip(group.columns, pages):
            if max((page.held(1) for page in found if page.longest), default=0) > 4 * MAX_ROW_CHARS:
                raise InputError(f"{name}: a row of the column '{chunk.name}' may hold more than "
                                 f"{4 * MAX_ROW_CHARS:,} bytes, for it repeats a long text", "split such rows")
        at_once = rows_at_once(pages, BORDERS.parquet_bytes)
        for batch in file.iter_batches(at_once, row_groups=[place], use_threads=False):
            in_rows.grown(batch.nbytes)
            yield from batch.to_pylist()


def _size(value: Any) -> int:
    """Characters of all texts in `value`, and some for everything else."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else VALUE_BYTES
