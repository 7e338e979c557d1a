"""Batch endpoints against a server that speaks both forms: nothing is paid for twice, lost, or taken for more than it
is, whatever breaks and whenever."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from localdistill import RunFolder, Workspace, parse_recipe, verify_run, verify_workspace
from localdistill.core.errors import (
    BudgetReached,
    DiskFull,
    EngineError,
    EngineUnavailable,
    LocalDistillError,
    UsageError,
)
from localdistill.core.events import Cancel, Event, Noted, Progressed, Warned, silent
from localdistill.core.records import Reply
from localdistill.engines.wire.batch import answering as batches
from localdistill.engines.wire.batch import calls as batch_calls
from localdistill.engines.wire.batch import protocols as batch_protocols
from localdistill.engines.wire.batch import register as batch_register
from localdistill.engines.wire.batch import results as batch_results
from localdistill.engines.wire.batch import states as batch_states
from localdistill.engines.wire.batch.answering import cancel_batches
from localdistill.spending.ledger import NANO, SpendLedger
from tests.faults import BatchPlan, FaultServer, Limit, Rule, Script, Step, fault_server, refused_url
from tests.faults.asking import KINDS, Engine, ask, doubles, engine_for, is_right, request_for
from tests.helpers import files_of_at_most, wait_for, write_questions
from tests.test_pruning import RECIPE

kinds = pytest.mark.parametrize("kind", KINDS)
PRICES: dict[str, Any] = {"usd_per_million_input": 1.0, "usd_per_million_output": 2.0}
KEY = "sk-canary-0123456789"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's clock stands still, and no test writes a journal."""
    monkeypatch.setattr(batch_protocols, "_SLACK_S", 1e9)
    monkeypatch.setattr(batches, "_JOURNALLED_S", 0.0)


def engine_of(server: FaultServer, kind: str, folder: Path | None, ledger: SpendLedger | None = None,
              **options: Any) -> Engine:
    engine = engine_for(server.url, kind, **{"batch": True, "batch_poll_s": 0.01, "finish_s": 0.1, **options})
    engine.folder = folder
    engine.ledger = ledger or SpendLedger()
    return engine


def handed_in(server: FaultServer) -> int:
    """How many batches the provider has."""
    return len(server._desk.batches)


def made(server: FaultServer, method: str, ending: str) -> int:
    """How many calls of a kind came in."""
    return sum(r.method == method and r.path.partition("?")[0].endswith(ending) for r in server.requests)


def tamper(server: FaultServer, change: Callable[[str, str, int, bytes], tuple[int, bytes]]) -> None:
    """Let `change` (method, path, status, body) rewrite what the batch endpoints answer."""
    desk, original = server._desk, server._desk.answer

    def answer(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes] | None:
        told = original(method, path, headers, body)
        return told and change(method, path, *told)

    desk.answer = answer  # type: ignore[method-assign]


def is_results(path: str) -> bool:
    return path.endswith(("/results", "/content"))


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def after(count: int) -> Cancel:
    """A cancel that is asked for when it was looked at so many times."""
    left = [count]

    def asked() -> bool:
        left[0] -= 1
        return left[0] < 0

    return Cancel(asked)


def when(condition: Callable[[], bool]) -> Cancel:
    return Cancel(condition)


def texts(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Noted | Warned))


# ---- the whole way


@kinds
def test_a_batch_is_handed_in_waited_for_and_read(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(polls=3)))
    events: list[Event] = []
    ledger = SpendLedger(tmp_path / "run" / "calls.jsonl", cap_usd=10.0)
    replies = ask(engine_of(server, kind, tmp_path / "batches", ledger, **PRICES), doubles(20), events.append)
    assert len(replies) == 20 and all(map(is_right, replies))
    assert handed_in(server) == 1 and files_of(tmp_path / "batches") == []
    assert [json.loads(reply.raw).get("model") for reply in replies] == ["loopback"] * 20
    assert {reply.trace_kind for reply in replies} == {"raw" if kind == "openai_compatible" else "summary"}
    costs = [reply.cost_usd for reply in replies]
    billed = sum(r.prompt_tokens * 1.0 + r.completion_tokens * 2.0 for r in server.requests) / 1e6
    assert sum(filter(None, costs)) == pytest.approx(billed) == pytest.approx(ledger.spent_usd)
    assert ledger.reserved_nano == ledger.assumed_nano == 0
    shown = [event for event in events if isinstance(event, Progressed)]
    assert shown[-1].total == shown[-1].done == 20 and "waiting for batch" in shown[0].label


@kinds
def test_custom_ids_are_short_and_safe_whatever_requests_are_called(server: FaultServer, kind: str) -> None:
    strange = [f"Double {n}" for n in range(3)] + ["böse/" + "x" * 300 + "\u2028 7"]
    replies = ask(engine_of(server, kind, None), strange)
    assert {reply.request_id for reply in replies} == set(strange)
    names = [item["custom_id"] for batch in server._desk.batches.values() for item in batch.items]
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name) for name in names)
    assert len(names) == 4 and handed_in(server) == 1


