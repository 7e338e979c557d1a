"""What a workspace held and holds no more is missed, be it gone, cut at the end of a line, or another one's: the lines
that are left are whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from localdistill import (
    LocalDistillError,
    RunFolder,
    Workspace,
    exports_of,
    forget,
    import_file,
    judge,
    list_traces,
    missing_traces,
    open_store,
    plan_forgetting,
    plan_pruning,
    quarantined,
    verify_workspace,
)
from localdistill.cli.ending import run as command
from localdistill.core.events import Noted, RunFinished, RunStarted
from localdistill.recipe import parse_recipe
from localdistill.runs.supervisor import Recorder
from localdistill.safety.journal import JournalWriter, closed_part
from localdistill.safety.written_size import side_of
from localdistill.spending.ledger import SpendLedger
from localdistill.stages.rechecking import read_probe
from localdistill.store import Store
from localdistill.store.lines import trace_line
from localdistill.workspace.quarantine import quarantine
from localdistill.workspace.retiring import close_journals
from tests.test_pruning import RECIPE, a_prompt, finished_run
from tests.test_pruning import a_trace as trace_of
from tests.tui import prepared


def ended_run(workspace: Workspace, calls: int = 3) -> RunFolder:
    """A run that ended as the supervisor ends one, with a file of each kind that only grows."""
    run = finished_run(workspace, answers=calls)
    with closing(SpendLedger(run.calls, 5.0)) as ledger:
        for _ in range(calls):
            ticket = ledger.reserve(1000, "host/m")
            assert ticket is not None
            ledger.settle(ticket, 900 + calls)
    recorder = Recorder(run, "r")
    recorder.take(RunStarted(run.id, "r", ("collect",)))
    recorder.take(Noted(f"run {run.id}"))
    run.close_journal()
    recorder.end(RunFinished("finished", 1.0, 0))
    Store(workspace.store_path).catch_up(workspace.journals())
    return run


def killed_run(workspace: Workspace, answers: int = 4, has_been_read: bool = True) -> RunFolder:
    """A run that was killed while it collected: its journal is open, and its status says that it runs."""
    run = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
    open_store(workspace).add_prompts([a_prompt(number) for number in range(answers)])
    with closing(JournalWriter(run.journal)) as journal:
        for number in range(answers):
            journal.append(trace_line(trace_of(number, f"{run.id} says")))
    SpendLedger(run.calls).close()
    recorder = Recorder(run, "r")
    recorder.take(RunStarted(run.id, "r", ("collect",)))
    recorder.take(Noted("it collects"))
    quarantine_more_behind(run)
    recorder.flush(force=True)
    if has_been_read:
        open_store(workspace)
    return run


def odd(workspace: Workspace) -> list[str]:
    """What is not whole, in one line each."""
    return [f"{one.name}: {'; '.join(one.problems)}" for one in verify_workspace(workspace) if one.state != "whole"]


def without_a_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def emptied(path: Path) -> None:
    path.write_bytes(b"")


HARMS: tuple[Callable[[Path], object], ...] = (Path.unlink, emptied, link_to_nothing)


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["replies.jsonl.zst", "quarantine.jsonl", "events.jsonl"])
def test_a_file_of_a_run_that_ended_is_missed(tmp_path: Path, name: str, harm: Callable[[Path], object]) -> None:
    workspace = Workspace(tmp_path)
    run = ended_run(workspace)
    assert odd(workspace) == [] and run.lost_since(name) == ""
    harm(run.path / name)
    [said] = odd(workspace)
    assert said.startswith("r-1: ") and (name in said) and ("is gone" in said or "lost" in said)


@pytest.mark.parametrize("name", ["replies.jsonl.zst", "quarantine.jsonl", "events.jsonl", "calls.jsonl"])
def test_a_file_that_is_another_runs_is_not_taken_for_this_ones(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path)
    run, other = ended_run(workspace), ended_run(workspace, 5)
    quarantine_more(other)
    (run.path / name).write_bytes((other.path / name).read_bytes())
    [said] = [line for line in odd(workspace) if line.startswith("r-1")]
    assert name in said or "ledger of calls" in said


@pytest.mark.parametrize("has_been_read", [True, False])
@pytest.mark.parametrize("kept", range(4))
def test_answers_that_are_gone_from_the_end_of_a_killed_runs_journal_are_missed(
    tmp_path: Path, kept: int, has_been_read: bool
) -> None:
    """Whole lines are left, be the store ahead of them, behind them or just where they end now."""
    workspace = Workspace(tmp_path)
    run = killed_run(workspace, has_been_read=has_been_read)
    assert odd(workspace) == [] and missing_traces(workspace) == [] and list(run.lost()) == []
    lines = run.journal.read_bytes().splitlines(keepends=True)
    run.journal.write_bytes(b"".join(lines[:kept]))
    if not has_been_read:
        open_store(workspace)
    size, whole = sum(map(len, lines[:kept])), sum(map(len, lines))
    gone = f"has lost {whole - size:,} of {whole:,} bytes" if kept else "is gone"
    assert odd(workspace) == [f"r-1: replies.jsonl {gone}"]
    [said] = missing_traces(workspace)
    assert said.text == f"r-1: its journal {gone}" and "localdistill resume r-1 asks" in said.hint
    assert list(run.lost()) == [f"replies.jsonl {gone}"]
    [item] = [one for one in plan_pruning(workspace, keep_days=0) if one.kind == "run"]
    assert gone in item.kept_by
    with closing(JournalWriter(run.journal)):
        assert list(run.lost()) == [], "who goes on keeps what is there now"


@pytest.mark.parametrize("harm", HARMS)
def test_an_open_journal_that_is_gone_is_missed(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    workspace = Workspace(tmp_path)
    run = killed_run(workspace)
    harm(run.journal)
    [said] = odd(workspace)
    assert said.startswith("r-1: ") and ("replies.jsonl is gone" in said or "replies.jsonl cannot be read" in said)
    assert len(missing_traces(workspace)) == 1


def test_a_journal_that_was_closed_after_its_run_died_is_missed_as_well(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = killed_run(workspace)
    close_journals(workspace)
    assert not run.journal.exists() and odd(workspace) == []
    closed_part(run.journal).write_bytes(b"")
    assert odd(workspace) == ["r-1: replies.jsonl is gone"]


def test_a_size_that_cannot_be_read_is_said_and_written_anew_by_who_goes_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = killed_run(workspace)
    side_of(run.journal).write_bytes(b"00000000 {}")
    assert odd(workspace) == ["r-1: replies.jsonl may have lost its end: replies.jsonl.size, which tells, is not what "
                              "was written"]
    with closing(JournalWriter(run.journal)):
        assert odd(workspace) == []


@pytest.mark.parametrize("name", ["events.jsonl", "quarantine.jsonl"])
def test_other_files_of_a_killed_run_are_missed_too(tmp_path: Path, name: str) -> None:
    workspace = Workspace(tmp_path)
    run = killed_run(workspace)
    without_a_line(run.path / name)
    [said] = odd(workspace)
    assert name in said and [name in one for one in run.lost()] == [True]


def test_a_run_that_ends_leaves_no_size_beside_its_journal(tmp_path: Path) -> None:
    run = killed_run(Workspace(tmp_path))
    assert side_of(run.journal).exists()
    run.close_journal()
    Recorder(run, "r").end(RunFinished("finished", 1.0, 0))
    assert not side_of(run.journal).exists() and list(run.lost()) == []
    closed_part(run.journal).unlink()
    assert list(run.lost()) == ["replies.jsonl.zst is gone"]


def test_a_status_of_another_run_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run, other = ended_run(workspace), ended_run(workspace)
    other.write_status({"state": "failed"})
    (run.path / "status.json").write_bytes((other.path / "status.json").read_bytes())
    assert run.status().problem == "status.json belongs to another run" and run.status().state == "finished"


def quarantine_more(run: RunFolder) -> None:
    from localdistill.core.records import Reply

    data = run.quarantine.read_bytes()
    run.quarantine.unlink()
    quarantine(run.quarantine, Reply("other", "error", raw="<p>", error="no JSON"), "b2:p", "t")
    run.quarantine.write_bytes(run.quarantine.read_bytes() + data)


def test_a_run_that_goes_on_adds_to_what_it_held_and_nothing_is_missed(tmp_path: Path) -> None:
    run = ended_run(Workspace(tmp_path))
    recorder = Recorder(run, "r")
    recorder.take(RunStarted(run.id, "r", ("grade",)))
    assert run.damaged_lines() == 0
    quarantine_more_behind(run)
    recorder.end(RunFinished("finished", 1.0, 0))
    assert odd(Workspace(tmp_path)) == []
    run.quarantine.write_bytes(run.quarantine.read_bytes()[:-40])
    assert "quarantine.jsonl has lost 40 of" in odd(Workspace(tmp_path))[0]
    rows, lost = quarantined(run)
    assert len(rows) == 1 and "has lost 40 of" in lost


def quarantine_more_behind(run: RunFolder) -> None:
    from localdistill.core.records import Reply

    quarantine(run.quarantine, Reply("more", "error", raw="<p>", error="no JSON"), "b2:p", "t")


def test_what_was_read_of_a_run_does_not_count_what_nothing_is_taken_from(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = ended_run(workspace)
    before = verify_workspace(workspace)
    for name in ("lock", "log.txt"):
        (run.path / name).write_bytes(b"anything" * 99)
    assert verify_workspace(workspace) == before


def test_forgetting_is_no_loss(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = ended_run(workspace)
    forget(workspace, plan_forgetting(workspace, trace_of(0, f"{run.id} says").prompt_id))
    assert odd(workspace) == []


def imported(root: Path) -> Workspace:
    """A workspace with a copy of what was imported, and an own journal that is open."""
    rows = [{"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
            for n in range(4)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    workspace = Workspace(root)
    import_file(workspace, root / "rows.jsonl")
    for one in list_traces(workspace):
        judge(workspace, one["trace_id"], True)
    assert odd(workspace) == []
    return workspace


@pytest.mark.parametrize("is_opened", [False, True])
def test_a_journal_that_was_cut_at_the_end_of_a_line_is_missed_before_and_after_a_look(
    tmp_path: Path, is_opened: bool
) -> None:
    workspace = imported(tmp_path)
    without_a_line(Store(workspace.store_path).journal)
    if is_opened:
        list_traces(workspace)
        assert missing_traces(workspace)[0].text == ("journals/localdistill.jsonl: 1 lines of its journal are damaged "
                                                     "or gone")
    [said] = odd(workspace)
    assert said.startswith("localdistill.jsonl: localdistill.jsonl ")
    assert "does not hold what the store has read in it" in said or "lines that are damaged or gone" in said


def test_half_a_line_behind_a_journal_is_said(tmp_path: Path) -> None:
    workspace = imported(tmp_path)
    path = Store(workspace.store_path).journal
    path.write_bytes(path.read_bytes() + b"\xff half")
    assert odd(workspace) == ["localdistill.jsonl: localdistill.jsonl ends in the middle of a line"]


@pytest.mark.parametrize("harm", HARMS)
def test_the_copy_of_an_import_is_missed(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    workspace = imported(tmp_path)
    harm(closed_part(tmp_path / "journals/imports/rows.jsonl-1.jsonl"))
    assert odd(workspace) == ["rows.jsonl-1.jsonl: rows.jsonl-1.jsonl is gone"]


def test_a_store_that_is_a_link_to_nowhere_is_not_an_empty_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = imported(tmp_path)
    link_to_nothing(workspace.store_path)
    for words in (["selections"], ["traces"], ["status"]):
        assert command([*words, "-w", str(tmp_path)]) == 1
        assert "is a link to /nowhere/at/all, which cannot be read" in capsys.readouterr().err
    assert any("which cannot be read" in line for line in odd(workspace))


def test_a_probe_that_is_a_link_to_nothing_is_damaged_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert read_probe(path) is None
    path.symlink_to("/nowhere/at/all")
    with pytest.raises(LocalDistillError, match=r"teachers/a\.json is damaged: it is a link to nothing"):
        read_probe(path)


def test_licences_that_the_store_cannot_say_are_not_called_none(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    run.write_ids("select", ["b2:a"])
    assert exports_of(workspace)[0].licences_told == "none stated"
    workspace.store_path.write_bytes(b"no database" * 999)
    [made] = exports_of(workspace)
    assert made.licences is None and made.licences_told == "not known"
    assert any(text.startswith("licences: ") for text in made.unknown)


def test_a_recipe_that_is_a_folder_is_told_in_plain_words(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
    (run.path / "resolved.json").unlink()
    (run.path / "resolved.json").mkdir()
    with pytest.raises(LocalDistillError) as said:
        run.recipe()
    assert said.value.message == "the recipe of run r-1 cannot be read: resolved.json: is a directory"


def test_a_run_that_stays_says_what_of_it_is_damaged(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = ended_run(workspace)
    (run.path / "request.json").unlink()
    (run.path / "request.json").mkdir()
    [item] = plan_pruning(workspace, keep_days=1)
    assert item.kept_by == "younger than 1 days; request.json cannot be read"
