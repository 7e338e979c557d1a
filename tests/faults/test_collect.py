"""Whole runs from the command line against faults: they end complete or resumable, say why in one line, and what was
answered is neither lost nor asked for twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from localdistill import RunFolder, Store, Workspace
from localdistill.core.records import Trace
from localdistill.safety.journal import read
from localdistill.workspace.quarantine import read_quarantine
from tests.faults import FaultServer, Outage, Rule, Script, Step, fault_server, spawn_fault_server
from tests.faults.asking import KINDS, doubles, right_answer
from tests.helpers import wait_for, write_questions

both_mostly_slow = pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.slow)])
CLI = [sys.executable, "-c", "from localdistill.cli import main; main()"]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


class Desk:
    """A workspace with one recipe, used from the command line."""

    def __init__(self, folder: Path, url: str, questions: int, kind: str = "openai_compatible", lines: str = "",
                 patience_s: float = 5.0) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.recipe = folder / "recipe.toml"
        provider = 'provider = ""\n' if kind == "anthropic" else ""
        self.recipe.write_text(
            f'name = "faults"\n[prompts]\nfiles = ["{write_questions(folder / "q.jsonl", questions)}"]\n'
            f'[teacher]\nuse = "{kind}"\n{provider}base_url = "{url}"\nmodel = "m"\nbackoff_s = 0.01\n'
            f"patience_s = {patience_s}\nfinish_s = 1\nretries = 3\n{lines}\n[collect]\nmay_fail = 0.0\n")

    def command(self, *words: str) -> list[str]:
        return [*CLI, *words, "--workspace", str(self.workspace), "--json"]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), capture_output=True, text=True, cwd=self.folder, timeout=120)

    def collect(self) -> subprocess.CompletedProcess[str]:
        return self.call("collect", str(self.recipe))

    def resume(self) -> subprocess.CompletedProcess[str]:
        return self.call("resume", "last")

    def stored(self) -> dict[str, Trace]:
        """Traces by question; a question that is there twice fails."""
        store = Store(Workspace(self.workspace).store_path)
        pairs = list(store.pairs([trace.id for trace in store.traces()]))
        assert max(Counter(prompt.question for prompt, _ in pairs).values(), default=1) == 1
        return {prompt.question: trace for prompt, trace in pairs}


def problem(out: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a run said why it ended."""
    events = [json.loads(line) for line in out.stdout.splitlines()]
    (failed,) = [event for event in events if event["kind"] == "failed"]
    assert failed["text"] and "\n" not in failed["text"] and failed["hint"]
    assert out.stderr.count("\n") <= 2 and "Traceback" not in out.stderr, out.stderr
    return str(failed["text"])


def all_right(stored: dict[str, Trace], count: int) -> bool:
    """Every question has its own whole answer."""
    return set(stored) == set(doubles(count)) and all(
        (trace.status, trace.reasoning, trace.answer) == right_answer(question) for question, trace in stored.items())


PASSING = (
    Step(status=500), Step(cut=350), Step(cut=500, ending="reset"), Step(error_after=4), Step(cut=200, ending="stall"),
    Step(body="<html>", content_type="text/html"), Step(body="<html>", content_type="text/html", status=502),
    Step(status=429, headers={"Retry-After": "0.1"}), Step(status=529), Step(body="\xff\x00"),
)
"""One fault for each last digit of a question."""


@both_mostly_slow
def test_a_run_through_all_that_passes_ends_complete(tmp_path: Path, kind: str) -> None:
    rules = tuple(Rule(step, question=f".*{digit}", times=1, per_question=True) for digit, step in enumerate(PASSING))
    with fault_server(Script(rules=rules, outages=(Outage(after=30, for_s=0.2),))) as server:
        desk = Desk(tmp_path, server.url, 40, kind, "idle_s = 0.4")
        out = desk.collect()
        assert out.returncode == 0, out.stdout + out.stderr
        assert all_right(desk.stored(), 40)
        answered = sum(server.answered.values())
        assert answered <= 40 + 16, "only what was on its way when the server went down comes twice"


