"""Supervised training stays what it was: the losses of forty steps, as figures that an earlier trainer left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.events import Cancel, Event
from localdistill.objectives.sft import SftObjective
from tests.tiny_models import tiny_model
from tests.trainers.rows import job, random_rows
from tests.trainers.test_torch_lora import losses, trainer

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
FIGURES = Path(__file__).with_name("sft_losses.json")
TAGS = (398, 399)


def weighted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose tokens count differently, the last one fully."""
    for row in rows:
        trained = [place for place, weight in enumerate(row["weights"]) if weight]
        for number, place in enumerate(trained[:-1]):
            row["weights"][place] = (0.25, 1.0, 0.0, 2.0)[number % 4]
    return rows


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = {
    "plain": ({}, {}, random_rows(24)),
    "label smoothing": ({}, {"objective": SftObjective(SftObjective.Options(label_smoothing=0.1))}, random_rows(24)),
    "weights": ({}, {}, weighted(random_rows(24))),
    "tags": ({}, {"tag_token_ids": TAGS}, random_rows(24, always=TAGS)),
    "micro-batches": ({"micro_tokens": 40}, {}, random_rows(24)),
}


def forty_losses(case: str, tied: bool, folder: Path) -> list[float]:
    options, changes, rows = CASES[case]
    student = tiny_model(folder / "student", hidden=32, tied=tied)
    events: list[Event] = []
    trainer(learning_rate=2e-3, epochs=20, max_steps=40, **options).train(
        job(student, folder / "out", rows, **changes), events.append, Cancel())
    return losses(events)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_forty_losses_are_the_same(case: str, tied: bool, tmp_path: Path) -> None:
    kept = json.loads(FIGURES.read_text())[f"{case}, {'tied' if tied else 'untied'}"]
    found = forty_losses(case, tied, tmp_path)
    assert len(found) == 40 and found[-1] < found[0]
    assert found == pytest.approx(kept, rel=1e-6)
