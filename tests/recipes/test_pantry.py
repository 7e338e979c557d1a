"""The pantry recipe as a stranger runs it: from a wheel, in an empty environment, in another folder."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import REPO


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_pantry_recipe_runs_from_a_wheel_in_an_empty_environment(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def call(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    call(sys.executable, "-m", "venv", "fresh")
    python = str(tmp_path / "fresh" / "bin" / "python")
    call(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", "dist", str(REPO))
    (wheel,) = (tmp_path / "dist").glob("localdistill-*.whl")
    pins = ("-c", str(REPO / "constraints.txt"))
    call(python, "-m", "pip", "install", "-q", f"torch=={importlib.metadata.version('torch')}", *pins)
    call(python, "-m", "pip", "install", "-q", f"{wheel}[all]", *pins)
    command = str(tmp_path / "fresh" / "bin" / "localdistill")
    events = [json.loads(line) for line in call(command, "run", "pantry", "--json").splitlines()]
    assert events[-1] == {**events[-1], "kind": "run_finished", "state": "finished"}
    assert (tmp_path / "localdistill.duckdb").exists()
    exported = next(e for e in events if e["kind"] == "artifact_written" and e["artifact_kind"] == "export")
    folder = tmp_path / "artifacts" / "export" / exported["digest"].removeprefix("b2:")
    assert next(folder.glob("*Q8_0.gguf"))
    question = "Anna had 4 cups. Then she bought 3 cups. How many cups did Anna have in the end?"
    answer = json.loads(call(command, "chat", "--ask", question, "--json"))
    assert answer["answer"]
