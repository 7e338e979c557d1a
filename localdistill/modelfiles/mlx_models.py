"""Loads students into MLX for training and evaluation: by mlx-lm's classes, with a configuration that our own file of
the architecture translated and weights from files that were checked. Must not import mlx when it is imported, and must
not let mlx-lm read a folder by itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from localdistill.core.errors import MissingExtra, ModelFileError, UsageError
from localdistill.modelfiles.apple import AppleChip, find_chip, is_apple_silicon, mlx_answers
from localdistill.modelfiles.config_claims import HEAD
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import QUIET
from localdistill.safety.children import go_offline

MlxHolding = Literal["none", "4bit", "8bit"]
"""How the linear layers of a base are held; embedding and head always stay as they are."""
MlxDtype = Literal["float32", "bfloat16", "float16"]
PACKAGES = ("mlx", "mlx_lm", "torch", "transformers", "safetensors")
"""What the backend needs: torch and transformers, without a GPU, to compare, merge and prove exports."""
GROUP_SIZES = (64, 32)
"""So many weights share a scale: the first that divides the width of every layer."""


def mlx_dtype(name: str, chip: AppleChip | None = None) -> MlxDtype:
    """`auto` is bfloat16 where the chip computes it: earlier ones imitate it, at a fraction of the speed, and float16
    overflows."""
    if name != "auto":
        return "bfloat16" if name == "bfloat16" else "float32"
    found = chip or find_chip()
    return "bfloat16" if found is not None and found.computes_bfloat16 else "float32"


def require_mlx() -> None:
    """Raise MissingExtra when a package is not installed, UsageError when mlx cannot compute on this Mac. Imports
    none."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.of("mlx", package)
    if is_apple_silicon() and not mlx_answers():
        raise UsageError("mlx is installed, and ends its process where it is imported: it finds no Metal here (a "
                         "virtual machine, or a session without a GPU)", 'train.use = "torch_lora" trains on the CPU')


def import_mlx() -> Any:
    """The module `mlx.core`, with what mlx-lm changes of the process undone. Raises MissingExtra."""
    go_offline()
    os.environ.update(QUIET)
    try:
        import mlx.core
    except ImportError as error:
        raise MissingExtra.of("mlx", "mlx") from error
    return mlx.core


def import_model_module(name: str) -> Any:
    """The module of mlx-lm that holds the class of a kind of student."""
    import_mlx()
    try:
        with _same_limits():
            return importlib.import_module(f"mlx_lm.models.{name}")
    except ImportError as error:
        if importlib.util.find_spec("mlx_lm") is None:
            raise MissingExtra.of("mlx", "mlx_lm") from error
        raise ModelFileError(f"this version of mlx-lm has no models of the kind {name}",
                             'update it, or train in torch: train.use = "torch_lora"') from error


@contextmanager
def _same_limits() -> Iterator[None]:
    """mlx-lm lowers how many files the whole process may ever open, for good."""
    if sys.platform == "win32":
        yield
        return
    import resource

    lower = resource.setrlimit
    resource.setrlimit = lambda *asked: None
    try:
        yield
    finally:
        resource.setrlimit = lower


def load_mlx_model(folder: ModelFolder, dtype: MlxDtype, holding: MlxHolding = "none") -> Any:
    """The frozen model of `folder`, its weights in `dtype`, the linear layers of its blocks held as `holding` says.

    Raises ModelFileError for a configuration that mlx-lm would compute in another way, and for weights that do not
    fit it.
    """
    mx, model = import_mlx(), uncomputed_model(folder, dtype, holding)
    mx.eval(model.parameters(), model(mx.array([[0]])))  # what a class keeps beside its weights too: other threads ask
    return model


def uncomputed_model(folder: ModelFolder, dtype: MlxDtype, holding: MlxHolding) -> Any:
    """The same, of which nothing is in memory yet: each weight is read when it is asked for."""
    model = build_mlx_model(folder, stored_weights(folder), getattr(import_mlx(), dtype))
    if holding != "none":
        quantize_layers(model, holding, group_size(folder))
    return model


def head_logits(model: Any, hidden: Any, tied: bool, cap: float | None) -> Any:
    """(..., V) from hidden states (..., H) behind the last norm. tied: whether the head is the embedding. cap: where
    logits are bent to stay below a size."""
    logits = model.model.embed_tokens.as_linear(hidden) if tied else model.lm_head(hidden)
    return logits if cap is None else import_mlx().tanh(logits / cap) * cap