def test_what_cannot_be_answered_is_kept_as_evidence_and_asked_again_later(tmp_path: Path, server: FaultServer) -> None:
    page = "<html>\xff no answer</html>"
    server.play(Script(rules=(Rule(Step(body=page, content_type="text/html"), question="Double 3"),
                              Rule(Step(status=400, body="\xff\x1b[2J bad"), question="Double 5"),
                              Rule(Step(gzip_mb=3000), question="Double 7"))))
    desk = Desk(tmp_path, server.url, 12)
    out = desk.collect()
    assert out.returncode == 3 and "3 of 12" in problem(out)
    assert len(desk.stored()) == 9
    (path,) = desk.workspace.glob("runs/*/quarantine.jsonl")
    bodies = [row.body for row in read_quarantine(path)]
    assert page.encode("latin-1") in bodies and path.stat().st_size < 8_000_000
    asked = dict(server.asked)
    server.play(Script())
    assert desk.resume().returncode == 0
    assert all_right(desk.stored(), 12)
    assert {q for q, n in server.asked.items() if n > asked[q]} == {"Double 3", "Double 5", "Double 7"}


@both_mostly_slow
def test_402_is_one_line_and_the_run_goes_on_after_it_is_paid(tmp_path: Path, server: FaultServer, kind: str) -> None:
    server.play(Script(rules=(Rule(Step(status=402), after=15),)))
    desk = Desk(tmp_path, server.url, 40, kind, "concurrency = 2")
    out = desk.collect()
    assert out.returncode == 3 and "402" in problem(out) and "15 of 40" in problem(out)
    assert len(server.requests) <= 17
    server.play(Script())
    assert desk.resume().returncode == 0
    assert all_right(desk.stored(), 40) and set(server.answered.values()) == {1}


def test_a_server_that_goes_for_good_leaves_a_run_to_resume(tmp_path: Path) -> None:
    with fault_server(Script(outages=(Outage(after=20, for_s=3600),))) as server:
        desk = Desk(tmp_path, server.url, 40, patience_s=0.5)
        out = desk.collect()
        assert out.returncode == 3 and server.url in problem(out)
        kept, asked = set(desk.stored()), dict(server.asked)
        assert 0 < len(kept) <= 20
        server.play(Script())
        server.come_up()
        assert desk.resume().returncode == 0
        assert all_right(desk.stored(), 40) and all(server.asked[question] == asked[question] for question in kept)


def test_a_refused_key_is_one_line(tmp_path: Path, server: FaultServer) -> None:
    server.play(Script(default=Step(status=401)))
    out = Desk(tmp_path, server.url, 40, lines="concurrency = 4").collect()
    assert out.returncode == 1 and "401" in problem(out) and len(server.requests) <= 4


def test_odd_characters_go_all_the_way_and_back(tmp_path: Path, server: FaultServer) -> None:
    odd = ("nul \x00 end", "escape \x1b[2J\x1b]52;c;eA==\x07", "half \ud83d pair", "bidi \u202e txet",
           "line \u2028 end")
    server.play(Script(rules=tuple(Rule(Step(answer=text), question=f"Double {n}") for n, text in enumerate(odd))))
    desk = Desk(tmp_path, server.url, 8)
    out = desk.collect()
    assert out.returncode == 0, out.stdout + out.stderr
    stored = desk.stored()
    assert len(stored) == 8 and {trace.status for trace in stored.values()} == {"complete"}
    for n, text in enumerate(odd):
        answer = stored[f"Double {n}"].answer
        assert answer == text or (answer[:4], answer[-3:]) == (text[:4], text[-3:])
    assert stored["Double 7"].answer == "The answer is 14."
    shown = subprocess.run([*CLI, "traces", "--workspace", str(desk.workspace)], capture_output=True, text=True,
                           cwd=tmp_path)
    assert shown.returncode == 0 and not set(shown.stdout + shown.stderr) & {"\x1b", "\x07", "\x00", "\u202e"}


