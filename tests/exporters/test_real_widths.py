"""Quantized files and adapters at the widths that models of each kind really have, few blocks deep: types that do not
fit a width fall back and are named, and a file stays near the one that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts.divergence import divergences
from localdistill.exporters.gguf_parts.holding import holding_of
from localdistill.exporters.gguf_parts.quantizer import quantize
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.architectures.base import SLIDING
from localdistill.trainers.merge import merge
from tests.exporters.test_adapter_gguf import exported, logits
from tests.tiny_models import tiny_adapter, tiny_of

pytestmark = pytest.mark.slow
pytest.importorskip("torch")
pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
QUANTS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
TEXTS = [[(7 * place + row) % 390 + 3 for place in range(40)] for row in range(3)]


def of(layers: int, hidden: int, wide: int, heads: int, kv_heads: int, **more: Any) -> dict[str, Any]:
    """Settings of config.json."""
    return {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": wide, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "initializer_range": 0.02, **more}


WIDTHS: Mapping[str, dict[str, Any]] = {
    "llama": of(2, 2048, 8192, 32, 8),  # Llama 3.2 1B
    "qwen2": of(2, 896, 4864, 14, 2),  # Qwen2.5 0.5B
    "qwen3": of(2, 1024, 3072, 16, 8, head_dim=128),  # Qwen3 0.6B
    "mistral": of(1, 4096, 14336, 32, 8, head_dim=128),  # Mistral 7B
    "ministral": of(1, 4096, 12288, 32, 8, head_dim=128, layer_types=[SLIDING]),  # Ministral 8B
    "smollm3": of(4, 2048, 11008, 16, 4),  # SmolLM3 3B, with a layer without positions
    "phi3": of(1, 3072, 8192, 24, 8, rope_scaling={  # Phi-4-mini
        "type": "longrope", "short_factor": [1.0 + place / 48 for place in range(48)],
        "long_factor": [1.0 + place / 6 for place in range(48)]}),
    "gemma2": of(2, 2304, 9216, 8, 4, head_dim=256, query_pre_attn_scalar=256, attn_logit_softcapping=50.0,
                 final_logit_softcapping=30.0),  # Gemma 2 2B
    "gemma3_text": of(6, 640, 2048, 4, 1, head_dim=256, query_pre_attn_scalar=256),  # Gemma 3 270M
}
FITS_NO_K_QUANT = {"qwen2": 896, "gemma3_text": 640}
"""Widths that are no multiple of 256."""
EVERY = pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)


@EVERY
def test_files_and_adapter_of_a_real_width(kind: Architecture, tmp_path: Path) -> None:
    student = tiny_of(kind, tmp_path / "student", **WIDTHS[kind.model_type])
    adapter = tiny_adapter(student, tmp_path / "adapter")
    merged, whole = merge(student, adapter, tmp_path / "merged"), tmp_path / "merged-F16.gguf"
    convert_to_gguf(merged.path, whole, "F16", used_tokens=64)
    convert_to_gguf(student, tmp_path / "base.gguf", "F16", used_tokens=64)
    wanted = logits(whole)
    beside = logits(tmp_path / "base.gguf", exported(merged.path, adapter, tmp_path / "out"))
    assert np.abs(beside - wanted).max() < 0.02 * np.abs(wanted).max(), "both are rounded to 16 bits"
    assert np.abs(logits(tmp_path / "base.gguf") - wanted).max() > 0.1 * np.abs(wanted).max()
    files = {quant: tmp_path / f"merged-{quant}.gguf" for quant in QUANTS}
    for quant, file in files.items():
        quantize(whole, file, quant, Cancel())
    compared = {**files, "untrained": tmp_path / "base.gguf"}
    found = {quant: one.kl for quant, one in divergences(whole, compared, TEXTS, Cancel())}
    assert found["Q8_0"] < found["Q6_K"] < found["Q5_K_M"] < found["Q4_K_M"] < 0.3 * found["untrained"], found
    assert found["Q4_0"] < 0.3 * found["untrained"], found
    others = holding_of(files["Q4_K_M"], "Q4_K_M").others
    assert bool(others) == (kind.model_type in FITS_NO_K_QUANT), others
    bits = {quant: holding_of(file, quant).bits_per_weight for quant, file in files.items()}
    assert bits["Q8_0"] > bits["Q6_K"] > bits["Q5_K_M"] > bits["Q4_K_M"]
