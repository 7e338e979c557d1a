"""A model whose blocks get their weights one by one computes what the whole one does, for every kind, adapters too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from localdistill.core.errors import Cancelled, ModelFileError
from localdistill.core.events import Cancel
from localdistill.modelfiles.adapter import AdapterFolder, write_adapter
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.held import Held, held_in_nf4
from localdistill.modelfiles.loading import load_causal_model
from localdistill.modelfiles.streamed import StreamedModel
from localdistill.modelfiles.tensors import read_tensor
from tests.tiny_models import tiny_adapter, tiny_model, tiny_of

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
TEXTS = [[(7 * place + row) % 390 + 3 for place in range(length)] for row, length in enumerate((40, 7, 60))]
"""Of several lengths, longer than the windows of the tiny ones."""


def whole(folder: ModelFolder, adapter: AdapterFolder | None,
          quantization: Literal["none", "nf4"] = "none") -> list[Any]:
    """Logits by the model as transformers loads it, text by text."""
    model = load_causal_model(folder, torch.float32, torch.device("cpu"), quantization)
    if adapter is not None:
        adapter.attach(model)
    with torch.no_grad():
        return [model(torch.tensor([text])).logits[0].numpy() for text in TEXTS]


def streamed(folder: ModelFolder, adapter: AdapterFolder | None, held: Held | None = None) -> list[Any]:
    model = StreamedModel(folder, adapter, held)
    return [model.logits(hidden) for hidden in model.hidden(TEXTS, Cancel())]


def equal(found: list[Any], wanted: list[Any]) -> bool:
    return all(np.allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())
               for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
def test_it_computes_what_the_whole_model_does(kind: Architecture, tmp_path: Path) -> None:
    folder = ModelFolder.open(tiny_of(kind, tmp_path / "student"))
    adapter = AdapterFolder.open(tiny_adapter(folder.path, tmp_path / "adapter"), folder)
    plain, trained = whole(folder, None), whole(folder, adapter)
    assert equal(streamed(folder, None), plain) and equal(streamed(folder, adapter), trained)
    assert not equal(plain, trained)


@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
def test_in_nf4_it_computes_what_the_whole_model_does_that_is_held_so(kind: Architecture, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = ModelFolder.open(tiny_of(kind, tmp_path / "student"))
    adapter = AdapterFolder.open(tiny_adapter(folder.path, tmp_path / "adapter"), folder)
    wanted = whole(folder, adapter, "nf4")
    assert equal(streamed(folder, adapter, held_in_nf4(folder, "float32")), wanted)
    assert not equal(streamed(folder, adapter), wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_values_in_nf4_are_those_that_a_training_computes_with(dtype: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.functional import dequantize_4bit

    folder = ModelFolder.open(tiny_model(tmp_path / "student", "qwen2", hidden=96))
    model = load_causal_model(folder, getattr(torch, dtype), torch.device("cpu"), "nf4")
    held, seen = held_in_nf4(folder, dtype), 0
    for name, weight in model.named_parameters():
        state = getattr(weight, "quant_state", None)
        wanted = weight if state is None else dequantize_4bit(weight.data, state)
        assert torch.equal(held(name, read_tensor(*folder.tensors[name]).float()), wanted.float()), name
        seen += state is not None
    assert seen == 7 * folder.layers, "all linear layers of the blocks, and nothing else"


@pytest.mark.parametrize("tied", [True, False])
def test_trained_rows_of_tokens_are_in_the_embedding_and_in_the_head(tmp_path: Path, tied: bool) -> None:
    folder = ModelFolder.open(tiny_model(tmp_path / "student", tied=tied))
    places = ("model.embed_tokens",) if tied else ("model.embed_tokens", "lm_head")
    rows = {f"base_model.model.{place}.token_adapter.trainable_tokens_delta": torch.ones(2, 64) for place in places}
    write_adapter(tmp_path / "tags", rows, rank=4, alpha=8, dropout=0, targets=(), tags=(TEXTS[0][3], 399), tied=tied)
    adapter = AdapterFolder.open(tmp_path / "tags", folder)
    wanted = whole(folder, adapter)
    assert equal(streamed(folder, adapter), wanted) and not equal(whole(folder, None), wanted)


def test_no_two_blocks_have_weights_at_once(tmp_path: Path) -> None:
    model = StreamedModel(ModelFolder.open(tiny_model(tmp_path / "student", layers=3)))
    seen: list[list[bool]] = []

    def look(*_: Any) -> None:
        seen.append([next(block.parameters()).device.type == "cpu" for block in model._body.layers])

    for block in model._body.layers:
        block.mlp.register_forward_pre_hook(look)
    model.hidden(TEXTS[:1], Cancel())
    look()
    assert seen == [[True, False, False], [False, True, False], [False, False, True], [False] * 3]


def test_a_cancel_ends_it_and_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = ModelFolder.open(tiny_model(tmp_path / "student"))
    with pytest.raises(Cancelled):
        StreamedModel(folder).hidden(TEXTS, Cancel(lambda: True))
    tensors = {name: found for name, found in folder.tensors.items() if "layers.1.mlp.up_proj" not in name}
    object.__setattr__(folder, "tensors", tensors)
    with pytest.raises(ModelFileError, match=r"lacks the weight 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        StreamedModel(folder).hidden(TEXTS, Cancel())
