"""The pantry student learns from right and wrong traces of its own teacher: what was preferred becomes likelier beside
what was not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from localdistill import Workspace, parse_recipe, start, wait
from localdistill.core.events import Event, Measured
from localdistill.stages.outputs import FormatOutput, TrainOutput, read_output

pytest.importorskip("llama_cpp")
pytest.importorskip("torch")
RECIPE = """
name = "preferences"
[prompts]
files = ["shipped:pantry/prompts.jsonl"]
limit = 100
[teacher]
use = "llama_cpp"
model = "shipped:pantry/teacher.gguf"
[collect]
max_tokens = 320
samples = 4
temperature = 1.3
[[grade]]
use = "exact"
[student]
model = "shipped:pantry/student"
max_tokens = 512
[[arm]]
name = "dpo"
format = "preference"
of = "full_trace"
objective = { use = "dpo" }
[[arm]]
name = "redi"
format = "preference"
of = "full_trace"
objective = { use = "redi" }
[[arm]]
name = "after"
format = "preference"
of = "full_trace"
start = "redi"
epochs = 3
objective = { use = "dpo" }
[train]
rank = 16
learning_rate = 2e-4
epochs = 4
batch_rows = 8
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_dpo_and_redi_learn_from_right_and_wrong_traces(tmp_path: Path) -> None:
    events: list[Event] = []
    run = start(Workspace(tmp_path), parse_recipe(RECIPE), RECIPE, tmp_path)
    status = wait(run, [events.append])
    assert status.state == "finished", (status.data, run.log.read_text()[-3000:])

    def seen(arm: str, name: str) -> list[float]:
        found = (event for event in events if isinstance(event, Measured) and event.arm == arm)
        return [event.value for event in found if event.name == name]

    arms = read_output(run, FormatOutput).arms
    made = read_output(run, TrainOutput).adapters
    pairs = arms["dpo"].facts.rows // 2
    assert pairs >= 20 and arms["redi"].facts.rows == 2 * pairs
    for arm in ("dpo", "redi", "after"):
        steps = made[arm][0].result.steps
        assert steps == (3 if arm == "after" else 4) * math.ceil(pairs / 4) and not made[arm][0].result.stopped_early
        losses = seen(arm, "loss")
        third = len(losses) // 3
        assert all(map(math.isfinite, losses)) and sum(losses[-third:]) < sum(losses[:third])
    for arm in ("dpo", "after"):
        margins = seen(arm, "margin")
        assert seen(arm, "loss")[0] == pytest.approx(math.log(2), abs=0.02) and abs(margins[0]) < 0.05
        assert sum(margins[-5:]) / 5 > 0.3