def stored_weights(folder: ModelFolder) -> dict[str, Any]:
    """The weights of `folder` by their names. None is read before it is used; who holds this dict holds them all."""
    mx = import_mlx()
    weights: dict[str, Any] = {}
    for file in sorted({file for file, _ in folder.tensors.values()}):
        weights |= mx.load(str(file))
    return weights


def new_mlx_model(folder: ModelFolder, changed: Mapping[str, object] | None = None) -> Any:
    """The class of `folder` with weights that nobody has computed; `changed` are settings that differ from
    config.json's."""
    module = import_model_module(folder.kind.mlx.module)
    model = module.Model(module.ModelArgs.from_dict(folder.kind.mlx_config({**folder.config, **(changed or {})})))
    if folder.kind.mlx.takes_head_away and folder.tied_embeddings:
        model.sanitize({})
    return model


def build_mlx_model(folder: ModelFolder, weights: Mapping[str, Any], dtype: Any,
                    changed: Mapping[str, object] | None = None) -> Any:
    """The model of `folder` over `weights` in `dtype`; `changed` are settings that differ from config.json's."""
    model = new_mlx_model(folder, changed)
    own = {name: weight.astype(dtype) for name, weight in weights.items()
           if not (folder.tied_embeddings and name == HEAD)}
    try:
        model.load_weights(list(own.items()), strict=True)
    except ValueError as error:
        raise ModelFileError(f"cannot load {folder.path} into MLX: {str(error).splitlines()[0]}",
                             'train it in torch: train.use = "torch_lora"') from error
    correction = folder.kind.embedding_scale(folder.config) / folder.kind.mlx_embedding_scale(folder.config)
    if correction != 1.0:
        from localdistill.modelfiles.mlx_embedding import CorrectedEmbedding

        model.model.embed_tokens = CorrectedEmbedding(model.model.embed_tokens, correction)
    model.freeze()
    model.eval()
    return model


def group_size(folder: ModelFolder) -> int:
    """How many weights share a scale in the quantized layers of this student. Raises ModelFileError when none fits."""
    widths = {info.shape[-1] for name, (_, info) in folder.tensors.items()
              if name.removesuffix(".weight").rpartition(".")[2] in folder.kind.linear_layers and len(info.shape) == 2}
    for size in GROUP_SIZES:
        if all(width % size == 0 for width in widths):
            return size
    raise ModelFileError(f"{folder.path}: layers of width {min(widths)} cannot be held in 4 or 8 bits by MLX",
                         'take quantization = "none"')


def held_as(folder: ModelFolder, holding: MlxHolding) -> str:
    """Format and group size of the quantized layers, as identities and reports write them; empty where there are
    none."""
    return "" if holding == "none" else f"mlx-{holding}-g{group_size(folder)}"


def quantize_layers(model: Any, holding: MlxHolding, size: int) -> None:
    """Hold the linear layers of the blocks in fewer bits; scales keep the dtype of the weights."""
    from mlx import nn

    nn.quantize(model.model, group_size=size, bits=bits_of(holding),
                class_predicate=lambda path, module: path.startswith("layers.") and isinstance(module, nn.Linear))


def bits_of(holding: MlxHolding) -> int:
    """Per weight, without its share of the scales."""
    return {"4bit": 4, "8bit": 8, "none": 16}[holding]


def as_held(folder: ModelFolder, holding: MlxHolding, dtype: MlxDtype) -> Callable[[str, Any], Any]:
    """A function that gives back a stored weight (name, float32 torch tensor) with the values that it has while it is
    held as `holding` says in `dtype`, in float32: what an adapter was fitted to."""
    mx = import_mlx()
    size = 0 if holding == "none" else group_size(folder)

    def held(name: str, weight: Any) -> Any:
        import torch

        end = name.removesuffix(".weight").rpartition(".")[2]
        if not size or end not in folder.kind.linear_layers or not name.endswith(".weight"):
            return weight
        packed = mx.quantize(mx.array(weight.numpy()).astype(getattr(mx, dtype)), group_size=size,
                             bits=bits_of(holding))
        whole = mx.dequantize(*(part.astype(mx.float32) if number else part for number, part in enumerate(packed)),
                              group_size=size, bits=bits_of(holding))
        return torch.from_numpy(_numpy(whole))

    return held


def _numpy(array: Any) -> Any:
    import numpy as np

    return np.array(array, copy=True)
