"""The layers that an adapter is trained beside, checked against the student. Must not know a library for training."""

from __future__ import annotations

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.folder import ModelFolder


def require_targets(folder: ModelFolder, targets: str) -> None:
    """ModelFileError where `targets` (names with commas between them, or `all-linear`) names a layer that the student
    does not have, or where it has none of them."""
    found = {name.removesuffix(".weight").rpartition(".")[2] for name in folder.tensors if name.endswith(".weight")}
    layers = folder.kind.linear_layers
    wanted = layers if targets == "all-linear" else [name.strip() for name in targets.split(",")]
    absent = [name for name in wanted if name not in found]
    if len(absent) == len(wanted) or (absent and targets != "all-linear"):
        there = ", ".join(name for name in layers if name in found) or "none that can be trained"
        raise ModelFileError(f"{folder.path} has no layers named {', '.join(absent)}",
                             f"it has {there}; say which in train.targets")
