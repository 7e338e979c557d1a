"""Whether MLX computes a student as transformers does: logits of a few tokens through its first layers, with its own
weights, on both sides, before anything is trained or asked. What differs is refused: a setting that is overlooked gives
a model that runs, learns, and is another one. Must not load a whole model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures.base import shortened
from localdistill.modelfiles.config_claims import EMBEDDING, HEAD
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import import_transformers
from localdistill.modelfiles.mlx_models import build_mlx_model, import_mlx
from localdistill.modelfiles.tensors import read_tensor

if TYPE_CHECKING:
    import torch

LAYERS = 2
"""So many of its layers are compared: what one of them gets wrong shows behind them."""
TOKENS, POSITIONS = 32, 256
"""Different tokens, and how long the text of them is: long enough for slow rotations to show."""
MOST = 5e-4
"""Largest difference of a logit, as a share of the largest logit. Float32 comes to about 1e-6; a rope that is read
wrongly to more than 1e-2."""


def require_same_logits(folder: ModelFolder) -> None:
    """Raise ModelFileError when MLX and transformers disagree on the student in `folder`."""
    error = _difference(folder.path, folder.digest())
    if not error <= MOST:
        raise ModelFileError(f"{folder.path}: MLX computes this student in another way than transformers (logits "
                             f"differ by {error:.2g} of the largest)", 'train it in torch: train.use = "torch_lora"')


@lru_cache(maxsize=16)
def _difference(path: Path, digest: str) -> float:
    """For the files with this digest, once in a process."""
    import numpy as np

    folder = ModelFolder.open(path)
    few = list(range(0, folder.vocab_size, max(1, folder.vocab_size // TOKENS)))[:TOKENS]
    layers = min(max(LAYERS, folder.kind.mlx.least_layers(folder.config)), folder.layers)
    weights = _few_weights(folder, few, layers)
    changed = {**shortened(folder.config, layers), "vocab_size": len(few), "pad_token_id": None}
    length = min(POSITIONS, folder.mlx_context_length)
    ids = [(7 * place * place + 3 * place) % len(few) for place in range(length)]
    wanted = _by_transformers(folder, weights, changed, ids)
    mx = import_mlx()
    arrays = {name: mx.array(weight.float().numpy()) for name, weight in weights.items()}
    model = build_mlx_model(folder, arrays, mx.float32, changed)
    found = np.array(model(mx.array([ids]))[0], copy=True)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def _few_weights(folder: ModelFolder, few: list[int], layers: int) -> dict[str, torch.Tensor]:
    """The weights of the first layers, and of a few rows of the embedding and the head."""
    found = {}
    for name, place in folder.tensors.items():
        number = name.removeprefix("model.layers.").partition(".")[0]
        if number.isdecimal() and name.startswith("model.layers.") and int(number) >= layers:
            continue
        if folder.tied_embeddings and name == HEAD:
            continue
        weight = read_tensor(*place)
        found[name] = weight[few] if name in (EMBEDDING, HEAD) else weight
    return found


def _by_transformers(folder: ModelFolder, weights: dict[str, torch.Tensor], changed: dict[str, Any],
                     ids: list[int]) -> Any:
    transformers = import_transformers()
    import torch

    config = getattr(transformers, folder.kind.config_class).from_dict(changed)
    with torch.device("meta"):
        model = getattr(transformers, folder.architecture)(config)
    model = model.to_empty(device="cpu").float()
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.__init__(config)  # its frequencies are computed, not stored
        elif module._non_persistent_buffers_set:
            model._init_weights(module)  # other numbers that are not stored
    model.load_state_dict({name: weight.float() for name, weight in weights.items()}, strict=False)
    if folder.tied_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    with torch.inference_mode():
        return model.eval()(torch.tensor([ids])).logits[0].float().numpy()
