"""The pantry recipe in MLX, from stored traces to a GGUF that passes the gate: 32 rows, 10 steps, and the base answered
by the same engine as the arm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Workspace, parse_recipe, start, wait
from localdistill.core.events import Event, Measured, Noted
from localdistill.exporters.parity_report import PARITY_FILE, ParityReport
from localdistill.stages.outputs import ExportOutput, TrainOutput, read_output

pytest.importorskip("llama_cpp")
pytest.importorskip("torch")
pytest.importorskip("mlx.core")
SHIPPED = Path(__file__).parents[2]
MEMBERS = """
[train]
use = "mlx_lora"
quantization = "{quantization}"
rank = 8
learning_rate = 3e-3
batch_rows = 2
max_steps = 10
epochs = 2
[evaluate]
max_tokens = 24
engine_options = {{ batch_rows = 4 }}
[[evaluate.task]]
use = "jsonl"
path = "held_out.jsonl"
grader = "exact"
[export]
arm = "full_trace"
[[export.to]]
use = "gguf"
quants = ["F16"]
measure = false
parity_prompts = ["Ann had 3 cups. She bought 2 more. How many?"]
greedy_tokens = 8
"""


def recipe(folder: Path, quantization: str) -> str:
    """Shipped prompts with their traces in a file, in the place of the teacher."""
    lines = (SHIPPED / "data/pantry/prompts.jsonl").read_text().splitlines()
    prompts = [one for one in map(json.loads, lines) if one["reference"].isdecimal()]
    traces = [{"messages": one["messages"], "reasoning": f"Step by step that comes to {one['reference']}.",
               "answer": f"The answer is {one['reference']}."} for one in prompts[:32]]
    (folder / "recording.jsonl").write_text("".join(json.dumps(one) + "\n" for one in traces))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in prompts[:32]))
    (folder / "held_out.jsonl").write_text("".join(json.dumps(one) + "\n" for one in prompts[40:44]))
    head = (SHIPPED / "recipes/pantry.toml").read_text().partition("[train]")[0]
    head = head.replace('files = ["shipped:pantry/prompts.jsonl"]', 'files = ["prompts.jsonl"]')
    head = head.replace('use = "llama_cpp"\nmodel = "shipped:pantry/teacher.gguf"',
                        'use = "replay"\npath = "recording.jsonl"')
    start_of, end_of = head.index("[traces.summary]"), head.index("[student]")
    arms = head.index("[arm.original]")
    return head[:start_of] + head[end_of:arms] + '[arm.full_trace]\nformat = "full_trace"\n' + MEMBERS.format(
        quantization=quantization)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("quantization", ["none", pytest.param("4bit", marks=pytest.mark.slow)])
def test_stored_traces_become_a_gguf_by_way_of_mlx(quantization: str, tmp_path: Path) -> None:
    events: list[Event] = []
    text = recipe(tmp_path, quantization)
    run = start(Workspace(tmp_path), parse_recipe(text), text, tmp_path)
    status = wait(run, [events.append])
    assert status.state == "finished", (status.data, run.log.read_text()[-3000:])
    assert read_output(run, TrainOutput).adapters["full_trace"][0].result.steps == 10
    losses = [event.value for event in events if isinstance(event, Measured) and event.name == "loss"]
    assert len(losses) == 10 and losses[-1] < losses[0]
    assert any("MLX on the" in event.text for event in events if isinstance(event, Noted))
    made = read_output(run, ExportOutput)
    folder = tmp_path / "artifacts" / "export"
    report = next(path for path in folder.rglob(PARITY_FILE))
    assert ParityReport.from_bytes(report.read_bytes(), PARITY_FILE).passed and made.files
    card = next(folder.rglob("README.md")).read_text()
    assert ("weights held as mlx-4bit-g64" in card) is (quantization == "4bit")
