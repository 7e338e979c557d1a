"""Atomic checkpoints, whole or absent: written beside, hashed, renamed; the newest one that verifies is resumed.
Tensors are safetensors and everything else JSON, so reading one back can run no code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

KEPT = 2
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint: its step, its tensors, and the rest of the state."""

    step: int
    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> Path:
    """Write `folder/step-N` atomically, then remove all but the newest two."""
    from safetensors.torch import save_file

    partial, final = folder / f"step-{step:08d}.partial", folder / f"step-{step:08d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial / "tensors.safetensors")
    (partial / "state.json").write_text(json.dumps(dict(state), sort_keys=True))
    digests = {file.name: _digest(file) for file in sorted(partial.iterdir())}
    (partial / _MANIFEST).write_text(json.dumps({"step": step, "files": digests}, sort_keys=True))
    for file in partial.iterdir():
        _sync(file)
    _sync(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync(folder)
    for old in _found(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def newest_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The newest checkpoint that verifies and whose state carries `fingerprint`; None when there is none."""
    for path in _found(folder):
        loaded = _load(path)
        if loaded is not None and loaded.state.get("fingerprint") == fingerprint:
            return loaded
    return None


def _found(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if path.suffix != ".partial"), reverse=True)


def _load(path: Path) -> Checkpoint | None:
    from safetensors.torch import load_file

    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        if any(_digest(path / name) != digest for name, digest in manifest["files"].items()):
            return None
        state = json.loads((path / "state.json").read_text())
        return Checkpoint(int(manifest["step"]), load_file(path / "tensors.safetensors"), state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
