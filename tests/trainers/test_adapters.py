"""Every kind of adapter is peft's: what is trained is what peft, the merge and our engines read from the folder; our
own forward is set on single layers and computes what peft's does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from localdistill.core.errors import Cancelled, InputError, ModelFileError, UsageError
from localdistill.core.events import Cancel, Event, silent
from localdistill.exporters.adapter_gguf import AdapterGgufExporter
from localdistill.exporters.job import ExportPlan
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import look_at_hardware
from localdistill.modelfiles.streamed import StreamedModel
from localdistill.modelfiles.trained import TrainedRow, logprobs_streamed
from localdistill.trainers._options import AdapterKind
from localdistill.trainers.merge import merge
from tests.tiny_models import tiny_model
from tests.trainers.rows import job, random_rows
from tests.trainers.test_torch_lora import Loaded, losses, trainer

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
torch.set_num_threads(1)
IDS = [[5, 6, 398, 77, 399, 8, 120]]
KINDS = get_args(AdapterKind)
PLAIN = tuple(kind for kind in KINDS if kind != "dora")


def taught(student: Path, kind: str, steps: int = 3, **options: Any) -> Loaded:
    """A training after some steps."""
    made = Loaded(student, random_rows(8), keeps=True, adapter=kind, **options)
    for _ in range(steps):
        made.backend.accumulate(made.work(range(8)))
        made.backend.apply(2e-2, 1.0)
    return made


def logits(model: Any) -> Any:
    model.eval()
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits


def loaded(folder: Path) -> Any:
    from localdistill.modelfiles.loading import load_causal_model

    return load_causal_model(ModelFolder.open(folder), torch.float32, torch.device("cpu"))


def of_peft_again(made: Loaded) -> int:
    """Let everything compute as its own class does; how many layers of peft did not."""
    ours = [module for module in made.backend.model.modules() if "forward" in vars(module)]
    for module in ours:
        del module.forward
    return sum(isinstance(module, peft.tuners.lora.LoraLayer) for module in ours)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_peft_the_merge_and_the_engine_read_what_was_trained(kind: str, tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student", "qwen2", hidden=32)
    made = taught(student, kind)
    made.backend.write(tmp_path / "adapter")
    wanted = logits(made.backend.model)
    assert float((wanted - logits(loaded(student))).abs().max()) > 1e-2
    by_peft = logits(peft.PeftModel.from_pretrained(loaded(student), str(tmp_path / "adapter")))
    beside, folder = loaded(student), ModelFolder.open(student)
    opened = folder, AdapterFolder.open(tmp_path / "adapter", folder)
    opened[1].attach(beside)
    merged = merge(student, tmp_path / "adapter", tmp_path / "merged")
    for found in (by_peft, logits(beside), logits(loaded(merged.path))):
        assert float((found - wanted).abs().max()) < 2e-4 * float(wanted.abs().max())
    row = TrainedRow(tuple(IDS[0]), (0.0, *[1.0] * (len(IDS[0]) - 1)))
    (streamed,) = logprobs_streamed(StreamedModel(*opened), [row], Cancel())
    own = torch.log_softmax(wanted[0], -1)[:-1].gather(1, torch.tensor(IDS[0])[1:, None])[:, 0]
    assert np.abs(streamed - own.numpy()).max() < 1e-3


@pytest.mark.parametrize("kind", PLAIN)
def test_our_forward_has_the_loss_and_the_gradient_of_pefts(kind: str, tmp_path: Path) -> None:
    made = taught(tiny_model(tmp_path / "student", "qwen2", hidden=32), kind, steps=1)
    numbers, gradients = made.step(range(8))
    assert of_peft_again(made) == 7 * made.backend.model.config.num_hidden_layers
    by_peft, others = made.step(range(8))
    assert numbers.loss == pytest.approx(by_peft.loss, rel=1e-6)
    for name, value in others.items():
        assert float((gradients[name] - value).norm()) < 1e-5 * float(value.norm()), name


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_in_bfloat16_and_on_nf4_our_forward_stays_near_pefts(quantization: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    student = tiny_model(tmp_path / "student", hidden=64)
    made = taught(student, "lora", steps=1, dtype="bfloat16", quantization=quantization)
    numbers, gradients = made.step(range(8))
    assert of_peft_again(made) == 7 * made.backend.model.config.num_hidden_layers
    by_peft, others = made.step(range(8))
    assert numbers.loss == pytest.approx(by_peft.loss, rel=2e-3)
    for name, value in others.items():
        assert float((gradients[name] - value).norm()) < 0.06 * float(value.norm()), name


def test_what_peft_computes_in_another_way_is_left_to_it(tmp_path: Path) -> None:
    student, before = tiny_model(tmp_path / "student"), peft.tuners.lora.Linear.forward
    for options in ({"adapter": "dora"}, {"dropout": 0.1}):
        made = Loaded(student, random_rows(4), **options)
        assert of_peft_again(made) == 0
    assert peft.tuners.lora.Linear.forward is before


@pytest.mark.parametrize("kind", ["rslora", "dora", "pissa"])
def test_an_arm_goes_on_from_another(kind: str, tmp_path: Path) -> None:
    student, rows = tiny_model(tmp_path / "student", hidden=32), random_rows(8)
    first = taught(student, kind)
    first.backend.write(tmp_path / "first")
    second = Loaded(student, rows, keeps=True, adapter=kind, start_adapter=tmp_path / "first")
    assert second.step(range(8))[0].loss == pytest.approx(first.step(range(8))[0].loss, rel=1e-5)
    second.backend.write(tmp_path / "second")
    one, other = (AdapterFolder.open(tmp_path / name, ModelFolder.open(student)) for name in ("first", "second"))
    assert one.scaling == other.scaling and one.rank == other.rank == (8 if kind == "pissa" else 4)


def test_another_kind_of_adapter_cannot_be_gone_on_from(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student", hidden=32)
    taught(student, "lora", steps=1).backend.write(tmp_path / "first")
    with pytest.raises(UsageError, match="in another way"):
        Loaded(student, random_rows(4), adapter="dora", start_adapter=tmp_path / "first")
    with pytest.raises(UsageError, match="counts 2 times"):
        Loaded(student, random_rows(4), adapter="rslora", start_adapter=tmp_path / "first")


@pytest.mark.parametrize("kind", ["dora", "pissa"])
def test_a_training_that_was_stopped_goes_on_to_the_same_losses(kind: str, tmp_path: Path) -> None:
    student, rows = tiny_model(tmp_path / "student", hidden=32), random_rows(8)

    def seen(output: Path, stop_at: int) -> list[float]:
        events: list[Event] = []
        cancel = Cancel(lambda: bool(stop_at) and len(losses(events)) >= stop_at)
        with contextlib.suppress(Cancelled):
            trainer(epochs=2, adapter=kind).train(job(student, output, rows), events.append, cancel)
        return losses(events)

    straight = seen(tmp_path / "a", 0)
    assert len(straight) == 4 and [*seen(tmp_path / "b", 2), *seen(tmp_path / "b", 0)] == straight
    weights = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_what_cannot_be_trained_or_exported_is_refused_before_it_begins(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student", hidden=64)
    with pytest.raises(ValidationError, match="an even rank"):
        trainer(adapter="orthogonal", rank=3)
    with pytest.raises(UsageError, match="NF4 weights cannot spare"):
        trainer(adapter="pissa", quantization="nf4").check(student, 64, look_at_hardware())
    trainer(adapter="dora", quantization="nf4").check(student, 64, look_at_hardware())
    with pytest.raises(InputError, match="DoRA"):
        AdapterGgufExporter(AdapterGgufExporter.Options()).check(ExportPlan(student, False, 64, adapter="dora"))


def test_mlx_refuses_what_it_does_not_compute(tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    from localdistill.trainers.mlx_lora import MlxLoraTrainer

    student = tiny_model(tmp_path / "student")
    MlxLoraTrainer(MlxLoraTrainer.Options(adapter="rslora")).check(student, 64, look_at_hardware())
    with pytest.raises(UsageError, match="not computed in MLX"):
        MlxLoraTrainer(MlxLoraTrainer.Options(adapter="dora")).check(student, 64, look_at_hardware())


def test_a_dora_adapter_without_its_lengths_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    student = tiny_model(tmp_path / "student", hidden=32)
    taught(student, "dora", steps=1).backend.write(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[next(name for name in tensors if name.endswith("lora_magnitude_vector"))]
    save_file(tensors, file)
    with pytest.raises(ModelFileError, match="is missing"):
        AdapterFolder.open(tmp_path / "adapter", ModelFolder.open(student))


def test_nf4_with_dora_is_served_as_it_was_trained(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    student, rows = tiny_model(tmp_path / "student", hidden=64), random_rows(4)
    learner = trainer(adapter="dora", quantization="nf4", epochs=2)
    learner.train(job(student, tmp_path / "out", rows), silent, Cancel())
    made = Loaded(student, rows, keeps=True, adapter="dora", quantization="nf4",
                  start_adapter=tmp_path / "out" / "adapter")
    row = TrainedRow(tuple(rows[0]["input_ids"]), tuple(rows[0]["weights"]))
    (served,) = learner.logprobs(student, tmp_path / "out", [row], Cancel())
    assert np.abs(served - made.backend.logprobs([0])[0][:, 0]).max() < 1e-3
