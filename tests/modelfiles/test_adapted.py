"""One loaded base and the adapters that are put on it and taken off: bit for bit what fresh copies would hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.adapted import AdaptedModel
from localdistill.modelfiles.adapter import AdapterFolder, write_adapter
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import load_causal_model
from localdistill.modelfiles.tensors import read_tensor
from tests.tiny_models import tiny_adapter, tiny_model, tiny_of

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
CPU = torch.device("cpu")
IDS = torch.tensor([[5, 17, 3, 42, 7, 99, 30]])


def tagged(student: ModelFolder, folder: Path, size: float = 0.3) -> AdapterFolder:
    """An adapter of trained rows and of one layer alone."""
    layer = next(name for name in sorted(student.tensors) if name.endswith(".o_proj.weight")).removesuffix(".weight")
    out_features, in_features = student.tensors[f"{layer}.weight"][1].shape
    width = student.tensors["model.embed_tokens.weight"][1].shape[1]
    draw = torch.Generator().manual_seed(9)
    tensors = {f"base_model.model.{layer}.lora_A.weight": torch.randn(2, in_features, generator=draw),
               f"base_model.model.{layer}.lora_B.weight": size * torch.randn(out_features, 2, generator=draw)}
    for owner in ("model.embed_tokens",) if student.tied_embeddings else ("model.embed_tokens", "lm_head"):
        rows = torch.randn(2, width, generator=draw)
        tensors[f"base_model.model.{owner}.token_adapter.trainable_tokens_delta"] = rows
    write_adapter(folder, tensors, rank=2, alpha=4, dropout=0, targets=("o_proj",), tags=(3, 99),
                  tied=student.tied_embeddings)
    return AdapterFolder.open(folder, student)


def bits(model: Any) -> dict[str, Any]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8))
                                              for name in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
def test_weights_with_an_adapter_are_those_of_a_fresh_copy_and_without_it_those_of_the_base(
        kind: Architecture, dtype: Any, tmp_path: Path) -> None:
    student = ModelFolder.open(tiny_of(kind, tmp_path / "m"))
    every = AdapterFolder.open(tiny_adapter(student.path, tmp_path / "every"), student)
    few = tagged(student, tmp_path / "few")
    bare = bits(load_causal_model(student, dtype, CPU))
    held = AdaptedModel(load_causal_model(student, dtype, CPU), student, merges=True)
    for adapter in (every, few, None, few, every, None):
        model = held.put_on(adapter)
        wanted = bare if adapter is None else {
            name: adapter.apply(name, read_tensor(*student.tensors[name]).float()).to(dtype) for name in bare}
        assert same(bits(model), wanted)
        assert same(wanted, bare) is (adapter is None)


def test_an_adapter_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    student = ModelFolder.open(tiny_model(tmp_path / "m"))
    held = AdaptedModel(load_causal_model(student, torch.float32, CPU), student, merges=True)
    before = bits(held.model)
    tiny_adapter(student.path, tmp_path / "broken")
    adapter = AdapterFolder.open(tmp_path / "broken", student)
    last = max(adapter.layers)
    info = adapter.tensors[f"base_model.model.{last}.lora_B.weight"]
    file = tmp_path / "broken" / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[info.start:info.start + 4] = b"\x00\x00\xc0\x7f"
    file.write_bytes(data)
    with pytest.raises(ModelFileError, match="not finite"):
        held.put_on(AdapterFolder.open(tmp_path / "broken", student))
    assert not same(bits(held.model), before), "some layers were merged before"
    assert same(bits(held.put_on(None)), before)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_what_stands_beside_the_weights_is_taken_off_whole(tmp_path: Path, quantization: Any) -> None:
    if quantization == "nf4":
        pytest.importorskip("bitsandbytes")
    student = ModelFolder.open(tiny_model(tmp_path / "m", "llama"))
    every = AdapterFolder.open(tiny_adapter(student.path, tmp_path / "every"), student)
    few = tagged(student, tmp_path / "few")

    def loaded() -> AdaptedModel:
        return AdaptedModel(load_causal_model(student, torch.float32, CPU, quantization), student, merges=False)

    def logits(model: Any) -> Any:
        with torch.inference_mode():
            return model(IDS).logits

    held = loaded()
    bare, alone = logits(held.put_on(None)), [logits(loaded().put_on(adapter)) for adapter in (every, few)]
    before = bits(held.model)
    for adapter, wanted in ((every, alone[0]), (few, alone[1]), (None, bare), (few, alone[1]), (None, bare)):
        assert torch.equal(logits(held.put_on(adapter)), wanted)
    assert not torch.equal(alone[0], bare) and not torch.equal(alone[1], bare)
    assert same(bits(held.model), before)
