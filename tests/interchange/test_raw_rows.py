"""Bytes of any file that people bring become rows: every arrangement and packing, one row in memory, bad rows passed
over, and files that unfold to far more than they hold refused with the figures."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError, LocalDistillError
from localdistill.interchange import json_rows, parquet_pages, unpacking
from localdistill.interchange.files import detect, read_file
from localdistill.interchange.parquet_pages import ValuePage, rows_at_once
from localdistill.interchange.raw_rows import rows_of
from tests.helpers import REPO
from tests.strangers import parquet_files, rows

ROWS = [{"instruction": f"q{n} é 🙂, \"{n}\"\n", "output": f"a{n}"} for n in range(7)]
LINES = [json.dumps(row).encode() for row in ROWS]


def packed(data: bytes, codec: str) -> bytes:
    if codec == "gzip":
        return gzip.compress(data)
    import pyarrow as pa

    return bytes(pa.compress(data, codec=codec, asbytes=True))


def table(separator: str) -> bytes:
    import csv

    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerows([["instruction", "output"], *([row["instruction"], row["output"]] for row in ROWS)])
    return text.getvalue().encode()


ARRANGED: dict[str, Callable[[], bytes]] = {
    "objects.json": lambda: b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS),
    "side_by_side.json": lambda: b" ".join(LINES),
    "wrapped.json": lambda: json.dumps({"version": 1, "data": ROWS, "n": [1]}).encode(),
    "wrapped.pretty.json": lambda: json.dumps({"rows": ROWS}, indent=1).encode(),
    "two_parts.json": lambda: json.dumps({"train": ROWS[:3], "test": ROWS[3:]}).encode(),
    "viewer.json": lambda: json.dumps({"features": [], "rows": [{"row_idx": n, "row": row}
                                                                for n, row in enumerate(ROWS)]}).encode(),
    "lines.jsonl.zst": lambda: packed(b"\n".join(LINES), "zstd"),
    "named_otherwise": lambda: packed(packed(b"\n".join(LINES), "gzip")[:0] + b"\n".join(LINES), "gzip"),
    "array.json.zst": lambda: packed(b"[" + b",".join(LINES) + b"]", "zstd"),
    "members.jsonl.gz": lambda: packed(b"\n".join(LINES[:3]) + b"\n", "gzip") + packed(b"\n".join(LINES[3:]), "gzip"),
    "table.csv": lambda: table(","),
    "table.CSV": lambda: b"\xef\xbb\xbf" + table(";"),
    "table.tsv.gz": lambda: packed(table("\t"), "gzip"),
}


@pytest.mark.parametrize("name", ARRANGED)
def test_every_arrangement_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(ARRANGED[name]())
    assert [row for _, row in rows_of(path)] == ROWS
    assert detect(path) == "alpaca"


def test_one_pretty_object_is_one_row_and_a_list_inside_a_row_is_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    row = {"messages": [{"role": "user", "content": "?"}], "data": ["a", "b"], "n": 1}
    path.write_text(json.dumps(row, indent=2))
    assert list(rows_of(path)) == [(1, row)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_windows_of_any_size_give_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(BORDERS, "file_bytes", size)
    for name in ("objects.json", "wrapped.json", "two_parts.json", "array.json.zst"):
        (tmp_path / name).write_bytes(ARRANGED[name]())
        assert [row for _, row in rows_of(tmp_path / name)] == ROWS


def left_out(path: Path) -> tuple[list[int], list[str]]:
    """Numbers of the rows that were read, and what was said of the others."""
    said: list[InputError] = []
    return [number for number, _ in rows_of(path, said.append)], [error.message for error in said]


def test_a_line_that_cannot_be_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_ROW_CHARS", 200)
    path = tmp_path / "rows.jsonl"
    bad = [b"{broken", b"[1]", b'{"a": "\xff"}', b'{"a": "' + b"x" * 900 + b'"}', b'{"a":' * 30 + b"[" * 40]
    path.write_bytes(b"\n".join([LINES[0], *bad, LINES[1]]))
    numbers, said = left_out(path)
    assert numbers == [1, 7]
    for row, what in zip(range(2, 7), ("not JSON", "no", "not UTF-8", "longer than 200", "JSON"), strict=True):
        assert f"row {row}: is " in said[row - 2] and what in said[row - 2]
    with pytest.raises(InputError, match="row 2: is not JSON"):
        list(rows_of(path))


def test_items_that_are_no_objects_and_rows_with_too_many_columns_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_bytes(b"[" + LINES[0] + b", 3, " + LINES[1] + b"]")
    assert left_out(tmp_path / "rows.json") == ([1, 3], ["rows.json, row 2: is not a JSON object"])
    (tmp_path / "rows.csv").write_bytes(b"a,b\n1,2\n1,2,3\n\n3\n")
    numbers, said = left_out(tmp_path / "rows.csv")
    assert numbers == [2, 5] and said == ["rows.csv, row 3: has 3 columns, and the first row names 2"]


@pytest.mark.parametrize(("name", "content", "says"), [
    ("a.json", b'[{"a": 1}, {"a" 2}, {"a": 3}]' + b" " * 5000, "row 2: is not JSON"),
    ("a.json", b'{"data": [{"a": 1}, 2', "row 2"), ("a.json", b'{\n"a": 1\n} {', "row 2"),
    ("a.json", b'{\n"a":' + b"[" * 100 + b"1" + b"]" * 100 + b"}", "nested"),
    ("a.csv", b"", "names no columns"), ("a.csv", b"a,a\n1,2", "twice"), ("a.csv", b'a,b\n1,"2', "row 2"),
    ("a.csv", b"a,b\n\xff,2", "row 2: is not UTF-8"), ("a.csv", b"a,b\r1,2\r", "new-line"),
    ("a.jsonl.gz", gzip.compress(LINES[0] * 50, mtime=0)[:40] + b"\x55" * 40, "cannot be read"),
    ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", "cannot be read"), ("a.jsonl", b"PK\x03\x04" + b"\0" * 40, "packed with zip"),
])
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(rows_of(tmp_path / name))
    assert says in caught.value.message and name in caught.value.message and caught.value.hint


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_what_unfolds_to_far_more_than_it_holds_is_refused_with_figures_and_option(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(unpacking, "_ALWAYS_BYTES", 100_000)
    path = tmp_path / name
    path.write_bytes(packed((LINES[0] + b"\n") * 20_000, "gzip" if name.endswith("gz") else "zstd"))
    with pytest.raises(InputError) as caught:
        list(rows_of(path))
    assert "MB, " in caught.value.message and "more than 100 times is not taken" in caught.value.message
    assert "localdistill import --unfold" in caught.value.hint
    assert sum(1 for _ in rows_of(path, unfold=20_000)) == 20_000


SMALL = [*rows.small(), *parquet_files.small()]


def test_hostile_files_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    for place, (name, write) in enumerate(SMALL):
        folder = tmp_path / str(place)
        folder.mkdir()
        path = write(folder)
        doors: tuple[Callable[[], object], ...] = (lambda: left_out(path), lambda: detect(path),  # noqa: B023
                                                   lambda: list(read_file(path, "messages")))  # noqa: B023
        for door in doors:
            try:
                door()
            except LocalDistillError as error:
                assert error.message and error.hint, name
            except BaseException as error:
                raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error


def parquet(path: Path, rows: list[dict[str, Any]], **how: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, **how)
    return path


@pytest.mark.parametrize("how", [{}, {"compression": "zstd"}, {"data_page_version": "2.0"}, {"use_dictionary": False},
                                 {"compression": "gzip", "row_group_size": 3}, {"compression": "none"}])
@pytest.mark.parametrize("budget", [1, 10_000, 1 << 24])
def test_parquet_is_read_as_it_was_written_whatever_is_held_at_once(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], budget: int) -> None:
    monkeypatch.setattr(BORDERS, "parquet_bytes", budget)
    rows = [{"turns": [{"role": "user", "content": "x" * (n * 7 % 50)}] * (n % 4), "n": n, "deep": [[n], [1, 2]]}
            for n in range(300)]
    found = [row for _, row in rows_of(parquet(tmp_path / "A.PARQUET", rows, **how))]
    assert found == rows


@pytest.mark.whole
def test_rows_are_taken_together_as_far_as_their_pages_allow() -> None:
    plain, budget = [ValuePage(100, 100, 1_000_000)] * 50, 10_000_000
    assert rows_at_once([plain], budget) == 256
    assert rows_at_once([plain, [ValuePage(5000, 5000, 100, longest=1_000_000)]], budget) == 4
    assert rows_at_once([[ValuePage(1, 1, 9_000_000)] * 50], budget) == 1
    assert rows_at_once([[ValuePage(10, 1000, 100, longest=1000, row_values=900)] * 50], budget) == 64


def test_a_list_is_counted_by_the_levels_of_its_pages(tmp_path: Path) -> None:
    """One row of very many values among short ones: the average says nothing about it."""
    lengths = [1, 0, 700, 2, 2, 90]
    rows = [{"turns": [f"{n}" for n in range(length)]} for length in lengths] * 3
    for how in ({"data_page_version": "1.0"}, {"data_page_version": "2.0"}):
        path = parquet(tmp_path / "a.parquet", rows, data_page_size=64, write_batch_size=16, **how)
        from localdistill.interchange.parquet_footer import row_groups

        with path.open("rb") as raw:
            (group,) = row_groups(raw)
            pages = parquet_pages.pages_of(raw, group.columns[0], unpacking.Unfolding("a", lambda: 1 << 40), 0)
        assert sum(page.rows for page in pages) == len(rows)
        assert sum(page.values for page in pages) == sum(max(1, length) for length in lengths) * 3
        assert 1 <= max(page.row_values for page in pages) <= 700


@pytest.mark.parametrize("name", ["a text of 1 MB in 100,000 rows", "ten million rows of nothing",
                                  "a row of 100,000 values of 10 kB", "texts that share their beginnings"])
def test_a_text_that_stands_once_and_is_meant_often_is_refused(tmp_path: Path, name: str,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_ALWAYS_BYTES", 4 << 20)
    path = dict(parquet_files.large())[name](tmp_path)
    with pytest.raises(InputError, match=r"unfolds to|may hold more than"):
        for _ in rows_of(path):
            pass


def test_a_page_that_says_what_it_does_not_hold_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [{"a": "x" * 1000}] * 50, compression="none", use_dictionary=False)
    data = path.read_bytes()
    at = data.index(b"\x15\x00\x15")  # a page of data, and its size
    path.write_bytes(data[:at + 3] + b"\xfe\xff\x7f" + data[at + 6:])
    with pytest.raises(InputError, match=r"a\.parquet, row 1: the parquet file cannot be read"):
        list(rows_of(path))


def test_what_is_wrong_with_a_parquet_file_is_said_in_words_of_ours(tmp_path: Path) -> None:
    path, chance, said = tmp_path / "a.parquet", Random(4), set[str]()
    for data in parquet_files.sound(3):
        for _ in range(25):
            path.write_bytes(parquet_files.changed(data, chance))
            try:
                list(rows_of(path))
            except InputError as error:
                said.add(error.message)
    assert "a.parquet, row 1: the parquet file cannot be read (what it holds is not what it says of it)" in said
    assert not [text for text in said if "\n" in text or "Exception" in text or "thrift" in text]


PEAK = """
import sys
from pathlib import Path
from localdistill.interchange.raw_rows import rows_of
from tests.measuring import peak_mb
import pyarrow.parquet, pyarrow
for _ in rows_of(Path(sys.argv[1])): pass
before = peak_mb()
for name in sys.argv[2:]:
    count = sum(1 for _ in rows_of(Path(name)))
    print(Path(name).name, count, peak_mb() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    count = 4_000
    texts = [{"instruction": f"{n} " * 400, "output": f"{n % 7} " * 1000} for n in range(count)]
    lines = [json.dumps(row).encode() for row in texts]
    files = {"a.jsonl": b"\n".join(lines), "a.json": b"[" + b",".join(lines) + b"]",
             "w.json": b'{"data": [' + b",".join(lines) + b"]}", "o.json": b"\n".join(
                 line.replace(b", ", b",\n") for line in lines),
             "a.csv": "\n".join(["instruction,output", *(",".join(row.values()) for row in texts)]).encode()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    parquet(tmp_path / "a.parquet", texts)
    parquet(tmp_path / "small.parquet", texts[:50])
    names = [str(tmp_path / name) for name in (*files, "a.parquet")]
    ran = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / "small.parquet"), *names],
                         capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": str(REPO)})
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == len(names)
    for line in ran.stdout.splitlines():
        name, found, grown = line.split()
        assert int(found) == count and int(grown) < 40, line  # each file holds 15 MB, which are 30 and more as objects
