"""The store can be lost: whatever was stored is in journals, and a store that is made again of them is the same."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localdistill import (
    Fact,
    Workspace,
    check_store,
    edit_trace,
    exports_of,
    favourite_trace,
    import_file,
    judge,
    list_runs,
    list_traces,
    open_store,
    rebuild_store,
    saved_selections,
    score_card,
    tag_trace,
)
from localdistill.core.errors import UsageError
from localdistill.core.events import Event, Warned
from localdistill.core.records import Reply
from localdistill.safety.journal import JournalWriter, closed_part
from localdistill.stages import grade, select
from localdistill.store.lines import said_now
from localdistill.store.replies import reply_line
from localdistill.workspace.run_folder import RunFolder
from tests.cli.test_cli import run
from tests.helpers import CountingServer, counting_server
from tests.old_workspaces import packed, unpack
from tests.stages.test_collecting import Chain, at, recipe_of
from tests.test_recovery import lose_the_store


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with counting_server() as made:
        yield made


def everything(workspace: Workspace) -> dict[str, Any]:
    """All that a workspace shows of its store."""
    store = open_store(workspace)
    traces, prompts = list(store.traces()), list(store.prompts())
    return {
        "prompts": [(prompt.id, prompt) for prompt in prompts], "traces": traces,
        "listing": list_traces(workspace, limit=10_000), "newest": list_traces(workspace, order="newest", limit=10_000),
        "columns": store.columns(), "counts": store.counts(), "replies": store.replies([("b2:asked", 0)]),
        "facts": store.facts([one.id for one in (*prompts, *traces)]),
        "selections": [(one, store.selection(one.name)) for one in saved_selections(workspace)],
        "lineage": {digest: store.lineage(digest) for trace in traces for digest in store.datasets_of(trace.id)},
        "cards": [score_card(workspace, folder.id) for folder in list_runs(workspace.runs)
                  if (folder.path / "stages" / "evaluate.json").exists()],
        "exports": [exports_of(workspace, folder.id) for folder in list_runs(workspace.runs)],
    }


def rows(path: Path, count: int) -> Path:
    """A file of answers."""
    answer = "<think>\nI add {} and one.\n</think>\n\nIt is {}."
    lines = [{"messages": [{"role": "user", "content": f"What is {n} + 1?"},
                           {"role": "assistant", "content": answer.format(n, n + 1)}]} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lived_in(root: Path, server: CountingServer) -> Workspace:
    """A workspace with everything that a store holds: asked and imported, graded, judged twice, marked, edited,
    selected, and with what a member was answered."""
    workspace, chain = Workspace(root), Chain(root, recipe_of(root, 5, at(server)))
    import_file(workspace, rows(root / "rows.jsonl", 7))
    asked = chain.collect()
    assert chain.run is not None
    writer = JournalWriter(chain.run.journal)
    reply = Reply("r", "complete", answer="yes", raw="yes")
    writer.append(said_now(reply_line(("b2:asked", 0), "replay", "m", reply, asked[0].id)))
    writer.close()
    context = chain.context()
    grade.run(context)
    select.run(context)
    store = open_store(workspace)
    store.add_lineage("b2:data", [(f"row {n}", trace.id) for n, trace in enumerate(asked)])
    store.save_selection("good", {"filters": []}, [asked[2].id, asked[0].id], {"verified": 3})
    store.save_selection("good", {"filters": ["x"]}, [asked[1].id], {})
    store.save_selection("good", {"filters": []}, [asked[2].id, asked[0].id], {"verified": 4})
    store.add_facts([Fact(asked[0].prompt_id, "difficulty", kind="label", value="hard", reason="long")])
    judge(workspace, asked[0].id, True, "fine")
    judge(workspace, asked[0].id, False, "no, \ud83d wrong")
    tag_trace(workspace, asked[1].id, ["odd", "long"])
    favourite_trace(workspace, asked[1].id)
    judge(workspace, edit_trace(workspace, asked[3].id, answer="It is 6, \ud83d.").id, True)
    return workspace


# --- the same again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["opened", "rebuilt", "rebuilt beside"])
def test_a_store_that_is_lost_comes_back_as_it_was(tmp_path: Path, server: CountingServer, way: str) -> None:
    workspace = lived_in(tmp_path, server)
    before = everything(workspace)
    assert before["facts"] and before["selections"] and before["lineage"] and all(before["replies"].values())
    if way != "rebuilt beside":
        lose_the_store(workspace)
    if way != "opened":
        made = rebuild_store(workspace)
        assert (made.prompts, made.traces) == (12, 13) and (made.aside is not None) == (way == "rebuilt beside")
    assert everything(workspace) == before
    assert sum(server.asked.values()) == 5 and check_store(workspace).is_whole


@pytest.mark.parametrize("borders", ["whole", "parts"])
def test_closed_journals_bring_the_same_back(
    tmp_path: Path, server: CountingServer, borders: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localdistill.core.borders import BORDERS

    if borders == "parts":
        monkeypatch.setattr(BORDERS, "open_bytes", 1)
        monkeypatch.setattr(BORDERS, "frame_bytes", 1)
        monkeypatch.setattr(BORDERS, "batch_rows", 2)
    workspace = lived_in(tmp_path, server)
    before = everything(workspace)
    for folder in list_runs(workspace.runs):
        folder.close_journal()
        assert closed_part(folder.journal).exists() and not folder.journal.exists()
    assert everything(workspace) == before, "closing takes nothing in again"
    lose_the_store(workspace)
    assert everything(workspace) == before


def test_a_finished_workspace_of_an_older_version_can_lose_its_store_once_it_was_written(tmp_path: Path) -> None:
    workspace = Workspace(unpack(packed()[0], tmp_path))
    first = next(one["trace_id"] for one in list_traces(workspace))
    judge(workspace, first, True)
    before = everything(workspace)
    assert len(before["cards"]) >= 1 and before["lineage"] and before["selections"]
    lose_the_store(workspace)
    assert everything(workspace) == before and check_store(workspace).is_whole


def test_what_a_clock_that_was_set_back_says_later_still_counts(
    tmp_path: Path, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    workspace = lived_in(tmp_path, server)
    first = next(one["trace_id"] for one in list_traces(workspace))
    judge(workspace, first, True)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: 1_000_000_000.0)
        judge(workspace, first, False, "after all")
    before = everything(workspace)
    assert [fact.passed for fact in before["facts"][first] if fact.by == "person"] == [False]
    lose_the_store(workspace)
    assert everything(workspace) == before


# --- with and without a copy ------------------------------------------------------------------------------------------


@pytest.mark.whole
def test_an_import_leaves_a_compressed_copy_unless_told_not_to(tmp_path: Path) -> None:
    workspace, file = Workspace(tmp_path), rows(tmp_path / "my rows.jsonl", 9)
    import_file(workspace, file)
    [copy] = (workspace.kept / "imports").iterdir()
    assert copy.name == "my_rows.jsonl-1.jsonl.zst" and copy.stat().st_size < file.stat().st_size
    other = Workspace(tmp_path / "other")
    import_file(other, file, is_copied=False)
    assert not list(other.kept.glob("imports/*")) and open_store(other).counts().traces == 9
    lose_the_store(other)
    found = check_store(other)
    assert not found.is_whole and found.lost == {"my rows.jsonl": 18}
    told = run("traces", cwd=other.root).stderr
    assert "18 prompts and traces are gone that were imported from my rows.jsonl" in told
    import_file(other, file)
    assert check_store(other).is_whole


def test_a_rebuilding_takes_over_what_is_in_no_journal(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    import_file(workspace, rows(tmp_path / "rows.jsonl", 9), is_copied=False)
    before = list_traces(workspace)
    made = rebuild_store(workspace)
    assert made.carried == 18 and [row["trace_id"] for row in list_traces(workspace)] == [
        row["trace_id"] for row in before]


# --- what is wrong is said --------------------------------------------------------------------------------------------


def test_a_check_names_what_is_missing_and_ends_with_1(tmp_path: Path, server: CountingServer) -> None:
    workspace = lived_in(tmp_path, server)
    assert run("store", "check", cwd=tmp_path).returncode == 0
    open_store(workspace)._rows("DELETE FROM traces WHERE seq IN (2, 3)")
    open_store(workspace)._rows("UPDATE facts SET number = 0.25 WHERE member = 'exact'")
    told = run("store", "check", "--json", cwd=tmp_path)
    kinds = {one["kind"]: one for one in json.loads(told.stdout)["kinds"]}
    assert told.returncode == 1 and kinds["traces"]["missing"] == 2 and kinds["facts"]["different"] == 5
    assert run("store", "rebuild", cwd=tmp_path).returncode == 0 and check_store(workspace).is_whole


def test_a_check_finds_what_is_in_no_journal_and_what_is_damaged(tmp_path: Path, server: CountingServer) -> None:
    workspace = lived_in(tmp_path, server)
    shutil.rmtree(workspace.kept / "imports")
    found = check_store(workspace)
    assert not found.is_whole and {one.kind: one.only_stored for one in found.kinds}["traces"] == 7
    workspace.store_path.write_bytes(workspace.store_path.read_bytes()[:-40_000])
    assert "damaged" in check_store(workspace).problems[0]


def test_nothing_is_rebuilt_while_a_run_lives(tmp_path: Path, server: CountingServer) -> None:
    workspace = lived_in(tmp_path, server)
    with RunFolder(workspace.runs / "t-1").hold(), pytest.raises(UsageError, match="t-1 is running"):
        rebuild_store(workspace)


LOSER = """
import os, sys
from pathlib import Path
from localdistill import Workspace, import_file
from localdistill.store import own_journal
remembered = own_journal.remember
def die(*args):
    remembered(*args)
    os._exit(9)