@kinds
def test_the_key_goes_along_and_stays_out_of_every_file(
        server: FaultServer, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_BATCH_KEY", KEY)
    server.play(Script(default=Step(answer=f"your key is {KEY}"), batch=BatchPlan(never_done=True)))
    polled = when(lambda: made(server, "GET", "_1") > 1)
    ask(engine_of(server, kind, tmp_path, api_key_env="TEST_BATCH_KEY"), doubles(2), cancel=polled)
    assert files_of(tmp_path) and not any(KEY in path.read_text() for path in tmp_path.iterdir())
    server.play(Script(default=Step(answer=f"your key is {KEY}")))
    replies = ask(engine_of(server, kind, tmp_path, api_key_env="TEST_BATCH_KEY"), doubles(2))
    assert all(KEY in seen.key for seen in server.requests if seen.method != "BATCH")
    assert len(replies) == 2 and not any(KEY in reply.raw + reply.answer for reply in replies)


# ---- restarts


@kinds
def test_a_restart_finds_its_batch_and_sends_nothing_again(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    events: list[Event] = []
    calls = tmp_path / "run" / "calls.jsonl"
    polled = when(lambda: made(server, "GET", "_1") > 1)
    first = SpendLedger(calls, 1.0)
    assert ask(engine_of(server, kind, tmp_path / "b", first, **PRICES), doubles(5), events.append, polled) == []
    assert "localdistill resume" in texts(events) and first.reserved_nano > 0
    first.close()
    server.play(Script())
    again = SpendLedger(calls, 1.0)
    assert again.assumed_nano > 0
    replies = ask(engine_of(server, kind, tmp_path / "b", again, **PRICES), doubles(5))
    assert sorted(map(is_right, replies)) == [True] * 5
    assert handed_in(server) == 1 and files_of(tmp_path / "b") == []
    assert again.assumed_nano == 0 and again.spent_usd == pytest.approx(server.billed_usd(1, 2))


@pytest.mark.parametrize("prices", [PRICES, {}])
def test_a_batch_whose_file_is_gone_is_said_counted_as_spent_and_asked_again(
        server: FaultServer, tmp_path: Path, prices: dict[str, Any]) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    workspace = Workspace(tmp_path)
    run = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
    polled, events = when(lambda: made(server, "GET", "_1") > 1), list[Event]()
    first = SpendLedger(run.calls, 1.0 if prices else None)
    ask(engine_of(server, KINDS[0], workspace.batches, first, **prices), doubles(3), cancel=polled)
    first.close()
    assert [one.state for one in verify_workspace(workspace)] == ["whole", "whole"]
    (file,) = workspace.batches.glob("*.json")
    file.unlink()
    for found in (verify_workspace(workspace), verify_run(workspace, run.id)):
        [said] = [one for one in found if one.state != "whole"]
        assert (said.kind, said.name, said.label, said.state) == ("batch", file.name, run.id, "missing")
        assert "3 requests" in said.problems[0] and f"localdistill resume {run.id}" in said.hint
    server.play(Script())
    again = SpendLedger(run.calls, 1.0 if prices else None)
    unknown = again.assumed_nano
    assert bool(unknown) == bool(prices)
    replies = ask(engine_of(server, KINDS[0], workspace.batches, again, **prices), doubles(3), events.append)
    assert len(replies) == 3 and all(map(is_right, replies)) and handed_in(server) == 2
    assert f"a batch of 3 requests was handed in before, and {file.name}, which remembered it, is gone" in texts(events)
    assert again.assumed_nano == unknown, "what the lost one may have cost stays counted"
    again.close()
    assert [one.state for one in verify_workspace(workspace)] == ["whole"]


def test_a_batch_whose_answers_other_runs_took_is_not_missed(server: FaultServer, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    workspace = Workspace(tmp_path)
    mine, other = (RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
                   for _ in range(2))
    with closing(SpendLedger(mine.calls, 1.0)) as ledger:
        polled = when(lambda: made(server, "GET", "_1") > 1)
        ask(engine_of(server, KINDS[0], workspace.batches, ledger, **PRICES), doubles(2), cancel=polled)
    server.play(Script())
    with closing(SpendLedger(other.calls, 1.0)) as ledger:
        ask(engine_of(server, KINDS[0], workspace.batches, ledger, **PRICES), doubles(2))
    assert {one.state for one in verify_workspace(workspace)} == {"whole"}
    events, ledger = list[Event](), SpendLedger(mine.calls, 1.0)
    ask(engine_of(server, KINDS[0], workspace.batches, ledger, **PRICES), [], events.append)
    assert "is gone" not in texts(events) and files_of(workspace.batches) == [] and ledger.assumed_nano > 0


@kinds
def test_replies_that_were_not_taken_come_again_after_a_restart(server: FaultServer, kind: str, tmp_path: Path) -> None:
    ledger = SpendLedger()
    stream = engine_of(server, kind, tmp_path, ledger, **PRICES).answer(map(request_for, doubles(6)), silent, Cancel())
    taken = [next(stream), next(stream)]
    stream.close()  # type: ignore[attr-defined]
    left = [q for q in doubles(6) if q not in {reply.request_id for reply in taken}]
    replies = ask(engine_of(server, kind, tmp_path, ledger, **PRICES), left)
    assert sorted(reply.request_id for reply in replies) == left
    assert handed_in(server) == 1 and files_of(tmp_path) == []
    assert ledger.spent_usd == pytest.approx(server.billed_usd(1, 2))


@kinds
def test_the_batch_is_remembered_until_the_last_reply_was_taken(server: FaultServer, kind: str, tmp_path: Path) -> None:
    stream = engine_of(server, kind, tmp_path).answer(map(request_for, doubles(3)), silent, Cancel())
    for _ in range(3):
        next(stream)
        assert any(name.endswith(".json") for name in files_of(tmp_path))
    assert next(stream, None) is None and files_of(tmp_path) == []


@kinds
def test_new_requests_go_into_a_new_batch_beside_the_old(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    ask(engine_of(server, kind, tmp_path), doubles(4), cancel=when(lambda: made(server, "GET", "_1") > 1))
    server.play(Script())
    replies = ask(engine_of(server, kind, tmp_path), doubles(7))
    assert len(replies) == 7 and all(map(is_right, replies))
    assert [len(batch.items) for batch in server._desk.batches.values()] == [4, 3]


@kinds
def test_another_run_takes_what_it_needs_and_leaves_the_rest(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    mine, other = (SpendLedger(tmp_path / name / "calls.jsonl", 1.0) for name in ("a", "b"))
    polled = when(lambda: made(server, "GET", "_1") > 1)
    ask(engine_of(server, kind, tmp_path / "f", mine, **PRICES), doubles(4), cancel=polled)
    server.play(Script())
    replies = ask(engine_of(server, kind, tmp_path / "f", other, **PRICES), doubles(2))
    assert len(replies) == 2 and all(map(is_right, replies)) and other.spent_nano == 0
    (kept,) = (path for path in (tmp_path / "f").iterdir() if path.suffix == ".json")
    assert json.loads(kept.read_text())["ids"] == ["", "", "Double 2", "Double 3"]
    rest = ask(engine_of(server, kind, tmp_path / "f", mine, **PRICES), doubles(4)[2:])
    assert len(rest) == 2 and handed_in(server) == 1 and files_of(tmp_path / "f") == []
    assert mine.spent_usd == pytest.approx(server.billed_usd(1, 2) / handed_in(server))


@kinds
def test_two_that_wait_for_one_batch_both_get_its_answers(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    ask(engine_of(server, kind, tmp_path / "f"), doubles(3), cancel=when(lambda: made(server, "GET", "_1") > 1))
    server.play(Script())
    first = engine_of(server, kind, tmp_path / "f")
    answers = first.answer(map(request_for, doubles(3)), silent, Cancel())
    begun = next(answers)
    assert all(map(is_right, ask(engine_of(server, kind, tmp_path / "f"), doubles(3))))
    replies = [begun, *answers]
    first.close()
    assert len(replies) == 3 and all(map(is_right, replies)) and handed_in(server) == 1
    assert files_of(tmp_path / "f") == []


@kinds
def test_a_kill_between_handing_in_and_its_answer_pays_once(kind: str, tmp_path: Path) -> None:
    made_by = "/batches" if kind == "openai_compatible" else "/messages/batches"
    with fault_server(Script(rules=(Rule(Step(hold=True), path=made_by, times=1),))) as server:
        command = [sys.executable, "-m", "tests.engines.test_batches", kind, server.url, str(tmp_path)]
        process = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])
        try:
            wait_for(lambda: handed_in(server) == 1, 60)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        ledger, events = SpendLedger(tmp_path / "run" / "calls.jsonl", 1.0), list[Event]()
        assert ledger.assumed_nano > 0
        replies = ask(engine_of(server, kind, tmp_path / "b", ledger, **PRICES), doubles(3), events.append)
        assert len(replies) == 3 and all(map(is_right, replies))
        assert handed_in(server) == 1 and "nothing is sent twice" in texts(events)
        assert ledger.assumed_nano == 0 and ledger.spent_usd == pytest.approx(server.billed_usd(1, 2))


@kinds
def test_a_kill_while_requests_are_written_leaves_nothing(server: FaultServer, kind: str, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is there, nothing was sent: a later process hands the requests in anew and pays once."""
    class Killed(BaseException):
        pass

    def killed(*args: Any) -> None:
        raise Killed

    calls = tmp_path / "run" / "calls.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(batch_register.Register, "take_over", killed)
        patch.setattr(batch_register.Register, "close", lambda self: [b.lock.close() for b in self.batches if b.lock])
        with pytest.raises(Killed):
            ask(engine_of(server, kind, tmp_path / "b", SpendLedger(calls, 1.0), **PRICES), doubles(3))
    assert len(files_of(tmp_path / "b")) == 3 and handed_in(server) == 0
    ledger = SpendLedger(calls, 1.0)
    replies = ask(engine_of(server, kind, tmp_path / "b", ledger, **PRICES), doubles(3))
    assert len(replies) == 3 and all(map(is_right, replies)) and handed_in(server) == 1
    assert files_of(tmp_path / "b") == [] and ledger.spent_usd == pytest.approx(server.billed_usd(1, 2))


@kinds
@pytest.mark.parametrize("fault", [Step(cut=0, ending="reset"), Step(status=503), Step(status=429),
                                   Step(cut=5, ending="abrupt")])
def test_an_unclear_answer_to_handing_in_is_cleared_up_first(
        server: FaultServer, kind: str, tmp_path: Path, fault: Step) -> None:
    path = "/batches" if kind == "openai_compatible" else "/messages/batches"
    server.play(Script(rules=(Rule(fault, path=path, times=1),)))
    replies = ask(engine_of(server, kind, tmp_path), doubles(3))
    assert len(replies) == 3 and all(map(is_right, replies)) and handed_in(server) == 1


def test_a_batch_that_only_looks_like_ours_is_not_taken(server: FaultServer, tmp_path: Path) -> None:
    other = engine_of(server, "anthropic", tmp_path / "elsewhere")
    server.play(Script(batch=BatchPlan(never_done=True)))
    ask(other, ["Double 50", "Double 51"], cancel=when(lambda: made(server, "GET", "_1") > 1))
    assert handed_in(server) == 1
    server.play(Script(rules=(Rule(Step(status=500), path="/messages/batches", times=1),)))
    replies = ask(engine_of(server, "anthropic", tmp_path / "f"), doubles(2))
    assert len(replies) == 2 and all(map(is_right, replies)) and handed_in(server) == 2
    assert files_of(tmp_path / "f") == [] and len(files_of(tmp_path / "elsewhere")) == 1


@kinds
def test_without_a_list_of_batches_the_unclear_one_counts_as_spent(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    def no_list(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
        return (404, b"{}") if method == "GET" and "?limit" in path else (status, body)

    tamper(server, no_list)
    path = "/batches" if kind == "openai_compatible" else "/messages/batches"
    server.play(Script(rules=(Rule(Step(cut=0, ending="reset"), path=path, times=1),)))
    events, ledger = list[Event](), SpendLedger(None, 1.0)
    replies = ask(engine_of(server, kind, tmp_path, ledger, **PRICES), doubles(3), events.append)
    assert len(replies) == 3 and all(map(is_right, replies)) and handed_in(server) == 2
    assert ledger.assumed_nano > 0 and "counts as spent" in "".join(e.hint for e in events if isinstance(e, Warned))


def test_a_batch_that_another_process_is_handing_in_is_left_to_it(server: FaultServer, tmp_path: Path) -> None:
    folder = batch_states.BatchFolder(tmp_path)
    state = batch_states.BatchState("0123456789abcdef", "openai", server.url, "m", "a/calls.jsonl", None,
                                    ["Double 0"], [0], stage="sent", file_id="file-9")
    lock = folder.lock(state.token)
    assert lock is not None and folder.lock(state.token) is None
    folder.save(state)
    assert ask(engine_of(server, "openai_compatible", tmp_path), ["Double 0"], cancel=after(5)) == []
    assert [r.method for r in server.requests] == [] and folder.read(state.token) == state
    folder.unlock(state.token, lock)


def test_the_file_of_a_batch_keeps_the_names_it_always_had(tmp_path: Path) -> None:
    """A batch may be under way while localdistill is updated: its answers are paid for and must still be found."""
    token = "0123456789abcdef"
    kept = {"version": 1, "token": token, "kind": "openai", "base": "http://a", "model": "m", "book": "a/calls.jsonl",
            "ticket": 3, "ids": ["Double 0"], "worst": [7], "stage": "waiting", "batch_id": "batch-1"}
    (tmp_path / f"{token}.json").write_text(json.dumps(kept))
    folder = batch_states.BatchFolder(tmp_path)
    state = folder.read(token)
    assert state is not None and (state.ledger, state.ticket, state.batch_id) == ("a/calls.jsonl", 3, "batch-1")
    folder.save(state)
    assert kept.items() <= json.loads((tmp_path / f"{token}.json").read_text()).items()
    assert folder.read(token) == state


def test_a_damaged_memory_stops_before_anything_is_paid_again(server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "0123.json").write_text('{"version": 1, "token')
    with pytest.raises(LocalDistillError, match=r"0123\.json"):
        ask(engine_of(server, "openai_compatible", tmp_path), doubles(1))
    assert not server.requests


# ---- single items and whole batches that fail


@kinds
def test_failed_expired_and_lost_items_are_errors_and_the_rest_are_replies(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(errored=("Double 0",), expired=("Double 1",), lost=("Double 2",),
                                       doubled=("Double 3",))))
    ledger = SpendLedger(None, 1.0)
    replies = {r.request_id: r for r in ask(engine_of(server, kind, tmp_path, ledger, **PRICES), doubles(6))}
    assert len(replies) == 6 and all(is_right(replies[f"Double {n}"]) for n in (3, 4, 5))
    errors = [replies[f"Double {n}"] for n in (0, 1, 2)]
    assert [reply.status for reply in errors] == ["error"] * 3
    assert "cannot answer Double 0" in errors[0].error and "Double 0" in errors[0].raw
    assert any(word in errors[1].error for word in ("expired", "window"))
    assert [reply.cost_usd for reply in errors[:2]] == [0.0, 0.0]
    lost = errors[2].cost_usd or 0.0
    # Of an ended batch a lost answer may have been paid for; with expired items in it Anthropic's ended early.
    assert (lost > 0.0015) == (kind == "openai_compatible")
    assert ledger.spent_nano == sum(round((r.cost_usd or 0) * NANO) for r in replies.values())
    again = ask(engine_of(server, kind, tmp_path, ledger, **PRICES), doubles(3))
    assert handed_in(server) == 2 and len(again) == 3


@kinds
def test_damaged_lines_of_results_become_errors_with_their_bytes(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    def damage(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if not is_results(path):
            return status, body
        lines = body.splitlines()
        lines[0] = lines[0][:-20] + b"\xff"
        return status, b"\n\n".join([b"not JSON at all", b'{"custom_id": "stranger-1"}', *lines])

    tamper(server, damage)
    events, ledger = list[Event](), SpendLedger(None, 1.0)
    replies = ask(engine_of(server, kind, tmp_path, ledger, **PRICES), doubles(4), events.append)
    damaged = [reply for reply in replies if reply.status == "error"]
    assert len(replies) == 4 and sum(map(is_right, replies)) == 3 and len(damaged) == 1
    assert "no JSON" in damaged[0].error and damaged[0].raw.encode("utf-8", "surrogateescape").endswith(b"\xff")
    assert "2 lines" in texts(events) and (damaged[0].cost_usd or 0) > 0.0015


@kinds
@pytest.mark.parametrize("keep", [slice(-30), slice(0, 600)])
def test_results_that_break_off_unseen_are_fetched_again(
        server: FaultServer, kind: str, tmp_path: Path, keep: slice) -> None:
    """The HTTP body ends well, and yet it is not all."""
    seen: list[str] = []

    def cut(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
        if not is_results(path):
            return status, body
        seen.append(path)
        return status, body[keep] if len(seen) <= 2 else body

    tamper(server, cut)
    replies = ask(engine_of(server, kind, tmp_path), doubles(5))
    assert len(replies) == 5 and all(map(is_right, replies)) and len(seen) == 3


@kinds
def test_a_line_without_end_is_not_held_in_memory(
        server: FaultServer, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_results, "MAX_LINE_BYTES", 2000)
    server.play(Script(rules=(Rule(Step(answer="x" * 9000), question="Double 1"),)))
    replies = {r.request_id: r for r in ask(engine_of(server, kind, tmp_path), doubles(3))}
    assert replies["Double 1"].status == "error" and "longer" in replies["Double 1"].error
    assert len(replies) == 3 and is_right(replies["Double 0"]) and is_right(replies["Double 2"])


@kinds
def test_statuses_and_missing_usage_are_judged_as_of_single_replies(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    cut = "length" if kind == "openai_compatible" else "max_tokens"
    server.play(Script(rules=(Rule(Step(finish=cut), question="Double 0"), Rule(Step(usage=None), question="Double 1"),
                              Rule(Step(answer=""), question="Double 2"))))
    replies = {r.request_id: r for r in ask(engine_of(server, kind, tmp_path, **PRICES), doubles(3))}
    assert [replies[f"Double {n}"].status for n in range(3)] == ["length", "complete", "reasoning_only"]
    unsaid = replies["Double 1"]
    assert unsaid.usage.estimated and (unsaid.cost_usd or 0) > 0.0015 > (replies["Double 0"].cost_usd or 1)


def test_items_cost_nothing_only_where_they_were_turned_down(server: FaultServer, tmp_path: Path) -> None:
    server.play(Script(rules=tuple(Rule(Step(status=status), question=f"Double {n}")
                                   for n, status in enumerate((400, 429, 500, 504)))))
    ledger = SpendLedger(None, 1.0)
    replies = {r.request_id: r for r in ask(engine_of(server, "openai_compatible", tmp_path, ledger, **PRICES),
                                            doubles(4))}
    assert [(replies[q].cost_usd or 0) > 0.0015 for q in doubles(4)] == [False, False, True, True]
    assert ledger.spent_nano == sum(round((r.cost_usd or 0) * NANO) for r in replies.values())


def test_results_that_are_gone_were_paid_for(server: FaultServer, tmp_path: Path) -> None:
    def lose(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
        row = json.loads(body) if path.endswith("_1") else {}
        return (status, json.dumps({**row, "results_url": None}).encode()) if "results_url" in row else (status, body)

    tamper(server, lose)
    ledger = SpendLedger(None, 1.0)
    replies = ask(engine_of(server, "anthropic", tmp_path, ledger, **PRICES), doubles(2))
    assert ["not available" in reply.error for reply in replies] == [True, True]
    assert ledger.spent_usd > 2 * 0.0015


def test_a_batch_that_fails_as_a_whole_costs_nothing(server: FaultServer, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(fails="line 1 is no request")))
    ledger = SpendLedger(None, 1.0)
    replies = ask(engine_of(server, "openai_compatible", tmp_path, ledger, **PRICES), doubles(3))
    assert [(r.status, r.cost_usd) for r in replies] == [("error", 0.0)] * 3
    assert "line 1 is no request" in replies[0].error and ledger.spent_nano == 0 and files_of(tmp_path) == []


def test_an_expired_batch_keeps_what_was_done(server: FaultServer, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(expires=True, expired=("Double 1",), lost=("Double 2",))))
    replies = {r.request_id: r for r in ask(engine_of(server, "openai_compatible", tmp_path, **PRICES), doubles(3))}
    assert is_right(replies["Double 0"]) and [replies[q].cost_usd for q in doubles(3)[1:]] == [0.0, 0.0]
    assert "expired" in replies["Double 2"].error


@kinds
def test_a_batch_that_the_provider_lost_is_said_and_counted(server: FaultServer, kind: str, tmp_path: Path) -> None:
    def forget(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
        return (404, b"{}") if method == "GET" and path.endswith("_1") else (status, body)

    tamper(server, forget)
    events, ledger = list[Event](), SpendLedger(None, 1.0)
    replies = ask(engine_of(server, kind, tmp_path, ledger, **PRICES), doubles(2), events.append)
    assert [reply.status for reply in replies] == ["error"] * 2 and files_of(tmp_path) == []
    assert ledger.assumed_nano == ledger.spent_nano > 0 and "knows no batch" in texts(events)


def test_too_much_waiting_at_the_provider_makes_smaller_batches(server: FaultServer, tmp_path: Path) -> None:
    """A provider that takes two requests at a time and says so of larger batches only later."""
    def too_much(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes]:
        state = json.loads(body) if "batches/" in path else {}
        if state.get("request_counts", {}).get("total", 0) <= 2:
            return status, body
        error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
        return status, json.dumps({**state, "status": "failed", "errors": {"data": [error]}}).encode()

    tamper(server, too_much)
    ledger = SpendLedger(None, 1.0)
    replies = ask(engine_of(server, "openai_compatible", tmp_path, ledger, **PRICES), doubles(5))
    assert len(replies) == 5 and all(map(is_right, replies))
    assert [len(batch.items) for batch in server._desk.batches.values()] == [5, 2, 2, 1]
    assert ledger.assumed_nano == ledger.reserved_nano == 0


# ---- money


@kinds
def test_a_cap_cuts_batches_and_frees_room_when_they_end(server: FaultServer, kind: str, tmp_path: Path) -> None:
    ledger = SpendLedger(None, cap_usd=0.0105)  # a request may cost a little over $0.002
    reserved: list[int] = []
    server.on_request = lambda seen: reserved.append(ledger.reserved_nano + ledger.spent_nano)
    replies = ask(engine_of(server, kind, tmp_path, ledger, **PRICES), doubles(9))
    assert len(replies) == 9 and all(map(is_right, replies)) and handed_in(server) >= 3
    assert max(reserved) <= 0.0105 * NANO and ledger.spent_usd == pytest.approx(server.billed_usd(1, 2))


@kinds
def test_a_cap_that_leaves_no_room_for_one_ends_the_run_with_what_it_bought(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    ledger, replies = SpendLedger(None, cap_usd=0.0042), list[Reply]()
    server.play(Script(default=Step(usage={"prompt_tokens": 300, "completion_tokens": 800, "input_tokens": 300,
                                           "output_tokens": 800})))
    with pytest.raises(BudgetReached, match="cap"):
        for reply in engine_of(server, kind, tmp_path, ledger, **PRICES).answer(
                map(request_for, doubles(9)), silent, Cancel()):
            replies.append(reply)
    # One at a time fits; what it did not use makes room for a second, and no further.
    assert [reply.status for reply in replies] == ["complete"] * 2 and handed_in(server) == 2
    assert ledger.spent_usd == pytest.approx(2 * 0.0019) and ledger.reserved_nano == 0
    with pytest.raises(BudgetReached):
        ask(engine_of(server, kind, tmp_path, SpendLedger(None, 0.001), **PRICES), doubles(1))
    assert handed_in(server) == 2 and files_of(tmp_path) == []


@kinds
def test_limits_of_the_provider_cut_batches(server: FaultServer, kind: str, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = batch_protocols.PROTOCOLS["openai" if kind == "openai_compatible" else "anthropic"]
    monkeypatch.setattr(type(protocol), "most_requests", 3)
    assert len(ask(engine_of(server, kind, tmp_path), doubles(7))) == 7
    assert [len(batch.items) for batch in server._desk.batches.values()] == [3, 3, 1]
    monkeypatch.setattr(type(protocol), "most_bytes", 400)
    replies = ask(engine_of(server, kind, tmp_path), ["Double 1", "Double 2", "x" * 500])
    assert sorted(map(is_right, replies[:2] if replies[0].status != "error" else replies[1:])) == [True, True]
    assert [r.error for r in replies if r.status == "error"] == ["the request is larger than a whole batch may be"]
    assert all(len(server._desk.files[f"file-{n}"]) <= 400 for n in range(4, 5) if f"file-{n}" in server._desk.files)


def test_price_is_unknown_where_nobody_states_it(server: FaultServer, tmp_path: Path) -> None:
    ledger = SpendLedger()
    replies = ask(engine_of(server, "openai_compatible", tmp_path, ledger), doubles(2))
    assert [reply.cost_usd for reply in replies] == [None, None] and ledger.spent_nano == 0


# ---- the network and the server


@kinds
def test_a_lost_network_is_waited_for(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progressed) and not server.script.rules and server.script.batch.never_done:
            server.go_down()
            server.script = Script(rules=(Rule(Step()),))
        elif isinstance(event, Noted) and "fails" in event.text:
            server.come_up()
            server.play(Script())

    replies = ask(engine_of(server, kind, tmp_path, patience_s=0.0), doubles(2), emit)
    assert len(replies) == 2 and all(map(is_right, replies)) and handed_in(server) == 1
    assert "asked again until it answers" in texts(events)


@kinds
@pytest.mark.parametrize("fault", [Step(status=500), Step(status=429), Step(cut=40, ending="reset"), Step(cut=40)])
def test_faults_of_polls_and_downloads_are_tried_again(
        server: FaultServer, kind: str, tmp_path: Path, fault: Step) -> None:
    ending = "/content" if kind == "openai_compatible" else "/results"
    server.play(Script(rules=(Rule(fault, path="_1", times=2), Rule(fault, path=ending, times=2))))
    replies = ask(engine_of(server, kind, tmp_path), doubles(3))
    assert len(replies) == 3 and handed_in(server) == 1 and all(map(is_right, replies))


@kinds
def test_a_server_that_wants_to_be_left_alone_is(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(limit=Limit(requests=3, window_s=0.4), batch=BatchPlan(polls=5)))
    replies = ask(engine_of(server, kind, tmp_path), doubles(3))
    assert all(map(is_right, replies)) and handed_in(server) == 1
    assert 1 <= sum(seen.status == 429 for seen in server.requests) <= 3


@kinds
def test_a_server_that_is_not_there_is_an_unavailable_engine(kind: str, tmp_path: Path) -> None:
    engine = engine_for(refused_url(), kind, batch=True, patience_s=0.05, batch_poll_s=0.01, **PRICES)
    engine.folder, engine.ledger = tmp_path, SpendLedger(None, 1.0)
    with pytest.raises(EngineUnavailable, match="does not take the batch"):
        ask(engine, doubles(2))
    assert files_of(tmp_path) == [] and engine.ledger.spent_nano == engine.ledger.reserved_nano == 0


@kinds
@pytest.mark.parametrize(("status", "word"), [(401, "refuses"), (400, "refused"), (404, "refused"), (402, "paid")])
def test_a_refused_batch_costs_nothing_and_says_why(
        server: FaultServer, kind: str, tmp_path: Path, status: int, word: str) -> None:
    server.play(Script(rules=(Rule(Step(status=status)),)))
    ledger = SpendLedger(None, 1.0)
    with pytest.raises(EngineError, match=word):
        ask(engine_of(server, kind, tmp_path, ledger, **PRICES), doubles(2))
    assert files_of(tmp_path) == [] and ledger.spent_nano == ledger.reserved_nano == 0


def test_results_on_another_host_are_refused(server: FaultServer, tmp_path: Path) -> None:
    with fault_server() as other:
        server._desk.url = other.url
        with pytest.raises(EngineError, match="not the host that was asked"):
            ask(engine_of(server, "anthropic", tmp_path), doubles(1))
        assert other.connections == 0
    server._desk.url = server.url
    assert is_right(ask(engine_of(server, "anthropic", tmp_path), doubles(1))[0]) and handed_in(server) == 1


@kinds
def test_redirects_are_not_followed(server: FaultServer, kind: str, tmp_path: Path) -> None:
    with fault_server() as other:
        ending = "/content" if kind == "openai_compatible" else "/results"
        server.play(Script(rules=(Rule(Step(status=307, headers={"Location": other.url}), path=ending),)))
        with pytest.raises(EngineError, match="redirects"):
            ask(engine_of(server, kind, tmp_path), doubles(1))
        assert other.connections == 0


def test_results_larger_than_their_bound_are_refused(
        server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_LINE_BYTES", 100)
    server.play(Script(default=Step(answer="x" * 400_000)))
    with pytest.raises(EngineError, match="larger than"):
        ask(engine_of(server, "anthropic", tmp_path), doubles(2))
    assert len(files_of(tmp_path)) == 1


def test_a_pool_of_servers_is_refused(server: FaultServer) -> None:
    engine = engine_for("", endpoints=[{"base_url": server.url}, {"base_url": server.url + "/b"}], batch=True)
    with pytest.raises(UsageError, match="one server"):
        ask(engine, doubles(1))


# ---- cancelling


@kinds
def test_batches_can_be_cancelled_at_the_provider(server: FaultServer, kind: str, tmp_path: Path) -> None:
    server.play(Script(batch=BatchPlan(never_done=True)))
    ask(engine_of(server, kind, tmp_path), doubles(2), cancel=when(lambda: made(server, "GET", "_1") > 1))
    events: list[Event] = []
    assert cancel_batches(engine_of(server, kind, tmp_path), events.append) == 1
    assert made(server, "POST", "/cancel") == 1 and "cancelled" in texts(events)
    replies = ask(engine_of(server, kind, tmp_path, **PRICES), doubles(2))
    assert [(r.status, r.cost_usd) for r in replies] == [("error", 0.0)] * 2 and files_of(tmp_path) == []


@kinds
def test_a_cancel_while_the_batch_is_handed_in_leaves_it_to_a_resume(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    path = "/batches" if kind == "openai_compatible" else "/messages/batches"
    server.play(Script(rules=(Rule(Step(hold=True), path=path, times=1),)))
    cancel = when(lambda: handed_in(server) == 1)
    assert ask(engine_of(server, kind, tmp_path), doubles(2), cancel=cancel) == []
    server.release()
    assert all(map(is_right, ask(engine_of(server, kind, tmp_path), doubles(2)))) and handed_in(server) == 1


def test_memory_stays_flat_for_many_results(tmp_path: Path) -> None:
    """10,000 results of about 2 kB: 20 MB that must not be held at once."""
    state = batch_states.BatchState("0123456789abcdef", "openai", "http://h", "m", "", None,
                                    [f"r{n}" for n in range(10_000)], [0] * 10_000)
    path = tmp_path / "results"
    with open(path, "wb") as handle:
        for n in range(10_000):
            body = {"choices": [{"message": {"content": "y" * 2000}, "finish_reason": "stop"}]}
            line = {"custom_id": state.custom_id(n), "response": {"status_code": 200, "body": body}, "error": None}
            handle.write(json.dumps(line).encode() + b"\n")
    import tracemalloc

    engine = engine_for("http://127.0.0.1:9")
    results = batch_results.Results(state, {n: request_for(f"r{n}") for n in range(10_000)},
                                    batch_protocols.PROTOCOLS["openai"], engine.targets()[0], engine.rules(), "")
    tracemalloc.start()
    with open(path, "rb") as file:
        assert sum(reply.status == "complete" for reply in results.replies(file)) == 10_000
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.slow)])
def test_a_killed_run_is_resumed_and_waits_for_its_batch(kind: str, tmp_path: Path) -> None:
    recipe, workspace = tmp_path / "recipe.toml", tmp_path / "workspace"
    provider = 'provider = ""\n' if kind == "anthropic" else ""
    cli = [sys.executable, "-c", "from localdistill.cli import main; main()"]

    def call(*words: str) -> subprocess.Popen[str]:
        command = [*cli, *words, "--workspace", str(workspace), "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)

    with fault_server(Script(batch=BatchPlan(never_done=True))) as server:
        recipe.write_text(
            f'name = "batched"\n[prompts]\nfiles = ["{write_questions(tmp_path / "q.jsonl", 5)}"]\n[teacher]\n'
            f'use = "{kind}"\n{provider}base_url = "{server.url}"\nmodel = "m"\nbatch = true\nbatch_poll_s = 0.05\n'
            "usd_per_million_input = 1.0\nusd_per_million_output = 2.0\n")
        run = call("collect", str(recipe))
        wait_for(lambda: made(server, "GET", "_1") > 1, 60)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(workspace) in process.cmdline() or any(
                        word.startswith(str(workspace / "runs")) for word in process.cmdline()):
                    process.kill()
        run.communicate()
        server.play(Script())
        resumed = call("resume", "last")
        said, _ = resumed.communicate(timeout=60)
        assert resumed.returncode == 0 and handed_in(server) == 1, said
        assert files_of(workspace / "batches") == []
        spent = SpendLedger(next(workspace.glob("runs/*/calls.jsonl")))
        assert spent.assumed_nano == 0 and spent.spent_usd == pytest.approx(server.billed_usd(1, 2))


def _hand_in_and_hang(kind: str, url: str, folder: Path) -> None:
    """What the killed process does."""
    batch_calls._LISTEN_S = 0.01
    engine = engine_for(url, kind, batch=True, batch_poll_s=0.01, **PRICES)
    engine.folder, engine.ledger = folder / "b", SpendLedger(folder / "run" / "calls.jsonl", 1.0)
    ask(engine, doubles(3))


if __name__ == "__main__":
    _hand_in_and_hang(sys.argv[1], sys.argv[2], Path(sys.argv[3]))


# ---- a full disk


@kinds
def test_a_batch_that_does_not_fit_on_the_disk_is_handed_to_nobody(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    for room in (0, 200, 1000):  # of its requests, of its state, of either
        with files_of_at_most(room), pytest.raises(DiskFull, match="larger than a file may be"):
            ask(engine_of(server, kind, tmp_path, SpendLedger(None, 1.0), **PRICES), doubles(9))
        assert not handed_in(server)
    assert all(is_right(reply) for reply in ask(engine_of(server, kind, tmp_path, **PRICES), doubles(9)))
    assert handed_in(server) == 1 and not list(tmp_path.glob("*.json"))


@kinds
def test_results_that_do_not_fit_on_the_disk_are_fetched_again_and_paid_once(
        server: FaultServer, kind: str, tmp_path: Path) -> None:
    engine = engine_of(server, kind, tmp_path, **PRICES)
    _, original = server._desk, server._desk.answer
    limits: list[Any] = []

    def answer(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes] | None:
        told = original(method, path, headers, body)
        if method == "GET" and path.partition("?")[0].endswith(("/content", "/results")) and not limits:
            limits.append(files_of_at_most(10))
            limits[0].__enter__()
        return told

    server._desk.answer = answer  # type: ignore[method-assign]
    try:
        with pytest.raises(DiskFull, match="results would grow larger"):
            ask(engine, doubles(9))
    finally:
        limits[0].__exit__(None, None, None)
    replies = ask(engine_of(server, kind, tmp_path, **PRICES), doubles(9))
    assert len(replies) == 9 and all(is_right(reply) for reply in replies) and handed_in(server) == 1
