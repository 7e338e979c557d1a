"""A base in few bits is an artifact: made once, shared by runs, verified, made again where it is damaged, and what a
killed making left is in nobody's way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Workspace, parse_recipe, plan_pruning, start, wait
from localdistill.core.events import ArtifactWritten, Event, Warned
from localdistill.workspace.folder import Artifact
from localdistill.workspace.leftovers import leftovers
from localdistill.workspace.run_folder import RunFolder
from tests.tiny_models import tiny_model

pytest.importorskip("torch")
pytest.importorskip("mlx.core")
RECIPE = """
name = "few"
[traces]
files = ["rows.jsonl"]
[student]
model = "STUDENT"
max_tokens = 200
[[arm]]
name = "full"
format = "full_trace"
[train]
use = "mlx_lora"
quantization = "4bit"
rank = 2
max_steps = 1
"""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("held") / "student")


def run(folder: Path, student: Path, **train: object) -> tuple[RunFolder, list[Event]]:
    folder.mkdir(exist_ok=True)
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "<think>\na\n</think>\n\n1"}]
    (folder / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    text = RECIPE.replace("STUDENT", str(student)) + "".join(f"{key} = {value}\n" for key, value in train.items())
    made, events = start(Workspace(folder), parse_recipe(text), text, folder, "train"), list[Event]()
    assert wait(made, [events.append]).state == "finished", made.log.read_text()[-2000:]
    return made, events


def bases(events: list[Event]) -> list[tuple[str, bool]]:
    return [(event.digest, event.reused) for event in events
            if isinstance(event, ArtifactWritten) and event.artifact_kind == "base"]


def test_a_base_is_made_once_shared_kept_by_its_adapters_and_made_again_when_it_is_damaged(
        tmp_path: Path, student: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    [(digest, reused)] = bases(run(workspace.root, student)[1])
    assert not reused
    assert bases(run(workspace.root, student, learning_rate=1e-3)[1]) == [(digest, True)]
    artifact = workspace.artifact("base", digest)
    assert artifact is not None
    assert {"held": "mlx-4bit-g64", "bits": 4, "group_size": 64, "dtype": "float32"}.items() <= dict(
        artifact.manifest).items()
    assert [item.kept_by for item in plan_pruning(workspace, 7) if item.kind == "base"] != [""]
    weights = artifact.path / "held.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    _, events = run(workspace.root, student, learning_rate=2e-3)
    assert bases(events) == [(digest, False)]
    assert any("is damaged" in event.text and "made again" in event.text for event in events
               if isinstance(event, Warned))


def test_what_a_killed_making_left_is_named_and_in_nobodys_way(tmp_path: Path, student: Path) -> None:
    whole, half = Workspace(tmp_path / "whole"), Workspace(tmp_path / "half")
    [(digest, _)] = bases(run(whole.root, student)[1])
    left = half.artifacts / "base" / f".building-{digest.removeprefix('b2:')}"
    left.mkdir(parents=True)
    (left / "held.safetensors").write_bytes(b"half")
    (left / ".scratch-x").mkdir()
    assert [(one.path, one.what) for one in leftovers(half)] == [(left, "half a base")]
    assert bases(run(half.root, student)[1]) == [(digest, False)]
    one, other = (Artifact("base", digest, folder.artifacts / "base" / digest.removeprefix("b2:"))
                  for folder in (whole, half))
    assert other.damage() == "" and other.strangers() == [] and not left.exists()
    assert one.file("held.safetensors").read_bytes() == other.file("held.safetensors").read_bytes()