own_journal.remember = die
import_file(Workspace(Path(sys.argv[1])), Path(sys.argv[2]), is_copied=sys.argv[3] == "copied")
"""


@pytest.mark.whole  # all rows are in one commit
@pytest.mark.parametrize("damage", ["gone", "halved", "flipped"])
@pytest.mark.parametrize("copied", ["copied", "not copied"])
def test_rows_that_a_damaged_log_lost_come_back_or_are_counted(tmp_path: Path, damage: str, copied: str) -> None:
    """An import dies behind its commit: what is in the write-ahead log only."""
    events: list[Event] = []
    workspace, file = Workspace(tmp_path, events.append), rows(tmp_path / "rows.jsonl", 40)
    subprocess.run([sys.executable, "-c", LOSER, str(tmp_path), str(file), copied], check=False)
    log = workspace.store_path.with_name("localdistill.duckdb.wal")
    data = bytearray(log.read_bytes())
    assert len(data) > 1000
    if damage == "gone":
        log.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        log.write_bytes(data[:len(data) // 2] if damage == "halved" else data)
    store = open_store(workspace)
    told = "\n".join(event.text for event in events if isinstance(event, Warned))
    if copied == "copied":
        assert store.counts().traces == 40 and "had lost 40 replies" in told
    else:
        assert store.counts().traces == 0 and "80 prompts and traces are gone that were imported from rows" in told
