"""Opens a model folder as if it were hostile: the configuration is read by us and allow-listed before any library
sees it, weights are safetensors with checked headers, and nothing in the folder can name code to run.
Must not import torch or transformers, and must not load weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.core.errors import ModelFileError, nearest
from localdistill.core.events import Cancel, silent
from localdistill.hub.models import cached, fetch
from localdistill.hub.names import SCHEME
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.config_claims import EMBEDDING, HEAD, shown, wrong_claim, wrong_value
from localdistill.modelfiles.tensors import MOST_TENSORS, TensorInfo, read_header, same_bytes
from localdistill.modelfiles.tokenizer_claims import read_tokenizer
from localdistill.safety.bounded_json import SMALL, TENSORS, Bounds, read_table
from localdistill.safety.files import sha256_file

_DROPPED_KEYS = ("auto_map", "custom_pipelines", "torchscript", "_commit_hash", "_name_or_path", "name_or_path",
                 "num_labels", "id2label", "label2id")
"""What names code or places, and labels of classifiers, of which libraries make as many as a number says."""
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation")
_PLAIN_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")
_DIGESTED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
             "special_tokens_map.json", *_TEMPLATE_FILES)
_OF_OTHERS = ("ForCausalLM", "ForConditionalGeneration", "ForSequenceClassification", "LMHeadModel")
"""How classes end that another kind of model may well have: such a name is no slip of the pen."""
_MOST_FILES = 1_000
"""Files that the weights may be spread over."""


@dataclass(frozen=True)
class ModelFolder:
    """A student on disk that passed every check. Build it with `open`."""

    path: Path
    config: Mapping[str, Any]
    """The model's configuration without the keys that we refuse to pass on."""
    tensors: Mapping[str, tuple[Path, TensorInfo]]
    """Every weight: file and place."""
    eos_token_ids: tuple[int, ...]
    """Tokens that the folder states to end generation, in the order of their sources. Which of them ends a turn is
    for the chat template to say: `StudentTokenizer.stop_token_ids`."""

    @classmethod
    def open(cls, path: Path | str) -> ModelFolder:
        """Check the folder at `path`. Raises ModelFileError that names the file and what is wrong."""
        folder = Path(path)
        if not folder.is_dir():
            raise ModelFileError(f"there is no model folder at {folder}", "check the path, or name a shipped model")
        config = _clean_config(_read_json(folder / "config.json"), folder)
        if not (folder / "tokenizer.json").is_file():
            raise ModelFileError(f"{folder} has no tokenizer.json",
                                 "use a model with a fast tokenizer (a tokenizer.json beside its weights)")
        if not _has_chat_template(folder):
            raise ModelFileError(f"{folder} has no chat template",
                                 "use the instruct variant, or put a chat_template.jinja into the folder")
        weights = _weights(folder)
        _check_claims(folder, config, weights)
        _check_head(folder, config, weights)
        return cls(folder, config, weights, _eos_ids(folder, config))

    @property
    def architecture(self) -> str:
        """For example `Qwen3ForCausalLM`."""
        return str(self.config["architectures"][0])

    @property
    def kind(self) -> Architecture:
        """What is known of its architecture."""
        return ARCHITECTURES[self.architecture]

    @property
    def mlx_context_length(self) -> int:
        """Most positions of a text that MLX reads as transformers does."""
        return min(self.context_length, self.kind.mlx_limit(self.config) or self.context_length)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.config["hidden_size"])

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return int(self.config["num_hidden_layers"])

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding (at least the tokenizer's vocabulary)."""
        return int(self.config["vocab_size"])

    @property
    def context_length(self) -> int:
        """Most positions in one sequence."""
        return self.kind.context(self.config)

    @property
    def window(self) -> int | None:
        """How many tokens attention looks back at most, where that is fewer than the context holds; else None. A text
        of at most so many tokens is read as if there were no window."""
        window = self.kind.window(self.config)
        return int(window) if window is not None and window < self.context_length else None

    @property
    def gguf_context_length(self) -> int:
        """Most positions of a text that llama.cpp reads as transformers does."""
        return self.context_length if self.kind.gguf.computes_windows else self.window or self.context_length

    @property
    def tied_embeddings(self) -> bool:
        """Whether the output projection is the embedding itself."""
        return bool(self.config.get("tie_word_embeddings"))

    @property
    def dtype(self) -> str:
        """The dtype of the stored weights: float32, float16 or bfloat16."""
        kinds = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
        counts: dict[str, int] = {}
        for _, info in self.tensors.values():
            counts[info.dtype] = counts.get(info.dtype, 0) + info.count
        return kinds.get(max(counts, key=lambda tag: counts[tag]), "float32")

    @property
    def parameter_count(self) -> int:
        """Number of weights; a tied output projection counts once."""
        return sum(info.count for name, (_, info) in self.tensors.items()
                   if not (self.tied_embeddings and name == HEAD))

    @cached_property
    def _digest(self) -> str:
        names = {file.name for file, _ in self.tensors.values()} | set(_DIGESTED)
        names |= {"model.safetensors.index.json"}
        whole = hashlib.sha256()
        for name in sorted(names):
            if (self.path / name).is_file():
                digest = sha256_file(self.path / name).removeprefix("sha256:")
                whole.update(f"{name}\0{digest}\n".encode())
        return "sha256:" + whole.hexdigest()

    def digest(self) -> str:
        """`sha256:...` over configuration, tokenizer, template and weights (file names and contents)."""
        return self._digest


def _read_json(path: Path, bounds: Bounds = SMALL) -> dict[str, Any]:
    try:
        return read_table(path, bounds)
    except FileNotFoundError:
        raise ModelFileError(f"{path.parent} has no {path.name}", "this is not a complete model folder") from None


def _clean_config(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`raw` without keys that name code; ModelFileError for keys that only an attack would set."""
    file = folder / "config.json"
    named = raw.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and len(named) == 1 else ""
    if architecture not in ARCHITECTURES:
        meant = "" if architecture.endswith(_OF_OTHERS) else nearest(architecture[:100], ARCHITECTURES)
        raise ModelFileError(f"{file}: architectures {shown(architecture or named)} is not supported{meant}",
                             f"supported: {', '.join(ARCHITECTURES)}")
    kind = ARCHITECTURES[architecture]
    model_type = kind.model_type
    if raw.get("model_type", model_type) != model_type:
        raise ModelFileError(f"{file}: model_type {shown(raw.get('model_type'))} does not belong to {architecture}",
                             f"a {architecture} is of the type {model_type}")
    _refuse_hostile_keys(raw, file)
    if raw.get("quantization_config") is not None or raw.get("quantization") is not None:  # the latter is mlx-lm's
        raise ModelFileError(f"{file}: the weights are already quantized", "use the unquantized model; quantization = "
                             "\"nf4\", or \"4bit\" in MLX, quantizes it while training")
    if wrong := wrong_value(raw):
        raise ModelFileError(f"{file}: {wrong}", "download the model again")
    kept = {key: value for key, value in raw.items() if key not in _DROPPED_KEYS and key not in _ATTENTION_KEYS}
    return {"tie_word_embeddings": False, **kind.defaults, **kept, "architectures": [architecture],
            "model_type": model_type}


def _check_claims(folder: Path, config: Mapping[str, Any], weights: Mapping[str, tuple[Path, TensorInfo]]) -> None:
    if EMBEDDING not in weights:
        raise ModelFileError(f"{folder} holds no {EMBEDDING}", "download the model again")
    kind = ARCHITECTURES[config["architectures"][0]]
    if wrong := wrong_claim(kind, config, {name: info.shape for name, (_, info) in weights.items()}):
        raise ModelFileError(f"{folder}: config.json does not belong to these weights: {wrong}",
                             "download the model again")


def _check_head(folder: Path, config: Mapping[str, Any], weights: Mapping[str, tuple[Path, TensorInfo]]) -> None:
    """Refuse weights whose output head is not the one that config.json means: libraries choose between the two in
    different ways, so that another model would be trained than the one that is exported."""
    tied, head = bool(config.get("tie_word_embeddings")), weights.get(HEAD)
    if not tied and head is None:
        raise ModelFileError(f"{folder}: config.json does not tie the output head to the embedding "
                             f"(tie_word_embeddings), and the files hold no {HEAD}", "download the model again")
    if tied and head is not None and not same_bytes(*weights[EMBEDDING], *head):
        raise ModelFileError(f"{folder}: config.json ties the output head to the embedding (tie_word_embeddings), but "
                             f"the files hold another head, {HEAD}", "set tie_word_embeddings = false when that head "
                             f"is the model's, or take {HEAD} out of the files when it is not")


def _refuse_hostile_keys(value: Any, file: Path) -> None:
    if isinstance(value, list):
        for item in value:
            _refuse_hostile_keys(item, file)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key.endswith("_internal"):
            raise ModelFileError(f"{file}: the key {shown(key)} is private to a library and must not be in a file",
                                 "do not use this model unless you know who made it")
        if key in _ATTENTION_KEYS and inner is not None and inner not in _PLAIN_ATTENTION:
            raise ModelFileError(f"{file}: {key} = {shown(inner)} would load code from elsewhere",
                                 "do not use this model unless you know who made it")
        _refuse_hostile_keys(inner, file)


def _weights(folder: Path) -> dict[str, tuple[Path, TensorInfo]]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        weight_map = _read_json(index, TENSORS).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map or not all(
                isinstance(name, str) for name in weight_map.values()):
            raise ModelFileError(f"{index} has no weight_map that names a file for each tensor",
                                 "download the file again")
        names = sorted(set(weight_map.values()))
        if len(names) > _MOST_FILES:
            raise ModelFileError(f"{index} names {len(names):,} files; weights lie in at most {_MOST_FILES:,}",
                                 "do not use this model")
        if any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
            raise ModelFileError(f"{index} points outside its folder", "do not use this model")
    else:
        weight_map, names = {}, ["model.safetensors"]
        if not (folder / names[0]).is_file():
            pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
            if pickles:
                raise ModelFileError(f"{folder} holds its weights as pickle ({pickles[0]}), which can run code",
                                     "use a model that is stored as safetensors")
            raise ModelFileError(f"{folder} has no model.safetensors", "use a model that is stored as safetensors")
    found: dict[str, tuple[Path, TensorInfo]] = {}
    for file in names:
        for name, info in read_header(folder / file).items():
            if name in found:
                raise ModelFileError(f"{folder}: tensor {shown(name)} is in {found[name][0].name} and in {file}",
                                     "download the model again")
            found[name] = folder / file, info
        if len(found) > MOST_TENSORS:
            raise ModelFileError(f"{folder}: its files hold more than {MOST_TENSORS:,} tensors",
                                 "do not use this model")
    missing = sorted(set(weight_map) - set(found))
    if missing:
        raise ModelFileError(f"{folder}: tensor {shown(missing[0])} is listed but in no file",
                             "download the model again")
    if not found:
        raise ModelFileError(f"{folder} holds no weights", "download the model again")
    return found


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in _TEMPLATE_FILES):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(_read_json(config).get("chat_template"))


def stated_stop_ids(folder: Path) -> tuple[int, ...]:
    """Tokens that the model folder states to end generation, read without looking at its weights."""
    return _eos_ids(folder, _clean_config(_read_json(folder / "config.json"), folder))


def _eos_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Union of what generation_config, config and tokenizer call the end, in that order."""
    found: list[Any] = []
    generation = folder / "generation_config.json"
    for source in (_read_json(generation) if generation.is_file() else {}, config):
        value = source.get("eos_token_id")
        found += value if isinstance(value, list) else [value]
    settings = folder / "tokenizer_config.json"
    token = _read_json(settings).get("eos_token") if settings.is_file() else None
    text = token.get("content") if isinstance(token, dict) else token
    added = read_tokenizer(folder).get("added_tokens") or []
    found += [entry["id"] for entry in added if text and entry["content"] == text]
    rows, stated = config["vocab_size"], [item for item in found if item is not None]
    for item in stated:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < rows:
            raise ModelFileError(f"{folder}: the end of a turn is said to be token {shown(item)}, and the model has "
                                 f"{rows:,}", "set eos_token_id in generation_config.json")
    if not stated:
        raise ModelFileError(f"{folder}: no end-of-turn token is stated anywhere",
                             "set eos_token_id in generation_config.json")
    return tuple(dict.fromkeys(stated))


def resolve_model(source: str, base: Path | None = None, fetches: bool = True, weights: bool = True) -> Path:
    """The folder that `source` names: a path, relative ones from `base` or the current folder, `shipped:NAME`, or
    `hf://org/name[@revision]` (fetched once, unless `fetches` is false). weights: they are needed too.

    Raises ModelFileError with the next step when it cannot be had.
    """
    if source.startswith("shipped:"):
        from localdistill.modelfiles.shipped import shipped_path

        return shipped_path(source.removeprefix("shipped:"))
    if source.startswith(SCHEME):
        found = cached(source, weights)
        if found is None and not fetches:
            raise ModelFileError(f"{source} is not on this machine yet")
        return (found or fetch(source, silent, Cancel(), weights)).path
    folder = (base or Path()) / Path(source).expanduser()
    if not folder.is_dir():
        raise ModelFileError(f"there is no model folder at {folder}",
                             "give a folder, shipped:NAME, or hf://organisation/name")
    return folder
