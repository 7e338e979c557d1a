"""Atomic checkpoints, whole or absent: written beside, hashed, renamed; the newest one that verifies is resumed. The
loop's state is JSON, the backend's is files of its own, so reading one back can run no code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.safety.files import publish, sha256_file, sync_file, sync_folder

KEPT = 2
_MANIFEST = "manifest.json"
_STATE = "state.json"
_BACKEND = "backend"


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint: its step, the loop's state, and the folder that the backend wrote."""

    step: int
    state: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class FoundCheckpoints:
    """What lies in a folder of checkpoints."""

    newest: Checkpoint | None
    """The newest one that verifies and is of the training that was asked for."""
    of_others: int = 0
    """Those that verify and are of another training, or of another version of this program."""


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Write `folder/step-N` atomically, the backend's part by `write`, then remove all but the newest two."""
    partial, final = folder / f"{_name(step)}.partial", folder / _name(step)
    shutil.rmtree(partial, ignore_errors=True)
    (partial / _BACKEND).mkdir(parents=True)
    write(partial / _BACKEND)
    (partial / _STATE).write_text(json.dumps(dict(state), sort_keys=True))
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    digests = {path.relative_to(partial).as_posix(): _digest(path) for path in files}
    manifest = partial / _MANIFEST
    manifest.write_text(json.dumps({"step": step, "files": digests}, sort_keys=True))
    for path in (*files, manifest):
        sync_file(path)
    sync_folder(partial / _BACKEND)
    sync_folder(partial)
    shutil.rmtree(final, ignore_errors=True)
    publish(partial, final)
    for old in _folders(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def find_checkpoint(folder: Path, fingerprint: str, step: int | None = None,
                    up_to: int | None = None) -> FoundCheckpoints:
    """The newest checkpoint of the training `fingerprint`, that of `step`, or the newest one `up_to` a step, and how
    many verify that are not of it."""
    others = 0
    for path in _folders(folder):
        if (step is not None and path.name != _name(step)) or (up_to is not None and path.name > _name(up_to)):
            continue
        loaded = _load(path)
        if loaded is None:
            continue
        if loaded.state.get("fingerprint") == fingerprint:
            return FoundCheckpoints(loaded, others)
        others += 1
    return FoundCheckpoints(None, others)


def newest_name(folder: Path) -> str:
    """The name of the newest checkpoint in `folder`, whole or not; empty where there is none."""
    return next((path.name for path in _folders(folder)), "")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("step-*") if path.suffix != ".partial"), reverse=True)


def _load(path: Path) -> Checkpoint | None:
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        if any(_digest(path / name) != digest for name, digest in manifest["files"].items()):
            return None
        state = json.loads((path / _STATE).read_text())
        return Checkpoint(int(manifest["step"]), state, path / _BACKEND) if isinstance(state, dict) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(path: Path) -> str:
    return sha256_file(path).removeprefix("sha256:")
