"""A whole session through the real program in a real terminal: an empty folder, the pantry world on few questions,
every screen looked at, and a chat with what came out."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from localdistill import RunFolder, Workspace, recipe_file
from tests.tui.terminal import Terminal

pytest.importorskip("llama_cpp")
pytest.importorskip("torch")
STAGES = ("collect", "grade", "select", "rewrite", "format", "train", "evaluate", "export")


def small_pantry() -> str:
    """The shipped recipe with few questions, two arms and one file."""
    text = recipe_file("pantry").read_text()
    head, arms, rest = text.partition("[arm.")[0], text.split("[arm.")[1:], text[text.index("[train]"):]
    kept = [arm.partition("[train]")[0] for arm in arms if '"answer_only"' in arm or '"full_trace"' in arm]
    assert len(kept) == 2
    text = head + "".join(f"[arm.{arm}" for arm in kept) + rest
    return (text.replace("limit = 2000", "limit = 24").replace("epochs = 2", "epochs = 1")
            .replace('arm = "best"', 'arm = "full_trace"').replace('"F16", "Q8_0", "Q4_K_M"', '"Q8_0"'))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_an_empty_folder_to_a_chat(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    with Terminal(folder, size=(120, 36)) as terminal:
        terminal.until("Three keys")
        terminal.go("9", "Export")
        terminal.until("Nothing is exported yet")
        (folder / "little.toml").write_text(small_pantry())
        terminal.press("m")
        terminal.until("little.toml")
        terminal.press("enter")
        run = RunFolder(Workspace(folder).runs / "pantry-1")
        terminal.wait_until(lambda: (run.path / "status.json").exists(), "a run")
        terminal.go("3", "Collect")
        terminal.wait_until(lambda: (run.path / "stages" / "collect.json").exists(), "the replies", 180)
        terminal.go("4", "Traces")
        terminal.until("row 1")
        terminal.press("enter")
        terminal.until("thinking")
        terminal.press("escape")
        terminal.wait_until(lambda: (run.path / "stages" / "select.json").exists(), "a selection", 300)
        terminal.go("5", "Select")
        terminal.until("verified")
        terminal.wait_until(lambda: (run.path / "stages" / "format.json").exists(), "datasets", 180)
        terminal.go("6", "Formats")
        terminal.until("full_trace")
        terminal.go("7", "Train")
        terminal.wait_until(lambda: (run.path / "stages" / "train.json").exists(), "adapters", 300)
        terminal.until("loss")
        terminal.wait_until(lambda: (run.path / "stages" / "evaluate.json").exists(), "a score card", 300)
        terminal.go("8", "Evaluate")
        terminal.until("300 items")
        terminal.wait_until(lambda: run.status().state == "finished", "the end of the run", 300)
        terminal.go("9", "Export")
        terminal.until("with their SHA-256")
        terminal.until("Q8_0")
        since = len(terminal.output)
        terminal.press("t")
        terminal.until(" Chat ", since)
        terminal.settle()
        since = len(terminal.output)
        terminal.press(*"33 masks lay in the crate. 7 masks were carried out. How many are left?", "enter")
        terminal.until("tokens ·", since, 120)
        children = [p for p in psutil.Process(terminal.process.pid).children(recursive=True)]
        assert children, "the model has a process of its own"
        terminal.press("escape")
        terminal.settle()
        terminal.press("escape")
        terminal.settle()
        terminal.go("r", "Runs")
        terminal.until("pantry-1")
        terminal.press("ctrl+q")
        terminal.wait_until(lambda: terminal.process.poll() is not None, "the end of the program")
        assert terminal.process.returncode == 0
        assert b"\x1b[?1049l" in terminal.raw, "the terminal is given back"
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert all((run.path / "stages" / f"{stage}.json").exists() for stage in STAGES)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert events[-1]["kind"] == "run_finished" and events[-1]["state"] == "finished"
