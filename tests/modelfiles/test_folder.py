"""Model folders: the good ones are described, the hostile and the damaged ones refused before anything loads them."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import ModelFileError, UsageError
from localdistill.modelfiles.architectures import ARCHITECTURES
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from tests.tiny_models import tiny_model, tiny_of

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
    ({"sliding_window": 0}, "sliding_window"), ({"sliding_window": "all"}, "sliding_window"),
    ({"hidden_size": -4}, "hidden_size"), ({"vocab_size": True}, "vocab_size"),
    ({"num_hidden_layers": "2"}, "num_hidden"),
])
def test_a_hostile_or_unknown_config_is_refused(model: Path, change: dict[str, Any], said: str) -> None:
    edit(model / "config.json", **change)
    with pytest.raises(ModelFileError, match=said):
        ModelFolder.open(model)


@pytest.mark.parametrize("name", ["Gemma4ForCausalLM", "Qwen3MoeForCausalLM", "Gemma3ForConditionalGeneration"])
def test_another_kind_of_model_is_no_slip_of_the_pen(model: Path, name: str) -> None:
    edit(model / "config.json", architectures=[name], model_type="other")
    with pytest.raises(ModelFileError, match="not supported") as caught:
        ModelFolder.open(model)
    assert "did you mean" not in str(caught.value) and "Gemma3ForCausalLM" in caught.value.hint


@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
def test_a_head_is_tied_where_config_json_does_not_say_as_in_transformers(kind: Any, tmp_path: Path) -> None:
    import transformers

    ties = getattr(transformers, kind.config_class)().tie_word_embeddings
    student = tiny_of(kind, tmp_path / "m", tie_word_embeddings=ties)
    edit(student / "config.json", tie_word_embeddings="REMOVE")
    assert ModelFolder.open(student).tied_embeddings == ties


def test_keys_that_name_code_never_reach_a_library(model: Path) -> None:
    edit(model / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}, attn_implementation="eager")
    (model / "evil.py").write_text("raise SystemExit('ran')")
    config = ModelFolder.open(model).config
    assert "auto_map" not in config and "attn_implementation" not in config
    from localdistill.modelfiles.loading import load_causal_model

    torch = pytest.importorskip("torch")
    load_causal_model(ModelFolder.open(model), torch.float32, torch.device("cpu"))
    assert not any(name.startswith("transformers_modules") for name in sys.modules)


def with_head(student: Path, change: float) -> None:
    """Store an output head beside the embedding, equal to it but for `change` in its last value."""
    from safetensors.torch import load_file, save_file

    weights = load_file(student / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    weights["lm_head.weight"][-1, -1] += change
    save_file(weights, student / "model.safetensors", metadata={"format": "pt"})


def test_a_tied_model_may_hold_its_head_twice_but_no_other_head(model: Path) -> None:
    before = ModelFolder.open(model)
    with_head(model, 0.0)
    twice = ModelFolder.open(model)
    assert twice.tied_embeddings and twice.parameter_count == before.parameter_count
    with_head(model, 0.5)
    with pytest.raises(ModelFileError, match="another head") as caught:
        ModelFolder.open(model)
    assert "tie_word_embeddings" in caught.value.hint
    edit(model / "config.json", tie_word_embeddings=False)
    assert not ModelFolder.open(model).tied_embeddings


def test_a_head_that_is_stored_twice_is_one_weight_when_loaded(model: Path) -> None:
    from localdistill.modelfiles.loading import load_causal_model

    torch = pytest.importorskip("torch")
    with_head(model, 0.0)
    loaded = load_causal_model(ModelFolder.open(model), torch.float32, torch.device("cpu"))
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


@pytest.mark.parametrize("stated", [False, "REMOVE"])
def test_a_head_of_its_own_must_be_there(model: Path, stated: Any) -> None:
    edit(model / "config.json", tie_word_embeddings=stated)
    with pytest.raises(ModelFileError, match=r"hold no lm_head\.weight"):
        ModelFolder.open(model)


def test_without_an_embedding_there_is_no_model(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match="embed_tokens"):
        ModelFolder.open(model)


@pytest.mark.parametrize(("arch", "told", "window"), [
    ("mistral", {"sliding_window": 100}, 100), ("mistral", {"sliding_window": None}, None),
    ("mistral", {"sliding_window": 512}, None), ("mistral", {"sliding_window": "REMOVE"}, None),
    ("mistral", {"sliding_window": "REMOVE", "max_position_embeddings": 9000}, 4096),
    ("qwen2", {"sliding_window": 100}, None), ("qwen2", {"sliding_window": 100, "use_sliding_window": True}, None),
    ("qwen2", {"sliding_window": 100, "use_sliding_window": True, "max_window_layers": 1, "layer_types": "REMOVE"},
     100),
])
def test_a_window_counts_where_it_is_shorter_than_the_context(tmp_path: Path, arch: str, told: dict[str, Any],
                                                               window: int | None) -> None:
    student = tiny_model(tmp_path / "m", arch, hidden=32)
    edit(student / "config.json", **told)
    assert ModelFolder.open(student).window == window


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
