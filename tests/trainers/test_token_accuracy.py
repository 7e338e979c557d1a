"""The share of trained tokens that the student ranks first, by every backend: that of full logits, however the batch is
cut, and of right answers only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localdistill.core.events import Cancel, Event, Measured
from localdistill.objectives.dpo import DpoObjective
from localdistill.objectives.sft import SftObjective
from localdistill.trainers import TRAINERS
from tests.trainers.rows import job, random_pairs, random_rows

torch = pytest.importorskip("torch")


def half_known(student: Path, rows: list[dict[str, Any]]) -> int:
    """Let the student itself write every second trained token of the rows; how many of the right answers' tokens it
    ranks first then."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32).eval()
    count = 0
    for row in rows:
        ids = row["input_ids"]
        for place, weight in enumerate(row["weights"]):
            if weight <= 0:
                continue
            with torch.no_grad():
                best = int(model(torch.tensor([ids[:place]])).logits[0, -1].argmax())
            if place % 2 and place < len(ids) - 1:
                ids[place] = best
            count += row["sign"] > 0 and ids[place] == best
    return count


@pytest.mark.parametrize("name", ["torch_lora", "mlx_lora"])
@pytest.mark.parametrize(("objective", "rows"), [(SftObjective, random_rows(6, 6, 12)), (DpoObjective,
                                                                                         random_pairs(3, 6, 12))])
def test_the_share_is_that_of_full_logits(name: str, objective: Any, rows: list[dict[str, Any]], student: Path,
                                          tmp_path: Path) -> None:
    pytest.importorskip({"torch_lora": "torch", "mlx_lora": "mlx.core"}[name])
    rows = [{**row, "input_ids": list(row["input_ids"])} for row in rows]
    first = half_known(student, rows)
    wanted = sum(weight > 0 for row in rows if row["sign"] > 0 for weight in row["weights"])
    assert 0 < first < wanted
    cls: Any = TRAINERS.load(name)
    for micro_tokens in (4096, 16):
        events: list[Event] = []
        told = {"rank": 2, "batch_rows": len(rows), "max_steps": 1, "micro_tokens": micro_tokens,
                **({"device": "cpu"} if name == "torch_lora" else {})}
        result = cls(cls.Options.model_validate(told)).train(
            job(student, tmp_path / str(micro_tokens), rows, objective=objective()), events.append, Cancel())
        assert [event.value for event in events if isinstance(event, Measured) and event.name == "token_accuracy"] == [
            pytest.approx(first / wanted)] == list(result.token_accuracy)


def test_a_head_that_lies_in_main_memory_ranks_as_the_whole_one() -> None:
    from localdistill.trainers.torch.head import FusedHead, HeadValues
    from localdistill.trainers.torch.host_head import HostHead

    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 50, bias=False)
    hidden = torch.randn(40, 8)
    listed = torch.where(torch.rand(40) < 0.5, linear(hidden).argmax(-1), torch.randint(0, 50, (40,)))[:, None]

    def pulling(part: slice, values: HeadValues) -> HeadValues:
        return HeadValues(torch.ones_like(values.logprobs))

    whole = FusedHead(linear).pull(hidden, listed, frozenset(), pulling)[0]
    host = HostHead(linear, torch.device("cpu"))
    host.slice_rows = 7
    sliced = host.pull(hidden, listed, frozenset(), pulling)[0]
    assert whole.first is not None and sliced.first is not None and 0 < int(whole.first.sum()) < 40
    assert whole.first.tolist() == sliced.first.tolist() == (linear(hidden).argmax(-1) == listed[:, 0]).tolist()
