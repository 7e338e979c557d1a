"""Adapters on disk: PEFT reads them, merging equals them, tags are trained, and hostile ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, ModelFileError
from localdistill.core.events import Cancel, silent
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tensors import read_tensor
from localdistill.trainers.merge import merge
from tests.tiny_models import tiny_model
from tests.trainers.rows import job, random_rows
from tests.trainers.test_torch_lora import trainer

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
TAGS = (398, 399)


def trained(tmp_path: Path, arch: str, tied: bool, tags: tuple[int, ...] = TAGS) -> tuple[Path, Path]:
    """A student and an adapter trained on rows that hold the tags."""
    student = tiny_model(tmp_path / "student", arch, hidden=32, tied=tied)
    trainer(epochs=3, learning_rate=2e-2).train(
        job(student, tmp_path / "out", random_rows(8, always=TAGS), tag_token_ids=tags), silent, Cancel())
    return student, tmp_path / "out" / "adapter"


def logits(folder: Path, adapter: Path | None = None) -> Any:
    """Logits of a fixed input, with the adapter attached by PEFT."""
    from localdistill.modelfiles.loading import load_causal_model

    model = load_causal_model(ModelFolder.open(folder), torch.float32, torch.device("cpu"))
    if adapter is not None:
        peft = pytest.importorskip("peft")
        model = peft.PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        return model(torch.tensor([[5, 6, 398, 77, 399, 8, 120]])).logits


@pytest.mark.parametrize(("arch", "tied"), [("llama", True), ("qwen2", False), ("qwen3", True)])
@pytest.mark.filterwarnings("ignore")
def test_the_merged_model_equals_the_adapter_as_peft_reads_it(tmp_path: Path, arch: str, tied: bool) -> None:
    student, adapter = trained(tmp_path, arch, tied)
    merged = merge(student, adapter, tmp_path / "merged")
    assert merged.architecture == ModelFolder.open(student).architecture
    assert torch.allclose(logits(merged.path), logits(student, adapter), atol=1e-3)
    assert not torch.allclose(logits(merged.path), logits(student), atol=0.1)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (merged.path / name).read_bytes() == (student / name).read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_only_the_rows_of_the_tags_change_in_the_embeddings(tmp_path: Path) -> None:
    student, adapter = trained(tmp_path, "llama", tied=False)
    before, after = ModelFolder.open(student), merge(student, adapter, tmp_path / "merged")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        changed = (read_tensor(*before.tensors[name]) != read_tensor(*after.tensors[name])).any(dim=1)
        assert tuple(changed.nonzero().flatten().tolist()) == TAGS, name


def test_without_an_adapter_only_the_dtype_changes(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student", hidden=32)
    halved = merge(student, None, tmp_path / "half", dtype="bfloat16")
    assert halved.dtype == "bfloat16" and json.loads((halved.path / "config.json").read_text())["dtype"] == "bfloat16"
    for name, (file, info) in ModelFolder.open(student).tensors.items():
        assert torch.equal(read_tensor(*halved.tensors[name]), read_tensor(file, info).to(torch.bfloat16))


@pytest.mark.parametrize(("change", "said"), [
    ({"r": 10**6}, "r must be"), ({"peft_type": "LOHA"}, "only LoRA"), ({"lora_alpha": "12"}, "lora_alpha"),
    ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping"), ({"r": 8}, "the student needs"),
    ({"trainable_token_indices": {"embed_tokens": [10**7]}}, "trainable_token_indices"),
])
def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    student, adapter = trained(tmp_path, "llama", True)
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelFileError, match=said):
        AdapterFolder.open(adapter, ModelFolder.open(student))


def test_an_adapter_with_numbers_that_are_not_finite_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    student, adapter = trained(tmp_path, "llama", True, tags=())
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, file)
    with pytest.raises(ModelFileError, match="not finite"):
        merge(student, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists() and not list(tmp_path.glob("*.partial"))


def test_a_merge_that_does_not_fit_on_the_disk_says_so_before_the_first_byte(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = tiny_model(tmp_path / "student", hidden=32)
    full = type("Usage", (), {"free": 1_000})()
    monkeypatch.setattr("localdistill.trainers.merge.shutil.disk_usage", lambda place: full)
    with pytest.raises(LocalDistillError, match="the merged model takes"):
        merge(student, None, tmp_path / "merged")
    assert not list(tmp_path.glob("merged*"))


def test_large_tensors_are_merged_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student, adapter = trained(tmp_path, "llama", tied=False)
    whole = merge(student, adapter, tmp_path / "whole")
    monkeypatch.setattr(BORDERS, "weight_values", 500)
    parts = merge(student, adapter, tmp_path / "parts")
    for name in whole.tensors:
        one, other = read_tensor(*whole.tensors[name]), read_tensor(*parts.tensors[name])
        assert torch.allclose(one, other, atol=1e-6), name
