"""The manifest of a folder: every file with its size and SHA-256, under a checksum of its own, and the comparison of
the folder with it. What was seen to be right is free the next time: see `known_sums`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.core.seals import KEY, NOT_WRITTEN, checksum_of, sealed
from localdistill.safety.files import atomic_write_text, sha256_file, sync_file
from localdistill.safety.known_sums import known_sums

MANIFEST = "manifest.json"
LAYOUT = 2
"""Manifests from this layout on hold a checksum of themselves; older ones have neither."""


def nobody_asks() -> None:
    """A `tick` for callers that never stop what they began."""


def write_manifest(folder: Path, meta: Mapping[str, Any]) -> None:
    """Make every file of `folder` durable and list it; `meta` goes into the manifest too."""
    (folder / MANIFEST).unlink(missing_ok=True)
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        sync_file(path)
        name = path.relative_to(folder).as_posix()
        files[name] = {"size_bytes": path.stat().st_size, "sha256": sha256_file(path)}
    said = {"made_at": time.time(), **meta, "layout": LAYOUT, "files": files}
    atomic_write_text(folder / MANIFEST, sealed(said, indent=1))


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """What the manifest says. LocalDistillError when it is missing, cannot be read, or is not what was written."""
    try:
        data = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise LocalDistillError(f"{MANIFEST} is missing") from None
    except (OSError, ValueError, RecursionError):
        raise LocalDistillError(f"{MANIFEST} cannot be read") from None
    if not isinstance(data, dict) or not _lists_files(data.get("files")):
        raise LocalDistillError(f"{MANIFEST} lists no files")
    checksum = data.pop(KEY, None)
    if (checksum is not None or "layout" in data) and checksum != checksum_of(data):
        raise LocalDistillError(f"{MANIFEST} {NOT_WRITTEN}")
    return data


def damage_of(folder: Path, manifest: Mapping[str, Any], names: Iterable[str] | None = None,
              tick: Callable[[], None] = nobody_asks) -> str:
    """What is wrong with the first of `names` (all files) that is not as the manifest says; empty when all are.

    `tick` is called again and again while large files are read, and may raise to end it.
    """
    with closing(damages_of(folder, manifest, names, tick)) as found:
        return next(found, "")


def damages_of(folder: Path, manifest: Mapping[str, Any], names: Iterable[str] | None = None,
               tick: Callable[[], None] = nobody_asks, afresh: bool = False) -> Generator[str, None, None]:
    """The same of every file that is not as the manifest says: first by what costs no reading. afresh: read everything,
    whatever was read before."""
    entries = {name: manifest["files"][name] for name in (manifest["files"] if names is None else names)}
    odd = set()
    for name, entry in entries.items():
        if why := _odd_size(folder / name, entry["size_bytes"]):
            odd.add(name)
            yield f"{name} {why}"
    with known_sums(folder, afresh) as sums:
        for name, entry in entries.items():
            try:
                if name not in odd and sums.sha256(name, tick) != entry["sha256"]:
                    yield f"{name} {NOT_WRITTEN}"
            except OSError as error:
                yield f"{name} cannot be read: {error.strerror or error}"


def _odd_size(path: Path, size_bytes: int) -> str:
    try:
        size = path.stat().st_size
    except OSError as error:
        return "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
    return "" if size == size_bytes else f"has {size:,} bytes instead of {size_bytes:,}"


def strangers_in(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files in `folder` that its manifest does not know."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != MANIFEST and name not in manifest["files"])


def _lists_files(files: object) -> bool:
    return isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("size_bytes"), int) and isinstance(entry.get("sha256"), str)
        and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        for name, entry in files.items())
