"""Model folders: the good ones are described, the hostile and the damaged ones refused before anything loads them."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from localdistill.errors import ModelFileError, UsageError
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from tests.tiny_models import tiny_model

pytest.importorskip("torch")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model", "qwen3", hidden=32)


def edit(file: Path, **changes: Any) -> None:
    value = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: item for key, item in value.items() if item != "REMOVE"}))


@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3", "mistral"])
def test_a_good_folder_is_described(tmp_path: Path, arch: str) -> None:
    folder = ModelFolder.open(tiny_model(tmp_path / arch, arch, hidden=32, layers=3))
    assert folder.architecture.lower() == f"{arch}forcausallm"
    assert (folder.hidden_size, folder.layers, folder.vocab_size, folder.context_length) == (32, 3, 400, 512)
    assert folder.eos_token_ids == (2,) and folder.tied_embeddings and folder.dtype == "float32"
    assert folder.parameter_count == sum(info.count for _, info in folder.tensors.values())


def test_eos_ids_are_the_union_of_all_sources(model: Path) -> None:
    edit(model / "generation_config.json", eos_token_id=[7, 2])
    edit(model / "config.json", eos_token_id=9)
    edit(model / "tokenizer_config.json", eos_token={"content": "<|endoftext|>"})
    assert ModelFolder.open(model).eos_token_ids == (7, 2, 9, 0)


def test_the_digest_follows_contents_and_not_the_place(model: Path, tmp_path: Path) -> None:
    first = ModelFolder.open(model).digest()
    moved = model.rename(tmp_path / "elsewhere")
    (moved / "README.md").write_text("anything")
    assert ModelFolder.open(moved).digest() == first and first.startswith("sha256:")
    (moved / "chat_template.jinja").write_text("{{ messages }}")
    assert ModelFolder.open(moved).digest() != first


@pytest.mark.parametrize(("change", "said"), [
    ({"_attn_implementation_internal": "evil/repo"}, "private"),
    ({"rope_parameters": {"x_internal": 1}}, "private"),
    ({"attn_implementation": "evil/kernel"}, "load code"),
    ({"_attn_implementation": "evil/kernel:main"}, "load code"),
    ({"architectures": ["EvilForCausalLM"]}, "not supported"),
    ({"architectures": ["Qwen3ForCausalLMs"]}, "did you mean 'Qwen3ForCausalLM'"),
    ({"architectures": None}, "not supported"),
    ({"model_type": "llama"}, "does not belong"),
    ({"quantization_config": {"load_in_4bit": True}}, "already quantized"),
    ({"hidden_size": -4}, "hidden_size"), ({"vocab_size": True}, "vocab_size"),
    ({"num_hidden_layers": "2"}, "num_hidden"),
])
def test_a_hostile_or_unknown_config_is_refused(model: Path, change: dict[str, Any], said: str) -> None:
    edit(model / "config.json", **change)
    with pytest.raises(ModelFileError, match=said):
        ModelFolder.open(model)


def test_keys_that_name_code_never_reach_a_library(model: Path) -> None:
    edit(model / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}, attn_implementation="eager")
    (model / "evil.py").write_text("raise SystemExit('ran')")
    config = ModelFolder.open(model).config
    assert "auto_map" not in config and "attn_implementation" not in config
    from localdistill.modelfiles.loading import load_causal_model

    torch = pytest.importorskip("torch")
    load_causal_model(ModelFolder.open(model), torch.float32, torch.device("cpu"))
    assert not any(name.startswith("transformers_modules") for name in sys.modules)


class Boom:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("exploded", "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth"])
def test_pickled_weights_are_refused_unopened(model: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Boom()))
    with pytest.raises(ModelFileError, match="pickle"):
        ModelFolder.open(model)
    assert not (model / "exploded").exists()


@pytest.mark.parametrize(("missing", "said"), [
    ("config.json", "no config.json"), ("tokenizer.json", "no tokenizer.json"),
    ("chat_template.jinja", "no chat template"), ("model.safetensors", "no model.safetensors"),
])
def test_a_missing_part_is_named(model: Path, missing: str, said: str) -> None:
    (model / missing).unlink()
    with pytest.raises(ModelFileError, match=said) as caught:
        ModelFolder.open(model)
    assert caught.value.hint


def test_a_template_inside_the_tokenizer_config_counts(model: Path) -> None:
    template = (model / "chat_template.jinja").read_text()
    (model / "chat_template.jinja").unlink()
    edit(model / "tokenizer_config.json", chat_template=template)
    assert ModelFolder.open(model).layers == 2


def test_shards_are_followed_but_not_out_of_the_folder(model: Path) -> None:
    names = list(ModelFolder.open(model).tensors)
    (model / "model.safetensors").rename(model / "part-1.safetensors")
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "part-1.safetensors")}))
    assert set(ModelFolder.open(model).tensors) == set(names)
    index.write_text(json.dumps({"weight_map": {names[0]: "../part-1.safetensors"}}))
    with pytest.raises(ModelFileError, match="outside"):
        ModelFolder.open(model)
    index.write_text(json.dumps({"weight_map": {"ghost.weight": "part-1.safetensors"}}))
    with pytest.raises(ModelFileError, match="ghost"):
        ModelFolder.open(model)


def test_sources_resolve_or_say_what_to_do(model: Path) -> None:
    assert resolve_model(str(model)) == model
    with pytest.raises(ModelFileError, match="no model folder"):
        resolve_model(str(model / "nowhere"))
    with pytest.raises(ModelFileError, match="form"):
        resolve_model("hf://just-a-name")
    with pytest.raises(UsageError):
        resolve_model("shipped:no/such/model")


def test_the_hub_is_asked_for_safe_files_only_and_offline_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[dict[str, Any]] = []

    def refuse(**settings: Any) -> str:
        asked.append(settings)
        raise OSError("no route")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(ModelFileError, match="org/model") as caught:
        resolve_model("hf://org/model@abc")
    assert "network" in caught.value.hint
    assert asked[-1]["repo_id"] == "org/model" and asked[-1]["revision"] == "abc"
    assert not any(pattern.endswith((".bin", ".py", "*")) for pattern in asked[-1]["allow_patterns"])
