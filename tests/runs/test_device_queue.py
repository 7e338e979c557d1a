"""One training per device: who comes second waits and says for whom, the dead are out of the queue, and what is told
when a run ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import localdistill
from localdistill import RunStatus, UsageError, Workspace, device_queue, leave_queue, parse_recipe
from localdistill.cli import main
from localdistill.core.events import Event, Noted, Warned
from localdistill.modelfiles.hardware import Gpu, Hardware
from localdistill.runs.device_queue import CHAT, CPU, STATE_ENV, TRAINING, Ticket, take_ticket, takes_turns
from localdistill.runs.device_turns import DeviceTurns, any_device, use_of
from localdistill.runs.end_notice import DESKTOP, desktop_call, give_notice
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import REPO, wait_for
from tests.tui.driving import piloted, until
from tests.tui.hostile import HOSTILE, assert_harmless, screen_text
from tui.app import LocalDistillApp
from tui.screens.runs import RunsPage

MACHINE = Hardware("Linux", "a processor", 2, 10**10, 10**10, ())
CARD = "NVIDIA T4"
ASKS = 'name = "sums"\n[prompts]\nfiles = ["q.jsonl"]\n[teacher]\nuse = "replay"\npath = "r.jsonl"\n'
HOLDER = """
import sys, time
from localdistill.runs.device_queue import take_ticket
ticket = take_ticket("CPU", "training", "pantry-1", "/w")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STATE_ENV, str(tmp_path / "state"))


class Says:
    """What a run says, and what it waits for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.waits: list[str] = []

    def take(self, event: Event) -> None:
        self.events.append(event)

    def wait_for(self, what: str) -> None:
        self.waits.append(what)

    def texts(self, kind: type[Any]) -> list[str]:
        return [event.text for event in self.events if isinstance(event, kind)]


def recipe(**changes: Any) -> Any:
    return parse_recipe("""
