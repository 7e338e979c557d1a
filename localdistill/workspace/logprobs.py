"""Log-probabilities of the tokens of traces, kept outside the rows: Parquet files in one folder, a trace per row.

They are large (eight bytes for each of K tokens at every place), asked for seldom, and only then worth reading, so
they never enter the store. A file is whole or absent; what was added since the last one is lost with the process.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError
from localdistill.core.records import TokenScores
from localdistill.safety.files import partial_file

if TYPE_CHECKING:
    import pyarrow

FOLDER = "logprobs"
"""Of a run's folder."""
_SUFFIX = ".parquet"


class LogprobWriter:
    """Adds traces to `folder`, in files of their own, so that several writers may share it. Ends with `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._values = 0

    def add(self, trace_id: str, scores: TokenScores) -> None:
        """Keep `scores` under `trace_id`. Raises InputError when their columns are not of one length."""
        widths = {*map(len, scores.top_ids), *map(len, scores.top_logprobs)}
        lengths = {len(scores.ids), len(scores.logprobs), len(scores.top_ids), len(scores.top_logprobs)}
        if len(lengths) > 1 or len(widths) > 1:
            raise InputError(f"the log-probabilities of {trace_id} have columns of different lengths",
                             "an engine reported them wrongly; please report it")
        top_ids = [i for place in scores.top_ids for i in place]
        row = {
            "trace_id": trace_id, "width": next(iter(widths), 0), "ids": scores.ids, "logprobs": scores.logprobs,
            "top_ids": top_ids,
            "top_logprobs": [x for place in scores.top_logprobs for x in place],
        }
        self._rows.append(row)
        self._values += 2 * (len(scores.ids) + len(top_ids))
        if self._values >= BORDERS.logprob_values:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if not self._rows:
            return
        import pyarrow

        rows = sorted(self._rows, key=lambda row: str(row["trace_id"]))
        table = pyarrow.Table.from_pylist(rows, schema=_schema())
        self._folder.mkdir(parents=True, exist_ok=True)
        with partial_file(self._folder / f"{uuid.uuid4().hex}{_SUFFIX}") as path:
            write_table(table, path)
        self._rows, self._values = [], 0

    def close(self) -> None:
        """Write the rest. Harmless to call twice."""
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


def write_table(table: pyarrow.Table, path: Path) -> None:
    """Write a file of log-probabilities, with a checksum of every page."""
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path, compression="zstd", row_group_size=BORDERS.group_rows,
                                use_dictionary=["trace_id"], write_page_checksum=True)


def read_logprobs(folder: Path, trace_id: str) -> TokenScores | None:
    """What is kept under `trace_id`; None when there is nothing. Raises InputError for a damaged file."""
    return next((scores for _, scores in _read(folder, [("trace_id", "=", trace_id)])), None)


def all_logprobs(folder: Path) -> Iterator[tuple[str, TokenScores]]:
    """Every trace and its log-probabilities, one file in memory at a time; a trace that was added twice comes twice."""
    return _read(folder, None)


def _read(folder: Path, filters: list[tuple[str, str, str]] | None) -> Iterator[tuple[str, TokenScores]]:
    import pyarrow
    import pyarrow.parquet

    for path in sorted(folder.glob(f"*{_SUFFIX}"), key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True):
        try:
            table = pyarrow.parquet.read_table(path, filters=filters, partitioning=None,
                                               page_checksum_verification=True)
            if not table.schema.equals(_schema()):
                raise ValueError("its columns are not those that were written")
            rows = table.to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {error}"[:300], "remove the file and collect again") from None
        for row in rows:
            yield row["trace_id"], _scores_of(row)


def _scores_of(row: dict[str, Any]) -> TokenScores:
    width, count = row["width"], len(row["ids"])
    places = [slice(place * width, (place + 1) * width) for place in range(count)]
    return TokenScores(
        tuple(row["ids"]), tuple(row["logprobs"]), tuple(tuple(row["top_ids"][place]) for place in places),
        tuple(tuple(row["top_logprobs"][place]) for place in places),
    )


def _schema() -> Any:
    import pyarrow as pa

    numbers, shares = pa.list_(pa.int32()), pa.list_(pa.float32())
    return pa.schema([
        ("trace_id", pa.string()), ("width", pa.int32()), ("ids", numbers), ("logprobs", shares),
        ("top_ids", numbers), ("top_logprobs", shares),
    ])
