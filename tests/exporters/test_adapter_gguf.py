"""An adapter as GGUF beside the base says what the merged model says, for every kind of student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import InputError
from localdistill.core.events import Cancel, silent
from localdistill.exporters.adapter_gguf import AdapterGgufExporter
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.exporters.job import ExportJob
from localdistill.modelfiles.adapter import write_adapter
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.trainers.merge import merge
from tests.tiny_models import tiny_adapter, tiny_model, tiny_of

torch = pytest.importorskip("torch")
llama_cpp = pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
IDS = [(7 * place) % 390 + 3 for place in range(24)]


def exported(student: Path, adapter: Path | None, output: Path, **options: Any) -> Path:
    output.mkdir(exist_ok=True)
    exporter = AdapterGgufExporter(AdapterGgufExporter.Options(**options))
    job = ExportJob(student, output, "mine", False, {"num_ctx": 64}, adapter=adapter)
    (made,) = exporter.export(job, silent, Cancel())
    return made


def logits(model: Path, adapter: Path | None = None) -> Any:
    loaded = llama_cpp.Llama(str(model), lora_path=None if adapter is None else str(adapter), n_ctx=64, logits_all=True,
                             verbose=False, n_threads=1)
    try:
        loaded.eval(IDS)
        return np.array(loaded.scores[:len(IDS)])
    finally:
        loaded.close()


@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
def test_the_base_with_the_adapter_is_the_merged_model(kind: Architecture, tmp_path: Path) -> None:
    student = tiny_of(kind, tmp_path / "student")
    adapter = tiny_adapter(student, tmp_path / "adapter")
    merged = merge(student, adapter, tmp_path / "merged")
    convert_to_gguf(student, tmp_path / "base.gguf", "F32", used_tokens=64)
    convert_to_gguf(merged.path, tmp_path / "merged.gguf", "F32", used_tokens=64)
    made = exported(merged.path, adapter, tmp_path / "out")
    wanted, found = logits(tmp_path / "merged.gguf"), logits(tmp_path / "base.gguf", made)
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()
    assert np.abs(logits(tmp_path / "base.gguf") - wanted).max() > 0.05 * np.abs(wanted).max()


def test_what_such_a_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student")
    with pytest.raises(InputError, match="no adapter to export"):
        exported(student, None, tmp_path / "out")
    rows = {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": torch.zeros(1, 64)}
    write_adapter(tmp_path / "tags", rows, rank=4, alpha=8, dropout=0, targets=(), tags=(5,), tied=True)
    with pytest.raises(InputError, match="the rows of 1 tokens"):
        exported(student, tmp_path / "tags", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
