"""Adapters on disk, in PEFT's layout: written without anything of this machine in them, and read as if hostile.
Must not import peft, and must not run or follow anything that an adapter names."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.config_claims import shown
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import dense_weight
from localdistill.modelfiles.tensors import TensorInfo, read_header, read_tensor, write_tensors
from localdistill.safety.bounded_json import read_table

if TYPE_CHECKING:
    import torch

MAX_RANK = 1024
_MOST_ALPHA = 1_000_000
_AGAIN, _OTHER = "get the adapter again", "use it with the student that it was trained on"
_PREFIX = "base_model.model."
FITTED_TO = "localdistill_fitted_to"
"""Key of adapter_config.json that other programs read over."""
_LAYER = re.compile(r"base_model\.model\.(?P<layer>[\w.]+)\.lora_(?P<side>[AB])\.weight")
_LENGTHS = re.compile(r"base_model\.model\.(?P<layer>[\w.]+)\.lora_magnitude_vector")
_ROWS = re.compile(r"base_model\.model\.(?P<layer>model\.embed_tokens|lm_head)\."
                   r"token_adapter\.trainable_tokens_delta")


def write_adapter(folder: Path, tensors: Mapping[str, torch.Tensor], *, rank: int, alpha: float, dropout: float,
                  targets: Sequence[str], tags: Sequence[int], tied: bool, fitted_to: str = "",
                  kind: str = "lora") -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into `folder`; tensors under PEFT's names.
    `fitted_to` names how the base was held, where the adapter belongs to no other weights; `kind`: `lora`, or `rslora`
    or `dora`, which are computed in another way."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[int]] | None = None
    if tags:
        rows = {"embed_tokens": list(tags)} if tied else {"embed_tokens": list(tags), "lm_head": list(tags)}
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "", "r": rank, "lora_alpha": alpha,
        "lora_dropout": dropout, "target_modules": list(targets), "bias": "none", "fan_in_fan_out": False,
        "inference_mode": True, "use_rslora": kind == "rslora", "use_dora": kind == "dora",
        "trainable_token_indices": rows,
    }
    if fitted_to:
        config[FITTED_TO] = fitted_to
    kept = {name: tensor.float().cpu() for name, tensor in sorted(tensors.items())}
    plan = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in kept.items()]
    write_tensors(folder / "adapter_model.safetensors", plan, kept.__getitem__)
    partial = folder / "adapter_config.json.partial"
    partial.write_text(json.dumps(config, indent=1, sort_keys=True))
    partial.replace(folder / "adapter_config.json")


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter that fits its student and passed every check. Build it with `open`."""

    path: Path
    scaling: float
    """What the update is multiplied by: alpha / rank, or alpha / sqrt(rank) where it says `use_rslora`."""
    rank: int
    token_ids: tuple[int, ...]
    """Tokens whose rows are trained."""
    tensors: Mapping[str, TensorInfo]
    fitted_to: str = ""
    """How the base was held, where the adapter belongs to no other weights: `mlx-4bit-g64`."""
    is_dora: bool = False
    """The rows of adapted layers have lengths of their own (DoRA, https://arxiv.org/abs/2402.09353): it is no sum of
    the weights and something else."""

    @classmethod
    def open(cls, path: Path | str, student: ModelFolder) -> AdapterFolder:
        """Check the adapter at `path` against `student`. Raises ModelFileError that says what is wrong."""
        folder = Path(path)
        file = folder / "adapter_config.json"
        try:
            config = read_table(file)
        except FileNotFoundError:
            raise ModelFileError(f"{folder} has no {file.name}", "this is not an adapter folder") from None
        rank, alpha = _checked_config(config, file)
        tensors = read_header(folder / "adapter_model.safetensors")
        scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        adapter = cls(folder, scaling, rank, _checked_tokens(config, file, student), tensors,
                      str(config.get(FITTED_TO) or ""), bool(config.get("use_dora")))
        adapter._check_tensors(rank, student)
        return adapter

    def _check_tensors(self, rank: int, student: ModelFolder) -> None:
        for name, info in self.tensors.items():
            layer, rows = _LAYER.fullmatch(name), _ROWS.fullmatch(name)
            lengths = _LENGTHS.fullmatch(name) if self.is_dora else None
            found = layer or rows or lengths
            weight = f"{found['layer']}.weight" if found else ""
            if rows and weight == "lm_head.weight" and student.tied_embeddings:
                weight = "model.embed_tokens.weight"
            if not found or weight not in student.tensors:
                raise ModelFileError(f"{self.path}: tensor {shown(name)} does not belong to this student", _OTHER)
            out_features, in_features = (*student.tensors[weight][1].shape, 0)[:2]
            wanted: tuple[int, ...] = (len(self.token_ids), in_features)
            if layer:
                wanted = (rank, in_features) if layer["side"] == "A" else (out_features, rank)
            elif lengths:
                wanted = (out_features,)
            if info.shape != wanted:
                raise ModelFileError(f"{self.path}: tensor {shown(name)} has shape {info.shape}, the student needs "
                                     f"{wanted}", _OTHER)
        parts = ("lora_A.weight", "lora_B.weight", *(["lora_magnitude_vector"] if self.is_dora else []))
        for layer_name in self.layers:
            if any(f"{_PREFIX}{layer_name}.{part}" not in self.tensors for part in parts):
                raise ModelFileError(f"{self.path}: a part of the update of {shown(layer_name)} is missing", _AGAIN)

    def require_fitted_to(self, held: str) -> None:
        """Raise ModelFileError when it was fitted to a base that was held in another way than `held` (empty: as it is
        stored)."""
        if self.fitted_to and self.fitted_to != held:
            raise ModelFileError(f"{self.path}: this adapter was fitted to weights held as {self.fitted_to}, not to "
                                 f"{held or 'those that are stored'}", "answer it with the engine mlx and the "
                                 "quantization that it was trained with, or train it again")

    def digest(self) -> str:
        """`sha256:...` over the configuration and the tensors."""
        whole = hashlib.sha256()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            with (self.path / name).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return "sha256:" + whole.hexdigest()

    @cached_property
    def layers(self) -> frozenset[str]:
        """Names of the adapted linear layers, as in the student."""
        matches = (_LAYER.fullmatch(name) for name in self.tensors)
        return frozenset(match["layer"] for match in matches if match)

    @cached_property
    def weights(self) -> frozenset[str]:
        """Names of the weights that it changes where it is merged."""
        rows = filter(None, map(_ROWS.fullmatch, self.tensors))
        return frozenset(f"{layer}.weight" for layer in (*self.layers, *(match["layer"] for match in rows)))

    def _tensor(self, name: str) -> torch.Tensor:
        import torch

        tensor = read_tensor(self.path / "adapter_model.safetensors", self.tensors[name]).float()
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileError(f"{self.path}: tensor '{name}' holds numbers that are not finite", "train it again")
        return tensor

    def factors(self, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (down (r, in), up (out, r)) of one adapted layer."""
        return (self._tensor(f"{_PREFIX}{layer}.lora_A.weight"), self._tensor(f"{_PREFIX}{layer}.lora_B.weight"))

    def lengths(self, layer: str) -> torch.Tensor | None:
        """float32 (out,) of the rows of one adapted layer, where they are its own; else None."""
        return self._tensor(f"{_PREFIX}{layer}.lora_magnitude_vector") if self.is_dora else None

    def rows(self, layer: str) -> torch.Tensor | None:
        """float32 (n, H) trained rows of `model.embed_tokens` or `lm_head`, or None."""
        name = f"{_PREFIX}{layer}.token_adapter.trainable_tokens_delta"
        return self._tensor(name) if name in self.tensors else None

    def apply(self, name: str, weight: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The student's tensor `name`, or the rows of it from `first` on that `weight` holds, with this adapter merged
        in, computed in float32, in the dtype of `weight`."""
        layer, last = name.removesuffix(".weight"), first + len(weight)
        if layer in self.layers:
            down, up = self.factors(layer)
            changed = weight.float() + self.scaling * (up[first:last] @ down)
            if (lengths := self.lengths(layer)) is not None:
                changed *= (lengths[first:last] / changed.norm(dim=1)).unsqueeze(1)
            return changed.to(weight.dtype)
        here = [place for place, token in enumerate(self.token_ids) if first <= token < last]
        rows = self.rows(layer) if here and layer in ("model.embed_tokens", "lm_head") else None
        if rows is None:
            return weight
        merged = weight.clone()
        merged[[self.token_ids[place] - first for place in here]] = rows[here].to(weight.dtype)
        return merged

    def attach(self, model: Any) -> ExitStack:
        """Add this adapter to a loaded `model` beside its weights, which stay as they are. Needed where they are
        quantized: the update was fitted to them like that. Trained rows are set in the embeddings, which never are.
        Closing what comes back takes all of it off again, bit for bit."""
        with self.set_beside(model) as taken_off:
            for layer in ("model.embed_tokens", "lm_head"):
                rows, places = self.rows(layer), list(self.token_ids)
                if rows is not None:
                    weight = model.get_submodule(layer).weight
                    taken_off.callback(_set_rows, weight, places, weight[places].clone())
                    _set_rows(weight, places, rows)
            return taken_off.pop_all()

    def set_beside(self, model: Any, below: str = "") -> ExitStack:
        """The same for linear layers alone. Where `model` is only the part of the student that is called `below` (with
        its dot), for those in it."""
        with ExitStack() as taken_off:
            for layer in sorted(self.layers):
                if layer.startswith(below):
                    down, up = self.factors(layer)
                    up *= self.scaling
                    lengths = self.lengths(layer)
                    hook = _update_of(down, up) if lengths is None else _rescaled_update_of(down, up, lengths)
                    taken_off.callback(model.get_submodule(layer.removeprefix(below)).register_forward_hook(
                        hook).remove)
            return taken_off.pop_all()


def _set_rows(weight: torch.Tensor, places: list[int], rows: torch.Tensor) -> None:
    """Write rows (n, H) into weight (V, H)."""
    import torch

    with torch.no_grad():
        weight[places] = rows.to(weight.device, weight.dtype)


def _update_of(down: torch.Tensor, up: torch.Tensor) -> Any:
    """A hook that adds x A^T B^T to a layer's output; A (r, in) and B (out, r) follow the layer's device and dtype."""

    def hook(_: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        nonlocal down, up
        (x,) = inputs
        down, up = down.to(x.device, x.dtype), up.to(x.device, x.dtype)
        return output + (x @ down.t()) @ up.t()

    return hook


def _rescaled_update_of(down: torch.Tensor, up: torch.Tensor, lengths: torch.Tensor) -> Any:
    """The same for a layer whose rows of W + B A have `lengths` (out,). How long they are by themselves is worked out
    when the layer first computes: before that its weights may not be there."""
    factor: torch.Tensor | None = None

    def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        nonlocal down, up, factor
        (x,) = inputs
        if factor is None:
            whole = dense_weight(module.weight).float() + (up @ down).to(module.weight.device)
            factor = (lengths.to(whole.device) / whole.norm(dim=1)).to(x.dtype)
        down, up = down.to(x.device, x.dtype), up.to(x.device, x.dtype)
        changed: torch.Tensor = output + (x @ down.t()) @ up.t()
        return changed * factor if module.bias is None else (changed - module.bias) * factor + module.bias

    return hook


def _checked_config(config: Mapping[str, Any], file: Path) -> tuple[int, float]:
    if config.get("peft_type") != "LORA":
        raise ModelFileError(f"{file}: only LoRA adapters are supported", "train the adapter again as LoRA")
    for key in ("auto_mapping", "use_qalora", "use_bdlora", "alora_invocation_tokens", "rank_pattern", "alpha_pattern",
                "modules_to_save", "layer_replication", "fan_in_fan_out", "lora_bias"):
        if config.get(key):
            raise ModelFileError(f"{file}: '{key}' is not supported", "merge it with the tool that made it")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        raise ModelFileError(f"{file}: r must be a whole number from 1 to {MAX_RANK}, not {shown(rank)}", _AGAIN)
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not abs(alpha) <= _MOST_ALPHA:
        raise ModelFileError(f"{file}: lora_alpha must be a number, at most {_MOST_ALPHA:,}, not {shown(alpha)}",
                             _AGAIN)
    return rank, float(alpha)


def _checked_tokens(config: Mapping[str, Any], file: Path, student: ModelFolder) -> tuple[int, ...]:
    told = config.get("trainable_token_indices") or {}
    lists = list(told.values()) if isinstance(told, dict) else [told]
    if not lists:
        return ()
    first = lists[0]
    if any(item != first for item in lists) or not isinstance(first, list) or not all(
            isinstance(token, int) and not isinstance(token, bool) and 0 <= token < student.vocab_size
            for token in first):
        raise ModelFileError(f"{file}: trainable_token_indices do not fit the student", _AGAIN)
    return tuple(first)
