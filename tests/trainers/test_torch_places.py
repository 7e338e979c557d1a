"""What can be known of a training in torch before it: whether the student and this machine can, and how the product is
run afterwards."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from localdistill.core.errors import LocalDistillError, MissingExtra, ModelFileError, UsageError
from localdistill.core.events import Cancel, silent
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.devices import Gpu, TorchBuild
from localdistill.modelfiles.hardware import Hardware
from localdistill.modelfiles.shape import STUDENTS, usual
from localdistill.modelfiles.trained import TrainedRow
from localdistill.trainers.job import Served
from localdistill.trainers.report import REPORT_FILE, HeldBase, TrainingReport, TrainingResult
from localdistill.trainers.torch.places import held_as_it_fits, usual_tokens
from localdistill.trainers.torch_lora import TorchLoraTrainer
from tests.tiny_models import tiny_of
from tests.trainers.rows import job, random_rows

torch = pytest.importorskip("torch")
CPU = Hardware("Linux", "a processor", 2, 10**10, 10**10, (), TorchBuild("2.9.0+cpu", "cpu"))
GPU = Hardware("Linux", "a processor", 2, 10**10, 10**10, (Gpu("Card", 10**10, 10**10),),
               TorchBuild("2.9.0+cu128", "cuda", "12.8"))


def checked(student: Path, hardware: Hardware = CPU, **options: Any) -> None:
    TorchLoraTrainer(TorchLoraTrainer.Options(**options)).check(student, 64, hardware)


def without(student: Path, folder: Path, *layers: str) -> Path:
    """The student without some of its linear layers, as one of another kind would be."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(student, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if name.split(".")[-2] not in layers},
              folder / "model.safetensors", {"format": "pt"})
    return folder


def test_layers_that_are_not_there_are_named(student: Path, tmp_path: Path) -> None:
    checked(student)
    checked(student, targets="q_proj, down_proj")
    fused = without(student, tmp_path / "fused", "q_proj", "k_proj", "v_proj")
    with pytest.raises(ModelFileError, match=r"hold no model\.layers\.0\.self_attn\.q_proj"):
        checked(fused)
    from localdistill.modelfiles.architectures import LINEAR_LAYERS

    with pytest.raises(ModelFileError, match=r"hold no model\.layers\.0"):
        checked(without(student, tmp_path / "none", *LINEAR_LAYERS))


@pytest.mark.parametrize(("options", "hardware", "said"), [
    ({"device": "cuda"}, CPU, 'train.device = "cuda"'), ({"device": "cuda:1"}, CPU, "cuda:1"),
    ({"device": "mps"}, GPU, "no Apple GPU"),
])
def test_a_device_that_is_not_there_is_refused(student: Path, options: dict[str, Any], hardware: Hardware,
                                               said: str) -> None:
    with pytest.raises(UsageError, match=said):
        checked(student, hardware, **options)
    checked(student, GPU, device="cuda")


