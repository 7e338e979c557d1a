"""Students whose layers are held in few bits, on disk: quantized once, layer by layer, and loaded without the weights
that they came from. Must not import mlx when it is imported, and must not train or answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_models import (
    MlxDtype,
    MlxHolding,
    bits_of,
    group_size,
    held_as,
    import_mlx,
    new_mlx_model,
    quantize_layers,
    uncomputed_model,
)
from localdistill.safety.bounded_json import read_table

WEIGHTS, SAYS = "held.safetensors", "held.json"


def held_identity(folder: ModelFolder, holding: MlxHolding, dtype: MlxDtype) -> dict[str, object]:
    """What decides how the layers come out: format, bits, group size and the arithmetic of what is not quantized; empty
    where nothing is."""
    if holding == "none":
        return {}
    return {"held": held_as(folder, holding), "bits": bits_of(holding), "group_size": group_size(folder),
            "dtype": dtype}


def write_held(folder: ModelFolder, holding: MlxHolding, dtype: MlxDtype, target: Path,
               check: Callable[[], None] = lambda: None) -> None:
    """Quantize the student into the folder `target`. One layer at a time is held as it is stored. check: called
    between layers, and may raise."""
    mx = import_mlx()
    from mlx.utils import tree_flatten

    model = uncomputed_model(folder, dtype, holding)
    for layer in model.model.layers:
        check()
        mx.eval(layer.parameters())
        mx.clear_cache()
    mx.save_safetensors(str(target / WEIGHTS), dict(tree_flatten(model.parameters())))
    says = {**held_identity(folder, holding, dtype), "student": folder.digest()}
    (target / SAYS).write_text(json.dumps(says, indent=1, sort_keys=True))


def is_held(folder: ModelFolder, holding: MlxHolding, dtype: MlxDtype, source: Path) -> bool:
    """Whether the folder `source` holds this student in this way. ModelFileError when it says nothing of itself."""
    try:
        says = read_table(source / SAYS)
    except FileNotFoundError:
        raise ModelFileError(f"{source} holds no student in few bits", "leave the option `held` away") from None
    return says == {**held_identity(folder, holding, dtype), "student": folder.digest()}


def load_held(folder: ModelFolder, holding: MlxHolding, dtype: MlxDtype, source: Path) -> Any:
    """The frozen student as `write_held` left it in `source`. ModelFileError when it is another one."""
    mx = import_mlx()
    if not is_held(folder, holding, dtype, source):
        raise ModelFileError(f"{source} holds another student, or this one in another way",
                             "leave the option `held` away")
    model = new_mlx_model(folder)
    quantize_layers(model, holding, group_size(folder))
    try:
        model.load_weights(list(mx.load(str(source / WEIGHTS)).items()), strict=True)
    except (ValueError, RuntimeError) as error:
        raise ModelFileError(f"cannot load {source / WEIGHTS}: {str(error).splitlines()[0]}",
                             "remove it; it is made again") from error
    model.freeze()
    model.eval()
    mx.eval(model.parameters(), model(mx.array([[0]])))
    return model
