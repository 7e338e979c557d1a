"""What a run does where mains power goes away and comes back, and where the system ends the process of a stage: by way
of a file that stands for the battery, and of real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from localdistill import Store, Workspace, parse_recipe, start, survey, wait
from localdistill.core.events import Failed, Noted, StageStarted, Warned
from localdistill.core.stages import Leg
from localdistill.runs.deaths import MOST_DEATHS
from localdistill.runs.power import Power
from localdistill.runs.supervisor import Recorder, Supervisor, computes_here
from localdistill.stages.outputs import TrainOutput, read_output
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import REPO, collecting_recipe, counting_server, wait_for, write_questions

SCRIPT = """
import sys, time
from pathlib import Path
from localdistill.runs.power import Power
from localdistill.runs.supervisor import Supervisor
from localdistill.workspace.run_folder import RunFolder
battery, fast = Path(sys.argv[2]), lambda: 1000 * time.monotonic()
sys.exit(Supervisor(RunFolder(Path(sys.argv[1])), power=Power("pause", battery.exists, fast, fast)).main())
"""


def a_run(folder: Path, text: str) -> RunFolder:
    recipe = parse_recipe(text)
    return RunFolder.create(Workspace(folder).runs, recipe, text, {
        "stages": recipe.stages(), "base": str(folder), "warnings": [], "ledger": True, "on_battery": "pause"})


@contextmanager
def supervised(run: RunFolder, battery: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The supervisor of `run`, which runs on battery while the file `battery` is there."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(run.path), str(battery)], cwd=REPO)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def waits(run: RunFolder) -> bool:
    return run.status().data.get("waiting") == "mains power"


def said(run: RunFolder, kind: type) -> list[str]:
    return [event.text for event, _ in run.events() if isinstance(event, kind)]


def test_a_run_stands_still_on_battery_and_goes_on_with_mains_power(tmp_path: Path) -> None:
    battery = tmp_path / "on battery"
    with counting_server(latency_s=0.02) as server:
        run = a_run(tmp_path, collecting_recipe(write_questions(tmp_path / "q.jsonl", 60), server.url, 2))
        with supervised(run, battery) as process:
            wait_for(lambda: sum(server.asked.values()) >= 5)
            battery.touch()
            wait_for(lambda: waits(run))
            asked, status = sum(server.asked.values()), run.status()
            assert asked < 60 and status.alive and status.state == "running" and not psutil.Process(
                process.pid).children()
            assert ("waits", f"{run.id} waits for mains power: collect goes on by itself then") in survey(
                Workspace(tmp_path)).facts
            battery.unlink()
            assert process.wait(60) == 0
        assert run.status().state == "finished" and not waits(run) and not run.pause_asked()
        assert Store(Workspace(tmp_path).store_path).counts().traces == 60
        assert max(server.asked.values()) <= 2
    assert not said(run, Failed) and any("on battery" in text for text in said(run, Warned))
    assert "'collect' waited for mains power" in said(run, Noted)


def test_a_run_that_waits_for_power_can_be_cancelled(tmp_path: Path) -> None:
    battery = tmp_path / "on battery"
    battery.touch()
    with counting_server() as server:
        run = a_run(tmp_path, collecting_recipe(write_questions(tmp_path / "q.jsonl", 3), server.url))
        with supervised(run, battery) as process:
            wait_for(lambda: waits(run))
            run.ask_cancel()
            assert process.wait(60) == 130
        assert not server.asked and run.status().state == "cancelled"


def test_only_what_computes_here_waits_for_power() -> None:
    here, elsewhere = (parse_recipe(collecting_recipe(Path("q.jsonl"), url))
                       for url in ("http://127.0.0.1:8080/v1", "https://models.example.org/v1"))
    assert computes_here(here, "collect") and not computes_here(elsewhere, "collect")
    assert not computes_here(here, "grade") and computes_here(elsewhere, "train")


def test_a_battery_that_nobody_can_read_is_said_and_stops_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path, collecting_recipe(Path("q.jsonl"), "http://127.0.0.1:1/v1"))
    supervisor = Supervisor(run, power=Power("pause", lambda: None))
    supervisor._say_what_powers(Recorder(run, "collecting"))
    assert any("does not say what powers it" in text for text in said(run, Warned))


# ---- processes that the system ends


class Dying(Supervisor):
    """A supervisor whose children end as the test says."""

    def __init__(self, run: RunFolder, codes: list[int]) -> None:
        super().__init__(run, power=Power("go"))
        self.codes, self.told = codes, list[tuple[str, ...]]()

    def _child(self, stage: str, recorder: Recorder, *more: str) -> tuple[int, bool]:
        self.told.append(tuple(filter(None, more)))
        return self.codes.pop(0), False


def test_a_training_that_the_system_ends_is_started_again_with_less(tmp_path: Path) -> None:
    run = a_run(tmp_path, collecting_recipe(Path("q.jsonl"), "http://127.0.0.1:1/v1"))
    supervisor = Dying(run, [-9, -9, 0])
    assert supervisor._stage(Leg("train", 1), Recorder(run, "collecting")) == 0
    assert supervisor.told == [("1",), ("1", "after-death"), ("1", "after-death")]
    assert len([text for text in said(run, Warned) if "one rung lower" in text]) == 2 and not said(run, Failed)
    assert sum(isinstance(event, StageStarted) for event, _ in run.events()) == 3


@pytest.mark.parametrize(("stage", "codes", "tries"), [("collect", [-9], 1), ("train", [-11], 1),
                                                       ("train", [-9] * (MOST_DEATHS + 1), MOST_DEATHS + 1)])
def test_a_stage_that_cannot_give_way_or_died_of_something_else_fails(tmp_path: Path, stage: str, codes: list[int],
                                                                      tries: int) -> None:
    run = a_run(tmp_path, collecting_recipe(Path("q.jsonl"), "http://127.0.0.1:1/v1"))
    supervisor = Dying(run, [*codes])
    assert supervisor._stage(Leg(stage, 1), Recorder(run, "collecting")) == 1
    assert len(supervisor.told) == tries
    why = ", most likely for want of memory" if codes[-1] == -9 else ""
    assert f"the process of the stage '{stage}' was killed by signal {-codes[-1]}{why}" in said(run, Failed)


@pytest.mark.slow
def test_a_real_training_goes_on_after_a_kill_with_smaller_pieces(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    from tests.recipes.test_pantry_mlx import recipe

    text = recipe(tmp_path, "none").replace("max_steps = 10", "max_steps = 10\ncheckpoint_every_steps = 2")
    run = start(Workspace(tmp_path), parse_recipe(text), text, tmp_path, "train")

    def training() -> psutil.Process | None:
        found = (tmp_path / "artifacts").glob("adapter/.building-*/checkpoints/step-*")
        is_saved = any(path.suffix != ".partial" for path in found)
        children = psutil.Process(run.status().data["pid"]).children() if is_saved else []
        return children[0] if children else None

    wait_for(lambda: training() is not None, 300)
    child = training()
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    assert wait(run).state == "finished"
    texts = said(run, Warned)
    assert any("started again, one rung lower" in text for text in texts)
    assert any("micro-batches now hold" in text for text in texts)
    assert any("resumed after step" in text for text in said(run, Noted))
    assert read_output(run, TrainOutput).adapters["full_trace"][0].result.steps == 10