@pytest.mark.parametrize(("hardware", "options", "needs"), [
    (CPU, {}, False), (CPU, {"quantization": "nf4"}, True), (GPU, {}, True), (GPU, {"quantization": "none"}, False),
    (GPU, {"device": "cpu"}, False),
])
def test_a_package_that_quantizes_is_asked_for_where_it_is_needed(
    student: Path, monkeypatch: pytest.MonkeyPatch, hardware: Hardware, options: dict[str, Any], needs: bool
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    if not needs:
        return checked(student, hardware, **options)
    with pytest.raises(MissingExtra, match="bitsandbytes"):
        checked(student, hardware, **options)


def test_how_much_goes_through_a_student_at_once_follows_its_size_and_the_gpu() -> None:
    small = usual("small", 3, 256, 256, 768, 1528, True)
    half, seven = (next(one for one in STUDENTS if one.name == name) for name in ("0.5B", "7B"))
    large = Hardware("Linux", "a processor", 2, 10**10, 10**10, (Gpu("Card", 24 << 30, 10**9),), GPU.torch)
    assert [usual_tokens(one, 2, CPU.place()) for one in (small, half, seven)] == [4096, 1024, 1024]
    assert [usual_tokens(one, 2, large.place()) for one in (small, half, seven)] == [4096, 2048, 1024]
    unknown = replace(large, gpus=(Gpu("Card", None, None),))
    assert usual_tokens(small, 2, unknown.place()) == 1024
    told = TorchLoraTrainer.Options(micro_tokens=300)
    assert held_as_it_fits(told, small, 100, CPU)[0].micro_tokens == 300
    assert held_as_it_fits(told, small, 500, CPU)[0].micro_tokens == 500


def test_a_product_is_run_as_it_was_trained(student: Path, tmp_path: Path) -> None:
    trainer = TorchLoraTrainer()
    base = Served("transformers", {}, {"model": str(student)}, "", frozenset({"quantization"}))
    assert trainer.served(student, None) == base
    places = {"model": str(student), "adapter": str(tmp_path / "adapter")}
    unsaid = trainer.served(student, tmp_path)
    assert (unsaid.places, unsaid.options, unsaid.held) == (places, {}, "")
    for held, options in ((HeldBase("none", "bfloat16"), {}),
                          (HeldBase("nf4", "bfloat16"), {"quantization": "nf4", "dtype": "bfloat16"})):
        result = TrainingResult(2, 1.0, 9, 0.5, 1.0, 9)
        report = TrainingReport("torch_lora", "one", 0, "sha256:s", "sft", {}, result, held)
        (tmp_path / REPORT_FILE).write_bytes(report.to_bytes())
        found = trainer.served(student, tmp_path)
        assert (found.options, found.places, found.held) == (options, places, options.get("quantization", ""))
    from localdistill.engines.transformers import TransformersEngine

    assert TransformersEngine.Options(**found.options, **found.places).quantization == "nf4"
    (tmp_path / REPORT_FILE).write_text("{")
    with pytest.raises(LocalDistillError, match="damaged"):
        trainer.served(student, tmp_path)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_logprobs_of_a_product_are_those_of_the_backend_that_made_it(
        quantization: Literal["none", "nf4"], student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.modelfiles import loading
    from tests.trainers.test_torch_lora import Loaded

    if quantization == "nf4":
        pytest.importorskip("bitsandbytes")
    rows = random_rows(4)
    trainer = TorchLoraTrainer(TorchLoraTrainer.Options(dtype="float32", device="cpu", rank=4, alpha=8, max_steps=3,
                                                        quantization=quantization))
    trainer.train(job(student, tmp_path, rows), silent, Cancel())
    told = [TrainedRow(tuple(row["input_ids"]), tuple(row["weights"])) for row in rows]
    made = Loaded(student, rows, start_adapter=tmp_path / "adapter", keeps=True, quantization=quantization)
    monkeypatch.setattr(loading, "load_causal_model", None)  # the whole model is never in memory
    found = trainer.logprobs(student, tmp_path, told, Cancel())
    for one, other in zip(found, made.backend.logprobs(range(4)), strict=True):
        assert one == pytest.approx(other[:, 0], abs=1e-5)


def test_the_student_answers_between_steps_as_the_engine_would_and_training_does_not_notice(
    student: Path, tmp_path: Path
) -> None:
    from localdistill.core.records import Message, Request, Sampling
    from localdistill.engines.transformers import TransformersEngine
    from tests.trainers.test_torch_lora import Loaded

    asked = [Request(f"q{number}", (Message("user", "What is 2 + 2? " * number),), Sampling(max_tokens=6), thinks=False)
             for number in (1, 2, 5)]
    made = Loaded(student, random_rows(4), dropout=0.3, keeps=True)
    before = made.backend.stepper.random_state()
    replies = {reply.request_id: reply.raw for reply in made.backend.generate(asked, Cancel())}
    assert torch.equal(made.backend.stepper.random_state()[0], before[0]) and made.backend.model.training
    engine = TransformersEngine(TransformersEngine.Options(model=str(student), dtype="float32", device="cpu"))
    assert replies == {reply.request_id: reply.raw for reply in engine.answer(asked, silent, Cancel())}
    sampled = [Request("s", asked[0].messages, Sampling(max_tokens=6, temperature=1.0), thinks=False)]
    again = [next(made.backend.generate(sampled, Cancel())).raw for _ in range(2)]
    assert again[0] == again[1]
    assert list(made.backend.generate(asked, Cancel(lambda: True))) == []


@pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=lambda arch: arch.model_type)
def test_development_items_come_as_the_library_writes_them_and_none_waits_for_the_longest(
    arch: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localdistill.core.records import Message, Request, Sampling
    from localdistill.modelfiles.student_rows import StudentRows
    from tests.trainers.test_torch_lora import Loaded

    made = Loaded(tiny_of(arch, tmp_path / "m"), random_rows(4), dtype="float32")
    model, folder = made.backend.model, made.backend.folder
    requests = [Request(f"q{number}", (Message("user", "What is 2 + 2? " * (number % 3 + 1)),),
                        Sampling(max_tokens=1 + 3 * number), thinks=False) for number in range(5)]
    forward, widths = type(model).forward, list[int]()

    def watched(model: Any, *args: Any, **inputs: Any) -> Any:
        widths.append(len(inputs["input_ids"]))
        return forward(model, *args, **inputs)

    monkeypatch.setattr(type(model), "forward", watched)
    replies = {reply.request_id: reply for reply in made.backend.generate(requests, Cancel())}
    assert sum(widths) == sum(reply.usage.completion_tokens for reply in replies.values())
    model.eval()
    model.set_attn_implementation(folder.kind.attention)  # training's own takes no mask
    for request in requests:
        asked = StudentRows(folder, folder.context_length).asked(request)
        ids = torch.tensor([asked.ids])
        theirs = model.generate(ids, max_new_tokens=asked.room, do_sample=False, pad_token_id=0,
                                eos_token_id=list(asked.stop_ids))[0, ids.shape[1]:].tolist()
        written = [token for token in theirs if token not in asked.stop_ids]
        assert replies[request.id].raw == StudentRows(folder, 0).tokenizer.decode(written)
