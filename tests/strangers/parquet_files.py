"""Hostile Parquet files: counts and sizes that lie, texts that are stored once and stand in every row, rows with any
number of values, and single flipped bytes of sound files."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.strangers.rows import ROW, Write

_SEED = 20261129


def _write(name: str, data: bytes) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name
    return write


def _table(rows: list[dict[str, Any]], **how: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **how)
    return buffer.getvalue()


def sound(count: int = 40) -> list[bytes]:
    """Sound files of the same rows, written in different ways."""
    rows = [{**ROW, "n": number, "same": "text", "long": f"{number} " * 50} for number in range(count)]
    ways: tuple[dict[str, Any], ...] = (
        {}, {"compression": "zstd"}, {"data_page_version": "2.0"}, {"compression": "none"},
        {"use_dictionary": False, "compression": "gzip"}, {"row_group_size": 7})
    return [_table(rows, **way) for way in ways]


def small() -> Iterator[tuple[str, Write]]:
    """Files of some kilobytes."""
    yield "no footer", _write("a.parquet", b"PAR1" + b"\0" * 100)
    yield "only the marks", _write("a.parquet", b"PAR1PAR1")
    yield "a footer beyond the file", _write("a.parquet", b"PAR1" + b"\0" * 20 + b"\xff\xff\xff\x7fPAR1")
    yield "no rows", _write("a.parquet", _empty())
    ways, chance = sound(5), random.Random(_SEED)
    for place, data in enumerate(ways):
        yield f"sound {place}", _write("A.PARQUET", data)
    for number in range(300):
        yield f"bytes changed {number}", _write("a.parquet", changed(chance.choice(ways), chance))
    for number in range(20):
        yield f"cut {number}", _write("a.parquet", ways[0][:len(ways[0]) * number // 20])


def changed(data: bytes, chance: random.Random) -> bytes:
    """Some of a file's bytes replaced, more often in its footer."""
    found = bytearray(data)
    footer = int.from_bytes(found[-8:-4], "little")
    low = len(found) - 8 - footer if chance.random() < 0.6 else 0
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(low, len(found))
        found[at:at + 1] = chance.choice([bytes([chance.randrange(256)]), b"\xff", b"\x80", b"\0"])
        if chance.random() < 0.3:
            found[at:at + 5] = b"\xfe\xff\xff\xff\x0f"
    return bytes(found)


def _empty() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"instruction": pa.array([], pa.string())}), buffer)
    return buffer.getvalue()


def large() -> Iterator[tuple[str, Write]]:
    """Files that unfold to much."""
    made: dict[str, Callable[[], bytes]] = {
        "a text of 1 MB in 100,000 rows": lambda: _repeated("x" * 1_000_000, 100_000),
        "ten million rows of nothing": lambda: _nothing(10_000_000),
        "a row of 5 million values": lambda: _long_list(5_000_000, None),
        "a row of 100,000 values of 10 kB": lambda: _long_list(100_000, "x" * 10_000),
        "rows of 30 MB": lambda: _table([{"instruction": "x" * 30_000_000, "output": str(n)} for n in range(3)]),
        "texts that share their beginnings": lambda: _prefixes(3_000),
    }
    for name, make in made.items():
        yield name, lambda folder, make=make: _write("a.parquet", make())(folder)


def _repeated(text: str, count: int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))
    buffer = io.BytesIO()
    pq.write_table(pa.table({"instruction": column, "output": column}), buffer, store_schema=False,
                   dictionary_pagesize_limit=1 << 30, compression="zstd")
    return buffer.getvalue()


def _nothing(count: int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table({"instruction": pa.nulls(count, pa.string()), "output": pa.nulls(count, pa.string())}),
                   buffer, row_group_size=count)
    return buffer.getvalue()


def _long_list(count: int, value: str | None) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if value is None:
        inner: Any = pa.nulls(count, pa.string())
    else:
        inner = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([value]))
    column = pa.ListArray.from_arrays(pa.array([0, count, count], pa.int32()), inner)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"messages": column, "source": ["a", "b"]}), buffer, store_schema=False)
    return buffer.getvalue()


def _prefixes(count: int) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ["x" * (10 * number) for number in range(count)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"instruction": texts, "output": texts}), buffer, use_dictionary=False,
                   column_encoding="DELTA_BYTE_ARRAY", data_page_size=1 << 30)
    return buffer.getvalue()
