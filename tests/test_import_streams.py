"""What an import promises: rows are stored as they are read, one that was killed says what it left, and importing again
goes on without storing anything twice."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from localdistill import InputError, StoreLocked, Workspace, import_file, missing_traces, open_store, survey
from localdistill.core.borders import BORDERS
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.interchange import unpacking
from localdistill.store.keeper import Added, Keeper
from localdistill.workspace.imports import begun, unfinished
from tests.helpers import REPO

KILLED = """
import os, signal, sys
from pathlib import Path
from localdistill import Workspace, import_file
from localdistill.core.borders import BORDERS
from localdistill.store.keeper import Keeper
BORDERS.imported_rows, calls, prepared = 10, [], Keeper.prepared
def prepare(keeper, *records):
    store = prepared(keeper, *records)
    def killed():
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return store()
    return killed
Keeper.prepared = prepare
import_file(Workspace(sys.argv[1]), Path(sys.argv[2]))
"""


def file_of(folder: Path, count: int, name: str = "rows.jsonl") -> Path:
    path = folder / name
    rows = [{"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": str(n + 1)}]}
            for n in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_an_import_that_was_killed_says_what_it_left_and_goes_on_without_doubling(tmp_path: Path) -> None:
    place, path = Workspace(tmp_path / "w"), file_of(tmp_path, 45)
    place.root.mkdir()
    ran = subprocess.run([sys.executable, "-c", KILLED, str(place.root), str(path)], capture_output=True, timeout=120)
    assert ran.returncode == -signal.SIGKILL
    (missing,) = missing_traces(place)
    assert "ended after 20 rows" in missing.text and str(path) in missing.text
    assert f"localdistill import {path}" in missing.hint and "nothing twice" in missing.hint
    assert any("ended after 20 rows" in text for name, text in survey(place).facts if name == "missing")
    report = import_file(place, path)
    counts = open_store(place).counts()
    assert (counts.prompts, counts.traces) == (45, 45) and report.rows == 45 and report.new_traces == 25
    assert missing_traces(place) == []


def test_an_import_that_runs_is_not_called_ended_and_not_begun_twice(tmp_path: Path) -> None:
    place, path = Workspace(tmp_path / "w"), file_of(tmp_path, 3)
    with begun(place, path) as progress:
        progress(2)
        assert unfinished(place) == []
        with pytest.raises(StoreLocked, match=r"rows\.jsonl is being imported"):
            import_file(place, path)
    assert not list((place.root / "imports").iterdir())


def test_rows_are_stored_as_they_are_read_bad_ones_are_counted_and_a_cut_file_says_where_it_ended(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BORDERS, "imported_rows", 2)
    place, path = Workspace(tmp_path / "w"), file_of(tmp_path, 5)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "{broken", '{"messages": 1}', "[1]", *lines[2:]]))
    report = import_file(place, path)
    assert (report.rows, report.new_traces, report.left_out, report.ended_early) == (5, 5, 3, "")
    assert any("row 3: is not JSON" in example for example in report.examples)
    cut = tmp_path / "cut.json"
    cut.write_text("[" + ",".join(lines) + ', {"messages": [')
    report = import_file(place, cut)
    assert report.rows == 5 and "row 6: is not JSON" in report.ended_early
    assert missing_traces(place) == []


def test_reasons_and_unused_columns_are_not_kept_without_end(tmp_path: Path) -> None:
    path = file_of(tmp_path, 3)
    bad = [json.dumps({"messages": [{"role": f"r{n}", "content": "x" * 900}, {"role": "user", "content": "?"}]})
           for n in range(300)]
    odd = [json.dumps({**json.loads(path.read_text().splitlines()[0]), f"column {n}": n}) for n in range(300)]
    path.write_text(path.read_text() + "\n" + "\n".join([*bad, *odd]))
    report = import_file(Workspace(tmp_path / "w"), path)
    assert report.left_out == 300 and sum(report.reasons.values()) == 300 and len(report.reasons) <= 51
    assert len(report.unused) <= 51 and all(len(example) < 600 for example in report.examples)


def test_long_rows_are_held_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BORDERS, "imported_chars", 100)
    held: list[int] = []
    prepared = Keeper.prepared

    def counted(keeper: Keeper, prompts: list[Prompt], traces: list[Trace], facts: list[Fact]) -> Callable[[], Added]:
        held.append(len(prompts))
        return prepared(keeper, prompts, traces, facts)

    monkeypatch.setattr(Keeper, "prepared", counted)
    path = tmp_path / "rows.csv"
    path.write_text("instruction,output\n" + "\n".join(f"{'long ' * 9}{n},{n}" for n in range(6)))
    assert import_file(Workspace(tmp_path / "w"), path).new_prompts == 6
    assert held == [3, 3]


def test_copies_of_a_row_bring_nothing_but_another_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BORDERS, "imported_rows", 2)
    monkeypatch.setattr(BORDERS, "recent_names", 4)
    place, path, given = Workspace(tmp_path / "w"), file_of(tmp_path, 6), list[int]()
    rows = [{**json.loads(line), "verified": True} for line in path.read_text().splitlines()]
    turned = [{**row, "verified": False} for row in rows]
    path.write_text("\n".join(map(json.dumps, [*rows, *rows, turned[0], *rows[1:], turned[5], rows[5]])))
    prepared = Keeper.prepared

    def counted(keeper: Keeper, prompts: list[Prompt], traces: list[Trace], facts: list[Fact]) -> Callable[[], Added]:
        given.append(len(traces))
        return prepared(keeper, prompts, traces, facts)

    monkeypatch.setattr(Keeper, "prepared", counted)
    report = import_file(place, path)
    assert (report.rows, report.new_traces, report.verdicts) == (20, 6, 20) and sum(given) < 20
    store = open_store(place)
    ids = [trace.id for trace in store.traces()]
    assert [store.verdicts(ids)[one] for one in ids] == [False, True, True, True, True, True]


def test_a_bomb_is_refused_with_the_option_that_allows_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_ALWAYS_BYTES", 2 << 20)
    place, path = Workspace(tmp_path / "w"), tmp_path / "rows.jsonl.gz"
    rows = file_of(tmp_path, 7).read_bytes()
    path.write_bytes(gzip.compress(rows + b"\n" * 3_000_000))
    report = import_file(place, path)
    assert "more than 100 times is not taken" in report.ended_early and "--unfold" in report.ended_early
    assert import_file(place, path, unfold=5000).rows == 7
    path.write_bytes(gzip.compress(rows.splitlines()[0] + b"\n" * 3_000_000))
    with pytest.raises(InputError, match="more than 100 times") as caught:
        import_file(place, path)
    assert "--unfold" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_any_file_is_imported_in_300_mb(tmp_path: Path, name: str) -> None:
    count, path = 60_000, tmp_path / name
    rows = ({"instruction": f"{n} " + "word " * 60, "output": f"<think>{n} " + "think " * 500 + "</think>\n\n7"}
            for n in range(count))
    if name.endswith("jsonl"):
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    code = ("import sys; from pathlib import Path; from localdistill import Workspace, import_file; "
            "from tests.measuring import peak_mb; "
            "print(import_file(Workspace(sys.argv[1]), Path(sys.argv[2])).rows, peak_mb())")
    (tmp_path / "w").mkdir()
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "w"), str(path)], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": str(REPO)})
    assert ran.returncode == 0, ran.stderr
    stored, peak = map(int, ran.stdout.split())
    assert stored == count and peak < 300
