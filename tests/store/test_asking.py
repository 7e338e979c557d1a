"""Conditions that users write: they find what they should, speak of one trace at a time, reach nothing, and a bomb dies
in a child without holding the file."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from localdistill.core.errors import StoreLocked, UsageError
from localdistill.store import Store
from localdistill.store import conditions as asking
from localdistill.store.columns import ANYBODY, VIEW_COLUMNS
from localdistill.store.reading import paced
from tests.store.test_store import filled, graded, ids, trace_number


def found(store: Store, where: str, search: str = "", limit: int = 20) -> list[str]:
    return [row["trace_id"] for row in store.listing(where, search, limit)]


def test_conditions_find_the_same_as_in_process(tmp_path: Path) -> None:
    store = filled(tmp_path, 30)
    store.add_facts([graded(ids(n)[0], "a@1", float(n % 2), "", "") for n in range(0, 30, 3)])
    for where in ("score = 0", "completion_tokens > 35 AND answer LIKE '%8'", "trace_view.labels['steps']::INT = 2",
                  "length(reasoning) > 15 OR labels['no'] = '1'", '"SCORE" = 1',
                  "parent_id IS NULL AND created_at < now()::TIMESTAMP"):
        wanted = store.trace_ids(where)
        assert found(store, where, limit=100) == wanted and wanted, where
    assert found(store, "labels['steps'] = '2'", search="add 17") == ids(17)
    assert found(store, "labels['steps'] = '2'", limit=2) == ids(2, 7)
    assert found(store, "score = 7") == []


@pytest.mark.whole
def test_only_columns_that_a_condition_names_are_read() -> None:
    assert ANYBODY.named_in("Score = 1 and engine = 'x'") == ["engine", "score"]
    for where in ("len(COLUMNS('a.*')) > 1", "trace_view::VARCHAR = ''"):
        assert ANYBODY.named_in(where) == list(VIEW_COLUMNS)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("scroe = 1", "scroe"),
        ("score = ", "no SQL expression"),
        ("1) OR (1", "condition"),
        ("1; DROP TABLE traces", "more than one|no SQL"),
        ("read_text('{secret}') <> ''", "cannot be used"),
        ("(SELECT count(*) FROM read_csv('{secret}')) > 0", "cannot be used"),
        ("(SELECT count(*) FROM traces) > 0", "cannot be used"),
        ("trace_id IN (SELECT trace_id FROM trace_view)", "cannot be used"),
        ("(SELECT count(*) FROM '{store}') > 0", "cannot be used"),
        ("length(repeat('x', 2000000000)) > 1", "memory|brought the database down|cannot be used|took longer"),
        ("len(list_transform(range(800000000), lambda x: x::VARCHAR)) > 1", "memory|brought the database down"),
    ],
)
def test_a_condition_reaches_nothing_and_its_refusal_is_clear(tmp_path: Path, where: str, message: str) -> None:
    store, secret = filled(tmp_path, 3), tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    where = where.replace("{secret}", str(secret)).replace("{store}", str(store.path))
    with pytest.raises(UsageError, match=message) as caught:
        found(store, where)
    assert caught.value.hint and caught.value.exit_code == 2
    assert store.counts().traces == 3


@pytest.mark.whole
@pytest.mark.parametrize("where", [
    "(SELECT sum(x) FROM range(1000000000000000) a(x)) > sample_index",
    "(SELECT sum(x + sample_index) FROM range(1000000000000000) a(x)) > 0",
])
def test_a_bomb_is_stopped_and_never_holds_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store, killed = filled(tmp_path, 3), []
    monkeypatch.setattr(asking, "STEP_S", 1.5)
    kill = asking.JsonChild.kill
    monkeypatch.setattr(asking.JsonChild, "kill", lambda self: (kill(self), killed.append(self.is_alive())))
    errors: list[UsageError] = []

    def ask() -> None:
        with pytest.raises(UsageError, match=r"was stopped: it took longer than 1\.5 s") as caught:
            found(store, where)
        errors.append(caught.value)

    asker = threading.Thread(target=ask)
    asker.start()
    counted = 0
    while asker.is_alive():
        Store(store.path, wait_s=1.0).counts()
        counted += 1
    asker.join()
    assert len(errors) == 1 and killed == [False] and counted > 2, "one that waits for the end counts once or twice"


@pytest.mark.whole
def test_a_child_that_dies_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ADDRESS_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="brought the database down"):
        found(filled(tmp_path, 3), "sample_index = 1")


def child_pid() -> int:
    """Of the child that waits for the next condition."""
    waiting = asking.WAITING.take()
    assert waiting is not None and waiting.is_alive()
    asking.WAITING.keep(waiting)
    return waiting.pid


@pytest.mark.whole
def test_a_child_that_came_to_its_end_works_out_the_next_condition_and_is_replaced_when_it_is_gone(
        tmp_path: Path) -> None:
    store, other = filled(tmp_path, 9), filled(tmp_path / "other", 4)
    assert found(store, "completion_tokens >= 15") == ids(5, 6, 7, 8)
    first = child_pid()
    assert found(other, "completion_tokens >= 12") == ids(2, 3) and child_pid() == first
    with pytest.raises(UsageError, match="scroe"):
        found(store, "scroe = 1")
    assert asking.WAITING.take() is None, "what ended in an error does not wait"
    assert found(store, "completion_tokens >= 15") == ids(5, 6, 7, 8)
    second = child_pid()
    assert second != first
    os.kill(second, signal.SIGKILL)
    assert found(store, "completion_tokens >= 15") == ids(5, 6, 7, 8) and child_pid() != second


@pytest.mark.whole
def test_a_child_that_nobody_asks_again_leaves_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "IDLE_S", 1)
    assert found(filled(tmp_path, 3), "completion_tokens = 11") == ids(1)
    waiting = asking.WAITING.take()
    assert waiting is not None
    with pytest.raises(asking.ChildDied) as caught:
        waiting.receive(30)
    assert caught.value.returncode == -signal.SIGALRM
    asking.WAITING.keep(waiting)
    assert found(filled(tmp_path / "again", 3), "completion_tokens = 11") == ids(1), "and nobody notices"


@pytest.mark.whole
def test_a_locked_store_is_said_to_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    store = filled(tmp_path, 3)
    monkeypatch.setattr(asking.Sessions, "run", lambda self, work: None)
    con = duckdb.connect(str(store.path))
    try:
        with pytest.raises(StoreLocked, match="held by"):
            next(asking.matching_seqs(asking.Sessions(store.path, wait_s=0.2), "sample_index = 1"))
    finally:
        con.close()


@pytest.mark.whole
def test_rows_that_are_only_in_the_log_are_found(tmp_path: Path) -> None:
    """A read-only session replays what a killed writer left in the write-ahead log."""
    import subprocess
    import sys

    store = filled(tmp_path, 3)
    script = (
        "import os, sys\nsys.path.insert(0, sys.argv[2])\n"
        "from tests.store.test_store import trace_number\nfrom localdistill.store import Store\n"
        "from localdistill.store.session import transaction\nfrom localdistill.store.rows import moment\n"
        "from localdistill.store.tables import trace_table\n"
        "from localdistill.store.writing import insert_traces, new_rows\n"
        "def work(con):\n    with transaction(con):\n"
        "        table = trace_table([trace_number(9)])\n"
        "        insert_traces(con, new_rows(con, 'traces', table), moment())\n"
        "    os._exit(9)\n"
        "Store(sys.argv[1])._sessions.run(work)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    subprocess.run([sys.executable, "-c", script, str(store.path), root], check=False)
    assert store.path.with_name("s.duckdb.wal").exists()
    newest = "SELECT max(seq) FROM traces"
    seqs = asking.Sessions(store.path, read_only=True).run(lambda con: con.execute(newest).fetchall())
    assert seqs == [(4,)] and trace_number(9).id in found(store, "completion_tokens = 19")


@pytest.mark.whole
def test_windows_of_short_rows_stay_large_on_a_busy_machine() -> None:
    """Where every window takes long whatever its size, smaller ones would only take it for longer."""
    for most_rows, fewest in ((65_536, 4096), (2048, 128)):
        rows = most_rows
        for _ in range(20):
            rows = paced(rows, 10.0, most_rows)
        assert rows == fewest and paced(rows, 0.001, most_rows) == 2 * fewest