def workers(process: subprocess.Popen[str], workspace: Path) -> list[int]:
    """Everything that works on a run: the command, the supervisor, the stage."""
    found = [p for p in psutil.process_iter(["cmdline"]) if str(workspace) in " ".join(p.info["cmdline"] or ())]
    pids = sorted({process.pid, *(p.pid for p in found)})
    assert len(pids) >= 3
    return pids


def kill_run(process: subprocess.Popen[str], workspace: Path) -> None:
    """SIGKILL for all of it."""
    for victim in workers(process, workspace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.communicate()


@both_mostly_slow
def test_a_killed_run_resumes_without_loss_and_pays_twice_for_nothing_it_had(tmp_path: Path, kind: str) -> None:
    script = Script(service_s=0.02, capacity=4)
    with spawn_fault_server(script, tmp_path) as server:
        desk = Desk(tmp_path, server.url, 60, kind, "concurrency = 4")
        process = subprocess.Popen(desk.command("collect", str(desk.recipe)), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        wait_for(lambda: len(server.requests()) >= 20)
        kill_run(process, desk.workspace)
        asked_before = server.asked()
        assert len(asked_before) < 60
        journal = RunFolder.open(Workspace(desk.workspace).runs, "last").journal
        had = {record["trace"]["id"] for record, _ in read(journal) if "trace" in record}
        out = desk.resume()
        assert out.returncode == 0, out.stdout + out.stderr
        stored = desk.stored()
        assert all_right(stored, 60) and had <= {trace.id for trace in stored.values()}
        twice = {stored[question].id for question, times in server.asked().items() if times > 1}
        assert had and not twice & had, "only what was in flight, or not on disk yet, is asked again"


@pytest.mark.slow
def test_a_run_that_slept_through_an_outage_goes_on(tmp_path: Path, server: FaultServer) -> None:
    """A laptop that is closed: nothing of the run moves, meanwhile its connections die."""
    server.play(Script(service_s=0.02, capacity=4))
    desk = Desk(tmp_path, server.url, 60, lines="concurrency = 4")
    process = subprocess.Popen(desk.command("collect", str(desk.recipe)), stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE, cwd=tmp_path)
    wait_for(lambda: len(server.requests) >= 20)
    asleep = workers(process, desk.workspace)
    for pid in asleep:
        os.kill(pid, signal.SIGSTOP)
    server.go_down()
    server.come_up()
    for pid in asleep:
        os.kill(pid, signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0 and all_right(desk.stored(), 60)


HARD = (
    Step(status=500), Step(cut=350), Step(cut=500, ending="reset"), Step(error_after=4), Step(cut=120, ending="abrupt"),
    Step(body="<html>", content_type="text/html"), Step(status=502, body="<html>", content_type="text/html"),
    Step(status=408), Step(body="\xff\x00"), Step(cut=0, ending="reset"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("openai_compatible", 9000), ("anthropic", 2000)])
def test_ten_thousand_faults_lose_and_double_nothing(tmp_path: Path, kind: str, count: int) -> None:
    """Half of the questions fail twice: a server on which nothing at all works is asked less and less often instead."""
    rules = tuple(Rule(step, question=f".*{digit}[02468]", times=2, per_question=True)
                  for digit, step in enumerate(HARD))
    with fault_server(Script(rules=rules)) as server:
        desk = Desk(tmp_path, server.url, count, kind, "concurrency = 64", patience_s=60)
        out = desk.collect()
        assert out.returncode == 0, out.stdout[-2000:] + out.stderr
        assert all_right(desk.stored(), count)
        assert sum(server.asked.values()) >= 1.9 * count and set(server.answered.values()) == {1}
