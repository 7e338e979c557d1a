"""One small member of every architecture goes through everything: it is trained on torch and on MLX alike, merged,
exported through the gate, quantized and answered. A new architecture is covered without further edits."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import Cancelled
from localdistill.core.events import Cancel, Event, silent
from localdistill.exporters.gguf import GgufExporter
from localdistill.exporters.job import ExportJob
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.trained import TrainedRow, logprobs_of
from localdistill.objectives.sft import SftObjective
from localdistill.trainers.merge import merge
from tests.tiny_models import tiny_of
from tests.trainers.rows import job, random_rows
from tests.trainers.test_torch_lora import Loaded, losses, trainer

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
TAGS = (398, 399)
EVERY = pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
LONGER = 60
"""Tokens of a row: more than the windows of the tiny ones hold, where a library computes those."""


def loss_error(kind: Architecture) -> float:
    """How far losses of MLX may be from those of torch, after so many steps."""
    return 1e-3 if kind.model_type.startswith("gemma") else 5e-5


@EVERY
def test_mlx_has_the_gradient_of_torch(kind: Architecture, tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    pytest.importorskip("peft")
    from tests.trainers.test_mlx_lora import LoadedInMlx, worst

    student = tiny_of(kind, tmp_path / "student")
    tags = TAGS if ModelFolder.open(student).tied_embeddings else ()
    rows = random_rows(6, longest=LONGER)
    for row in rows if tags else ():
        row["input_ids"][3], row["input_ids"][-2] = tags
    mine = LoadedInMlx(student, rows, SftObjective(), tags)
    mine.backend.stepper.head.chunk_rows = 7
    theirs = Loaded(student, rows, SftObjective(), True, tags, tmp_path / "start")
    numbers, gradients = mine.step(range(len(rows)))
    wanted, by_torch = theirs.step(range(len(rows)))
    assert numbers.loss == pytest.approx(wanted.loss, rel=2e-5)
    assert worst(gradients, {name: value.numpy() for name, value in by_torch.items()}) < 1e-3


@EVERY
def test_mlx_and_peft_stay_together(kind: Architecture, tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    pytest.importorskip("peft")
    from tests.trainers.test_mlx_lora import agree

    by_loss, by_weight = agree(tiny_of(kind, tmp_path / "student"), tmp_path, SftObjective(), 4, longest=LONGER)
    assert by_loss < loss_error(kind) and by_weight < 5e-3


@EVERY
@pytest.mark.filterwarnings("ignore")
def test_what_was_trained_is_merged_served_and_quantized(kind: Architecture, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    student, made = tiny_of(kind, tmp_path / "student"), tmp_path / "out"
    rows = random_rows(8, longest=LONGER)
    trainer(epochs=1, learning_rate=2e-2).train(job(student, made, rows), silent, Cancel())
    merged = merge(student, made / "adapter", tmp_path / "merged")
    assert np.abs(_logits(merged.path) - _logits(student, made / "adapter")).max() < 1e-3
    assert np.abs(_logits(merged.path) - _logits(student)).max() > 1e-2
    options = GgufExporter.Options.model_validate({
        "quants": ["F16", "Q8_0"], "greedy_tokens": 4, "parity_prompts": ["Hi", "apples " * 30]})
    used = min(merged.gguf_context_length, merged.context_length)
    job_ = ExportJob(merged.path, tmp_path / "gguf", "student", False, {"num_ctx": used})
    files = GgufExporter(options).export(job_, silent, Cancel())
    assert [file.name for file in files][:2] == ["student-F16.gguf", "student-Q8_0.gguf"]


@EVERY
def test_a_row_is_the_same_alone_and_among_others_on_torch(kind: Architecture, tmp_path: Path) -> None:
    rows = random_rows(5, shortest=5, longest=LONGER)
    made = Loaded(tiny_of(kind, tmp_path / "student"), rows)
    alone = sum(made.step([row])[0].loss * sum(rows[row]["weights"]) for row in range(len(rows)))
    whole, _ = made.step(range(len(rows)))
    assert whole.loss * sum(sum(row["weights"]) for row in rows) == pytest.approx(alone, rel=1e-5)
    theirs = sum(-_logprobs(made.backend.model, row) for row in rows)
    assert alone == pytest.approx(theirs, rel=1e-5), "the head that is ours computes what the model's own does"


def _logprobs(model: Any, row: dict[str, Any]) -> float:
    ids = torch.tensor(row["input_ids"])
    model.eval()
    with torch.no_grad():
        own = torch.log_softmax(model(ids[None]).logits[0], -1)[:-1].gather(1, ids[1:, None])[:, 0]
    return float((own * torch.tensor(row["weights"])[1:]).sum())


def _logits(folder: Path, adapter: Path | None = None, ids: list[int] | None = None) -> Any:
    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.loading import load_causal_model

    opened = ModelFolder.open(folder)
    model = load_causal_model(opened, torch.float32, torch.device("cpu"))
    if adapter is not None:
        AdapterFolder.open(adapter, opened).attach(model)
    with torch.no_grad():
        return model(torch.tensor([ids or [(7 * place) % 390 + 3 for place in range(LONGER)]])).logits[0].numpy()


@EVERY
def test_a_training_that_was_stopped_goes_on_to_the_same_losses(kind: Architecture, tmp_path: Path) -> None:
    student, rows = tiny_of(kind, tmp_path / "student"), random_rows(8, longest=LONGER)
    straight = _losses(student, tmp_path / "a", rows, stop_at=0)
    parts = [*_losses(student, tmp_path / "b", rows, stop_at=2), *_losses(student, tmp_path / "b", rows, stop_at=0)]
    assert len(straight) == 4 and parts == straight


@EVERY
def test_nf4_weights_are_trained_and_what_merging_costs_is_measured(kind: Architecture, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    student, made, rows = tiny_of(kind, tmp_path / "student"), tmp_path / "out", random_rows(4, longest=LONGER)
    learner = trainer(epochs=1, quantization="nf4")
    learner.train(job(student, made, rows), silent, Cancel())
    row = TrainedRow(tuple(rows[0]["input_ids"]), tuple(rows[0]["weights"]))
    merged = merge(student, made / "adapter", tmp_path / "merged")
    (trained,) = learner.logprobs(student, made, [row], Cancel())
    after = logprobs_of(row, _logits(merged.path, ids=list(row.ids)).__getitem__, 1024)
    assert np.isfinite(trained).all() and 0 < np.abs(trained - after).mean() < 1
    assert learner.served(student, made).held == "nf4"


def _losses(student: Path, output: Path, rows: list[dict[str, Any]], stop_at: int) -> list[float]:
    """Of a training that is stopped behind the step `stop_at` (0: never)."""
    events: list[Event] = []
    cancel = Cancel(lambda: bool(stop_at) and len(losses(events)) >= stop_at)
    with contextlib.suppress(Cancelled):
        trainer(epochs=2, dropout=0.1).train(job(student, output, rows), events.append, cancel)
    return losses(events)
