"""What is written is what llama.cpp's own converter writes of the same model: the same tensors byte by byte, and the
same values under the same keys. Needs its source, see `tests.llama_cpp_source`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localdistill.core.events import Cancel, silent
from localdistill.exporters.adapter_gguf import AdapterGgufExporter
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.exporters.job import ExportJob
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.gguf_header import read_header
from tests.llama_cpp_source import convert, unpacked
from tests.tiny_models import tiny_adapter, tiny_of

pytestmark = pytest.mark.slow
pytest.importorskip("torch")
pytest.importorskip("gguf")
OURS_ALONE = {
    "attention.key_length", "attention.value_length", "rope.dimension_count", "rope.freq_base", "vocab_size",
    "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.eos_token_ids",
    "tokenizer.ggml.eot_token_id",
}
"""What llama.cpp takes from elsewhere, or guesses, where a file does not say it; ours always does."""
THEIRS_ALONE = {
    "general.quantization_version", "general.size_label",
    "rope.freq_base_swa",  # 10,000, which llama.cpp takes for a Gemma 3 by itself; others are refused
    "attention.sliding_window",  # 0 for a Phi without one
}
OTHERWISE = {"general.name", "context_length"}
"""Names are ours to give; a context ends where libraries begin to differ."""
KNOWN = [kind for kind in ARCHITECTURES.values() if kind.name != "MinistralForCausalLM"]
"""It knows no class of that name."""
EVERY = pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.model_type)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(tmp_path_factory.mktemp("source"))


def same(ours: Path, theirs: Path) -> None:
    """Both files say and hold the same."""
    one, other = read_header(ours, 1 << 20), read_header(theirs, 1 << 20)
    said, wanted = ({key.removeprefix(f"{one.architecture}."): value for key, value in header.metadata.items()}
                    for header in (one, other))
    assert said.keys() - wanted.keys() <= OURS_ALONE and wanted.keys() - said.keys() <= THEIRS_ALONE
    differ = {key for key in said.keys() & wanted.keys() if said[key] != pytest.approx(wanted[key])}
    assert differ <= OTHERWISE, {key: (said[key], wanted[key]) for key in differ}
    assert tensors(one) == tensors(other)


def tensors(header: Any) -> dict[str, tuple[Any, ...]]:
    """Shape, type and bytes of every tensor, by name."""
    data = header.path.read_bytes()
    return {tensor.name: (tensor.shape, tensor.type, data[tensor.offset:tensor.offset + tensor.size_bytes])
            for tensor in header.tensors}


@pytest.mark.parametrize(("kind", "file_type"), [*((kind, "F16") for kind in KNOWN), *(
    (KNOWN[0], other) for other in ("F32", "BF16", "Q8_0"))], ids=lambda given: getattr(given, "model_type", given))
def test_a_file_is_that_of_the_reference(root: Path, tmp_path: Path, kind: Architecture, file_type: Any) -> None:
    student = tiny_of(kind, tmp_path / "student")
    convert_to_gguf(student, tmp_path / "ours.gguf", file_type, used_tokens=64)
    convert(root, "convert_hf_to_gguf.py", kind.name, str(student), "--outtype", file_type.lower(), "--outfile",
            str(tmp_path / "theirs.gguf"))
    same(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")


@EVERY
def test_an_adapter_is_that_of_the_reference(root: Path, tmp_path: Path, kind: Architecture) -> None:
    student = tiny_of(kind, tmp_path / "student")
    adapter = tiny_adapter(student, tmp_path / "adapter")
    job = ExportJob(student, tmp_path, "ours", False, {"num_ctx": 64}, adapter=adapter)
    [ours] = AdapterGgufExporter(AdapterGgufExporter.Options()).export(job, silent, Cancel())
    convert(root, "convert_lora_to_gguf.py", kind.name, str(adapter), "--base", str(student), "--outtype", "f32",
            "--outfile", str(tmp_path / "theirs.gguf"))
    one, other = read_header(ours), read_header(tmp_path / "theirs.gguf")
    assert one.metadata["adapter.lora.alpha"] == other.metadata["adapter.lora.alpha"]
    assert [one.metadata[f"{part}.type"] for part in ("general", "adapter")] == ["adapter", "lora"]
    assert tensors(one) == tensors(other)