name = "sums"
[prompts]
files = ["q.jsonl"]
[teacher]
use = "llama_cpp"
model = "t.gguf"
[student]
model = "shipped:pantry/student"
[arm.a]
format = "answer_only"
[train]
use = "torch_lora"
device = "cpu"
""")


def test_trainings_take_turns_and_others_only_on_a_gpu() -> None:
    assert takes_turns(CPU, TRAINING) and takes_turns(CARD, TRAINING) and takes_turns(CARD, "evaluation")
    assert not takes_turns(CPU, "evaluation") and not takes_turns(CPU, CHAT) and not takes_turns(CARD, CHAT)


def test_a_ticket_waits_for_those_before_it_in_their_order() -> None:
    first, other, second, third = (take_ticket(device, TRAINING, name) for device, name in (
        (CPU, "a-1"), (CARD, "b-1"), (CPU, "c-1"), (CPU, "d-1")))
    chat = take_ticket(CPU, CHAT, "x.gguf")
    assert first.ahead() is None and other.ahead() is None and chat.ahead() is None
    assert [waiting.who for ticket in (second, third) if (waiting := ticket.ahead())] == ["a-1", "c-1"]
    assert [use.who for use in first.beside()] == ["x.gguf"] and [use.who for use in chat.beside()] == ["a-1"]
    assert [(one.use.who, one.waits) for one in device_queue()] == [
        ("a-1", False), ("c-1", True), ("d-1", True), ("x.gguf", False), ("b-1", False)]
    second.leave()
    assert third.ahead() == first.use, "whoever leaves lets those behind move up"
    first.leave()
    first.leave()
    assert third.ahead() is None
    for ticket in (third, other, chat):
        ticket.leave()
    assert device_queue() == []


def test_whoever_dies_is_out_of_the_queue() -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER], cwd=REPO, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"held\n"
        mine = take_ticket(CPU, TRAINING, "pantry-2")
        ahead = mine.ahead()
        assert ahead is not None and (ahead.who, ahead.pid) == ("pantry-1", child.pid)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert mine.ahead() is None and [one.use.who for one in device_queue()] == ["pantry-2"]
        mine.leave()
        folder = Path(os.environ[STATE_ENV]) / "devices" / CPU
        assert len(list(folder.glob("*.json"))) == 1, "what the dead one left lies there"
        take_ticket(CPU, TRAINING, "pantry-3").leave()
        assert not list(folder.glob("*.json")), "until somebody takes a ticket"
    finally:
        child.kill()
        child.communicate()


def test_tickets_that_cannot_be_read_block_nobody() -> None:
    ticket = take_ticket(CPU, TRAINING, "a-1")
    folder = Path(os.environ[STATE_ENV]) / "devices" / CPU
    (folder / "000000000000.json").write_text("{")
    (folder / "note.json").write_text("{}")
    assert ticket.ahead() is None and [one.use.who for one in device_queue()] == ["a-1"]
    ticket.leave()


def test_a_stage_says_whom_it_waits_for_and_goes_on_when_that_ends() -> None:
    says, turns = Says(), DeviceTurns(recipe(), "sums-2", "/w", lambda: MACHINE)
    before: list[Ticket] = [take_ticket(CPU, TRAINING, "sums-1"), take_ticket(CPU, CHAT, "x.gguf")]

    def stop() -> bool:
        before[0].leave()  # asked while it waits
        return False

    with turns.stage("train", says, stop):
        assert [(one.use.who, one.waits) for one in device_queue()] == [("x.gguf", False), ("sums-2", False)]
    assert says.waits == ["the training of sums-1 on CPU", ""]
    assert says.texts(Noted) == ["'train' waited for the training of sums-1 on CPU"]
    assert says.texts(Warned) == ["the chat of x.gguf on CPU is under way too: both are slower, and share the memory"]
    assert [one.use.what for one in device_queue()] == [CHAT], "its ticket is gone with the stage"
    before[1].leave()


def test_who_is_asked_to_stop_waits_no_more_and_a_queued_run_has_one_turn() -> None:
    says, turns = Says(), DeviceTurns(recipe(), "sums-2", "/w", lambda: MACHINE)
    first = take_ticket(CPU, TRAINING, "sums-1")
    with turns.stage("train", says, lambda: True):
        assert says.waits == []
    first.leave()
    with turns.whole_run(says, lambda: False), turns.stage("train", says, lambda: False):
        assert [(one.use.what, one.use.who) for one in device_queue()] == [("run", "sums-2")]


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(STATE_ENV, str(tmp_path / "file"))
    says, done = Says(), []
    with DeviceTurns(recipe(), "sums-2", "/w", lambda: MACHINE).stage("train", says, lambda: False):
        done.append(1)
    assert done and "who else computes on CPU is not known" in says.texts(Warned)[0]


def test_stages_that_compute_a_model_use_a_device() -> None:
    look: Callable[[], Hardware] = lambda: MACHINE  # noqa: E731
    assert use_of(recipe(), "train", look) == use_of(recipe(), "tune", look) == (CPU, TRAINING)
    assert use_of(recipe(), "collect", look) == (CPU, "answers")
    assert use_of(recipe(), "evaluate", look) == (CPU, "evaluation")
    assert use_of(recipe(), "select", look) is None and use_of(recipe(), "format", look) is None
    with_card = Hardware("Linux", "a processor", 2, 10**10, 10**10, (Gpu(CARD, 10**10, 10**10),))
    assert any_device(with_card) == CARD
    assert use_of(recipe(), "train", lambda: with_card) == (CPU, TRAINING), "it was told so"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["localdistill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_lists_and_only_those_who_wait_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    monkeypatch.setattr("localdistill.api.runs.queueing.cancel", lambda workspace, run: told.append(
        f"{workspace.root} {run}"))
    tickets = [take_ticket(CPU, TRAINING, name, str(tmp_path)) for name in ("sums-1", "sums-2")]
    assert call(monkeypatch, "queue", "-w", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("works" in line and "sums-1" in line for line in lines)
    assert any("waits" in line and "sums-2" in line for line in lines)
    assert call(monkeypatch, "queue", "-w", str(tmp_path), "--json") == 0
    assert [one["waits"] for one in json.loads(capsys.readouterr().out)] == [False, True]
    assert call(monkeypatch, "queue", "remove", "sums-1", "-w", str(tmp_path)) == 2 and not told
    assert call(monkeypatch, "queue", "remove", "sums-2", "-w", str(tmp_path)) == 0
    assert told == [f"{tmp_path} sums-2"]
    with pytest.raises(UsageError, match="no run 'sum-2' waits"):
        leave_queue(Workspace(tmp_path), "sum-2")
    for ticket in tickets:
        ticket.leave()


def a_run(folder: Path) -> RunFolder:
    return RunFolder.create(Workspace(folder).runs, parse_recipe(ASKS), ASKS, {
        "stages": ["collect"], "base": str(folder), "warnings": [], "ledger": True, "queued": True,
        "notify": "printf '%s' \"$LOCALDISTILL_RUN_STATE\" > ended"})


def test_the_end_of_a_run_is_told_to_a_command_which_can_fail_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    give_notice(run, "finished", 'printf "%s %s" "$LOCALDISTILL_RUN" "$LOCALDISTILL_RUN_STATE" > told')
    assert (tmp_path / "told").read_text() == f"{run.id} finished"
    give_notice(run, "failed", "exit 3")
    give_notice(run, "failed", "")

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no shell")

    give_notice(run, "failed", "anything", refuse)
    assert "notice of the end: /bin/sh: no shell" in run.log.read_text()


def test_the_desktop_is_told_where_there_is_one() -> None:
    here = {"notify-send": "/bin/notify-send", "osascript": "/usr/bin/osascript"}.get
    assert desktop_call("run\x1b[1m x", here, "linux", {"DISPLAY": ":0"})[:3] == (
        "/bin/notify-send", "--", "localdistill")
    assert "\x1b" not in desktop_call("run\x1b[1m x", here, "linux", {"DISPLAY": ":0"})[3]
    assert desktop_call("x", here, "linux", {}) == () == desktop_call("x", lambda name: None, "darwin", {})
    mac = desktop_call('a" & quit', here, "darwin", {})
    assert mac[0] == "/usr/bin/osascript" and mac[-1] == 'a" & quit' and '"localdistill"' in " ".join(mac[:-1])
    assert DESKTOP == "desktop"


def test_two_runs_train_one_after_the_other(tmp_path: Path) -> None:
    """Of real supervisors: the second one says what it waits for, and starts when the first is gone."""
    first, run = take_ticket(CPU, TRAINING, "sums-1", str(tmp_path)), a_run(tmp_path)
    script = ("import sys\nfrom localdistill.runs.supervisor import Supervisor\nfrom pathlib import Path\n"
              "from localdistill.workspace.run_folder import RunFolder\n"
              "sys.exit(Supervisor(RunFolder(Path(sys.argv[1]))).main())")
    process = subprocess.Popen([sys.executable, "-c", script, str(run.path)], cwd=REPO)
    try:
        wait_for(lambda: run.status().data.get("waiting") == "the training of sums-1 on CPU")
        assert run.status().stage == "" and not list(run.path.glob("stages/*"))
        first.leave()
        process.wait(120)
        assert not run.status().data.get("waiting") and run.status().state in ("failed", "finished", "partial")
        assert any("the run waited for the training of sums-1 on CPU" in event.text for event, _ in run.events()
                   if isinstance(event, Noted))
        assert (tmp_path / "ended").read_text() == run.status().state
    finally:
        process.kill()
        process.wait()


@piloted
async def test_the_queue_is_shown_among_the_runs_and_who_ends_rings(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = [take_ticket(CPU, TRAINING, name, HOSTILE) for name in ("sums-1", "sums-2")]
    (tmp_path / "tui.toml").write_text('notify = "desktop"\n')
    asked: list[object] = []

    def started(*_: object, notify: str, queued: bool, **__: object) -> RunFolder:
        asked.append((notify, queued))
        return RunFolder(tmp_path / "runs" / "sums-1")

    monkeypatch.setattr(localdistill, "start", started)
    app = LocalDistillApp(tmp_path, start="runs")
    rung: list[int] = []
    monkeypatch.setattr(app, "bell", lambda: rung.append(1))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunsPage))
        app.screen.action_show_queue()
        await until(pilot, lambda: "▶ works" in screen_text(app) and "· waits" in screen_text(app))
        assert "the training of sums-1 on CPU" in assert_harmless(app)
        await pilot.press("escape")
        app.screen.action_queue_recipe()
        await until(pilot, lambda: "pantry" in screen_text(app))
        app.start_recipe("pantry", queued=True)
        await until(pilot, lambda: asked == [("desktop", True)])
        living = RunStatus("sums-1", "sums", "running", "train", True, 0.0, 0.0, {})
        app.state = replace(app.state, runs=(living,))
        app.runs_seen([replace(living, alive=False, state="finished")])
        assert rung == [1]
        app.runs_seen([replace(living, alive=False, state="finished")])
        assert rung == [1], "once"
    for ticket in tickets:
        ticket.leave()
