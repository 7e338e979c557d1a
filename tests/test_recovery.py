"""What a journal holds is asked once, whoever asks next and whatever became of the store; and what is missing is said,
with a command that really brings it back."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from localdistill import Workspace, browse, import_file, list_traces, missing_traces, open_store, plan_pruning, remove
from localdistill.core.errors import PartialResult, StoreError, StoreReadOnly
from localdistill.core.events import Noted, Warned
from localdistill.safety.journal import JournalWriter, read
from localdistill.stages import collect, grade, select
from localdistill.stages.outputs import SelectOutput, read_output
from localdistill.store import Store, session
from localdistill.store.pages import NO_PROMPT
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import CountingServer, counting_server, write_questions
from tests.stages.test_collecting import Chain, at, recipe_of
from tests.store.test_store import filled, ids, journal_of, trace_number


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with counting_server() as made:
        yield made


def lose_the_store(workspace: Workspace) -> None:
    for path in workspace.root.glob("localdistill.duckdb*"):
        path.unlink()


def lose_all_but_replies(workspace: Workspace) -> None:
    """What is left of a workspace from before there were journals of everything."""
    lose_the_store(workspace)
    shutil.rmtree(workspace.kept)


def collected(root: Path, server: CountingServer, count: int = 6, more: str = "") -> Chain:
    chain = Chain(root, recipe_of(root, count, at(server), collecting=more))
    chain.collect()
    assert sum(server.asked.values()) == count
    return chain


def said(chain: Chain) -> str:
    return "\n".join(event.text for event in chain.events if isinstance(event, Noted | Warned))


# --- asked once -------------------------------------------------------------------------------------------------------


def test_what_a_killed_run_left_in_its_journal_is_not_asked_by_the_next_run(
    tmp_path: Path, server: CountingServer
) -> None:
    first = collected(tmp_path, server)
    lose_the_store(first.context().workspace)
    second = Chain(tmp_path, first.recipe)
    traces = second.collect()
    assert len(traces) == 6 and sum(server.asked.values()) == 6
    assert "6 replies that interrupted runs had left" in said(second)
    assert len(list(second.context().store.pairs([trace.id for trace in traces]))) == 6, "with their prompts"


def test_a_damaged_line_costs_one_answer_and_is_said(tmp_path: Path, server: CountingServer) -> None:
    first = collected(tmp_path, server)
    assert first.run is not None
    lines = first.run.journal.read_bytes().splitlines(keepends=True)
    first.run.journal.write_bytes(b"".join([lines[0], lines[1][:-20] + b"\n", *lines[2:], lines[0][:30]]))
    lose_the_store(first.context().workspace)
    second = Chain(tmp_path, first.recipe)
    assert len(second.collect()) == 6 and sum(server.asked.values()) == 7
    assert "1 lines of the journals are damaged" in said(second)
    [missing] = missing_traces(Workspace(tmp_path))
    assert missing.text == "t-1: 1 lines of its journal are damaged or gone"


def test_a_journal_that_cannot_be_read_stops_nobody_and_is_said(tmp_path: Path, server: CountingServer) -> None:
    (tmp_path / "runs" / "odd-1" / "replies.jsonl").mkdir(parents=True)
    chain = collected(tmp_path, server)
    assert "cannot be read" in said(chain)
    assert list_traces(Workspace(tmp_path))
    assert "odd-1: its journal cannot be read" in missing_traces(Workspace(tmp_path))[0].text


def test_a_run_that_died_keeps_no_question_to_itself(tmp_path: Path, server: CountingServer) -> None:
    chain = Chain(tmp_path, recipe_of(tmp_path, 3, at(server)))
    context = chain.context()
    asked: list[str] = []
    claim = Store.claim
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "claim", lambda self, some, run: (asked.extend(some), claim(self, some, run))[1])
        chain.collect()
    lose_the_store(context.workspace)
    shutil.rmtree(context.run.path)
    dead, living = (RunFolder(tmp_path / "runs" / name) for name in ("dead-1", "living-1"))
    living.path.mkdir(parents=True)
    with living.hold():
        store = Store(context.workspace.store_path)
        store.claim(asked[:2], dead.id)
        store.claim(asked[2:], living.id)
        with pytest.raises(PartialResult, match="1 of 3 questions"):
            Chain(tmp_path, chain.recipe).collect()
    assert len(Chain(tmp_path, chain.recipe).collect()) == 3


def test_what_another_run_answers_meanwhile_is_not_asked(tmp_path: Path, server: CountingServer) -> None:
    """The other run's journal grows after this one looked, and its claims are given back before this one asks."""
    first = collected(tmp_path, server)
    assert first.run is not None
    journal = first.run.journal.read_bytes()
    lose_the_store(first.context().workspace)
    first.run.journal.write_bytes(b"")
    second, claim = Chain(tmp_path, first.recipe), Store.claim

    def claim_late(self: Store, *asked: Any) -> dict[str, str]:
        assert first.run is not None
        first.run.journal.write_bytes(journal)
        return claim(self, *asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "claim", claim_late)
        assert len(second.collect()) == 6
    assert sum(server.asked.values()) == 6


def test_two_that_take_in_the_same_journal_store_and_count_once(tmp_path: Path) -> None:
    path, caught = tmp_path / "replies.jsonl", []
    journal_of(path, range(40))
    path.write_bytes(path.read_bytes() + b"00000000 {}\n")
    stores = [Store(tmp_path / "s.duckdb") for _ in range(4)]
    threads = [threading.Thread(target=lambda store=store: caught.append(store.catch_up([path]))) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(c.rows for c in caught), sum(c.damaged for c in caught)) == (40, 1)
    assert [lack.damaged for lack in stores[0].lacking([path])] == [1]


def test_a_journal_that_was_taken_in_is_not_opened_again(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    journal_of(path, range(3))
    assert store.catch_up([path]).rows == 3
    size = path.stat().st_size
    path.unlink()
    path.mkdir()
    path.rmdir()
    path.write_bytes(b"\0" * size)
    assert store.catch_up([path]).damaged == 0, "it is as long as the store knows: only its size was looked at"


# --- a damaged or lost store ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["deleted", "empty", "cut off", "text", "a part is overwritten"])
def test_every_hint_leads_back_to_a_whole_workspace(tmp_path: Path, server: CountingServer, damage: str) -> None:
    chain, workspace = collected(tmp_path, server), Workspace(tmp_path)
    file, before = workspace.store_path, list_traces(Workspace(tmp_path))
    whole = file.read_bytes()
    match damage:
        case "deleted":
            file.unlink()
        case "empty":
            file.write_bytes(b"")
        case "cut off":
            file.write_bytes(whole[: len(whole) // 2])
        case "text":
            file.write_text("Shopping: milk, bread\n")
        case "a part is overwritten":
            file.write_bytes(whole[:12288] + bytes(8192) + whole[20480:])
    if damage != "deleted":
        with pytest.raises(StoreError, match="damaged") as caught:
            list_traces(workspace)
        moved = re.search(r"mv (\S+) (\S+);", caught.value.hint)
        assert moved is not None
        shutil.move(*moved.groups())
    assert len(before) == 6 and list_traces(workspace) == before and missing_traces(workspace) == []
    context = chain.context()
    grade.run(context)
    select.run(context)
    assert read_output(context.run, SelectOutput).sets["teacher"].kept == 6 and sum(server.asked.values()) == 6


def test_prompts_of_an_old_workspace_come_back_as_the_hint_says(tmp_path: Path, server: CountingServer) -> None:
    chain, workspace = collected(tmp_path, server), Workspace(tmp_path)
    lose_all_but_replies(workspace)
    rows = list_traces(workspace)
    assert len(rows) == 6 and {row["question"] for row in rows} == {None}
    browser = browse(workspace)
    browser.resolve()
    assert {row.question for row in browser.page(0, 10)} == {NO_PROMPT}
    [missing] = missing_traces(workspace)
    assert missing.text == "6 of 6 traces are here without their prompt" and missing == browser.missing[0]
    for stage in (grade.run, select.run):
        with pytest.raises(StoreError, match="6 of 6 traces are here without their prompt") as caught:
            stage(chain.context())
        assert "localdistill resume t-1" in caught.value.hint
    assert re.search(r"localdistill resume (\S+):", missing.hint).group(1) == "t-1"  # type: ignore[union-attr]
    traces = chain.collect()
    context = chain.context()
    grade.run(context)
    select.run(context)
    assert len(traces) == 6 and sum(server.asked.values()) == 6 and missing_traces(workspace) == []
    assert read_output(context.run, SelectOutput).sets["teacher"].kept == 6


def test_importing_the_questions_brings_prompts_back_too(tmp_path: Path, server: CountingServer) -> None:
    chain, workspace = collected(tmp_path, server), Workspace(tmp_path)
    lose_all_but_replies(workspace)
    assert "localdistill import" in missing_traces(workspace)[0].hint
    import_file(workspace, tmp_path / "q.jsonl")
    assert missing_traces(workspace) == [] and len(chain.collect()) == 6


def test_answers_find_a_prompt_whose_reference_was_changed_meanwhile(tmp_path: Path, server: CountingServer) -> None:
    chain, workspace = collected(tmp_path, server), Workspace(tmp_path)
    lose_all_but_replies(workspace)
    questions = write_questions(tmp_path / "q.jsonl", 6)
    questions.write_text(questions.read_text().replace('"reference": "10"', '"reference": "ten"'))
    traces = chain.collect()
    context = chain.context()
    pairs = {prompt.question: prompt.reference for prompt, _ in context.store.pairs([trace.id for trace in traces])}
    assert pairs["Double 5"] == "ten" and pairs["Double 4"] == "8"
    assert sum(server.asked.values()) == 6 and missing_traces(workspace) == []


def test_second_tries_go_on_after_the_store_was_lost(tmp_path: Path, server: CountingServer) -> None:
    chain = collected(tmp_path, server, more="samples = 2\nuntil_verified = true")
    lose_the_store(Workspace(tmp_path))
    assert len(chain.collect()) == 6 and sum(server.asked.values()) == 6


def test_where_nobody_may_write_one_can_still_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, connect = Workspace(tmp_path), session._connect
    filled(tmp_path, 3).path.rename(workspace.store_path)
    journal_of(workspace.runs / "r-1" / "replies.jsonl", range(3, 5))

    def refuse(path: Path, read_only: bool) -> duckdb.DuckDBPyConnection:
        if not read_only:
            raise duckdb.IOException(f'IO Error: Cannot open file "{path}": Read-only file system')
        return connect(path, read_only)

    monkeypatch.setattr(session, "_connect", refuse)
    assert len(list_traces(workspace)) == 3
    assert "r-1: 2 lines of its journal are not in the store" in [one.text for one in missing_traces(workspace)]
    with pytest.raises(StoreReadOnly, match="cannot be written") as caught:
        open_store(workspace).add_traces([trace_number(9)])
    assert "copy the workspace" in caught.value.hint


# --- pruning ----------------------------------------------------------------------------------------------------------


def kept(workspace: Workspace) -> dict[str, str]:
    return {item.name: item.kept_by for item in plan_pruning(workspace, keep_days=0) if item.kind == "run"}


def test_a_run_goes_only_when_the_store_holds_what_it_holds(tmp_path: Path, server: CountingServer) -> None:
    chain, workspace = collected(tmp_path, server), Workspace(tmp_path)
    assert chain.run is not None
    chain.run.write_status({"state": "finished"})
    assert kept(workspace) == {"t-1": ""}
    lose_all_but_replies(workspace)
    assert "brings back prompts" in kept(workspace)["t-1"]
    assert open_store(workspace).counts().traces == 6, "its journal was taken in first"
    chain.collect()
    chain.run.journal.write_bytes(chain.run.journal.read_bytes() + b"12345678 damaged\n")
    assert kept(workspace)["t-1"] == "1 lines of its journal are damaged or gone"
    workspace.store_path.write_text("no store")
    assert "may not be in the store" in kept(workspace)["t-1"]


@pytest.mark.parametrize("state", ["failed", "partial", "paused", "cancelled", "running", "starting", "odd"])
def test_whatever_did_not_finish_can_be_resumed(tmp_path: Path, server: CountingServer, state: str) -> None:
    context = Chain(tmp_path, recipe_of(tmp_path, 1, at(server))).context()
    context.run.write_status({"state": state})
    assert kept(context.workspace) == {"t-1": "can be resumed"}


def test_a_finished_run_with_questions_left_can_be_resumed(tmp_path: Path, server: CountingServer) -> None:
    server.broken = lambda number: number == 2
    chain = Chain(tmp_path, recipe_of(tmp_path, 4, at(server), collecting="may_fail = 0.5"))
    assert len(chain.collect()) == 3 and chain.run is not None
    chain.run.write_status({"state": "finished"})
    assert kept(Workspace(tmp_path)) == {"t-1": "can be resumed: 1 questions have no answer"}


def test_what_changed_since_it_was_listed_stays(tmp_path: Path, server: CountingServer) -> None:
    chain, workspace = collected(tmp_path, server), Workspace(tmp_path)
    assert chain.run is not None
    chain.run.write_status({"state": "finished"})
    items = plan_pruning(workspace, keep_days=0)
    with chain.run.hold():
        assert [item.kept_by for item in remove(workspace, items)] == ["running"]
    writer = JournalWriter(chain.run.journal)
    [record, *_] = [record for record, _ in read(chain.run.journal)]
    writer.append({**record, "trace": {**record["trace"], "id": ids(1)[0], "prompt_id": "b2:elsewhere"}})
    writer.close()
    assert [item.name for item in remove(workspace, items)] == [], "its new reply was taken in first"
    assert ids(1)[0] in open_store(workspace).known_traces(ids(1)) and not chain.run.path.exists()


def test_a_run_of_which_only_the_journal_is_left_is_taken_in(tmp_path: Path, server: CountingServer) -> None:
    """Of a run that was removed by hand only the journal may be left."""
    chain = collected(tmp_path, server)
    assert chain.run is not None
    for path in chain.run.path.rglob("*"):
        if path.is_file() and path != chain.run.journal:
            path.unlink()
    lose_the_store(Workspace(tmp_path))
    again = Chain(tmp_path, chain.recipe)
    context = again.context()
    collect.run(context)
    assert len(context.run.ids("collect")) == 6 and sum(server.asked.values()) == 6
