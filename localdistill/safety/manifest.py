"""The manifest of a folder: every file with its size and SHA-256, under a checksum of its own, and the comparison of
the folder with it. A file is read once per process and version; what was seen to be right is free the next time."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.safety.files import atomic_write_text, sha256_file, sync_file

MANIFEST = "manifest.json"
LAYOUT = 2
"""Manifests from this layout on hold a checksum of themselves; older ones have neither."""
_RECENT_NS = 50_000_000
"""File systems tell times apart by some milliseconds: what was written within this time may be written again and look
the same, so it is not remembered."""

_Version = tuple[int, int, int, int]
_seen: dict[str, tuple[_Version, str]] = {}
_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


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
    said = json.loads(json.dumps({"made_at": time.time(), **meta, "layout": LAYOUT, "files": files}))
    atomic_write_text(folder / MANIFEST, json.dumps({**said, "checksum": _checksum(said)}, indent=1))


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
    checksum = data.pop("checksum", None)
    if (checksum is not None or "layout" in data) and checksum != _checksum(data):
        raise LocalDistillError(f"{MANIFEST} is not what was written")
    return data


def damage_of(folder: Path, manifest: Mapping[str, Any], names: Iterable[str] | None = None,
              tick: Callable[[], None] = nobody_asks) -> str:
    """What is wrong with the first of `names` (all files) that is not as the manifest says; empty when all are.

    `tick` is called again and again while large files are read, and may raise to end it.
    """
    entries = {name: manifest["files"][name] for name in (manifest["files"] if names is None else names)}
    for name, entry in entries.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            return f"{name} {'is missing' if isinstance(error, FileNotFoundError) else 'cannot be read'}"
        if size != entry["size_bytes"]:
            return f"{name} has {size:,} bytes instead of {entry['size_bytes']:,}"
    for name, entry in entries.items():
        try:
            if sha256_seen(folder / name, tick) != entry["sha256"]:
                return f"{name} is not what was written"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror or error}"
    return ""


def strangers_in(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Files in `folder` that its manifest does not know."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != MANIFEST and name not in manifest["files"])


def sha256_seen(path: Path, tick: Callable[[], None] = nobody_asks) -> str:
    """`sha256_file`, from memory when this version of the file (size, times, inode) was read by this process before.
    Two threads that want the same file read it once."""
    place = os.path.abspath(path)
    with _turns[place]:
        version = _version(path)
        known = _seen.get(place)
        if known is not None and known[0] == version:
            return known[1]
        digest = sha256_file(path, tick)
        if version == _version(path) and time.time_ns() - max(version[1], version[2]) > _RECENT_NS:
            _seen[place] = version, digest
        return digest


def _version(path: Path) -> _Version:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _checksum(said: Mapping[str, Any]) -> str:
    text = json.dumps(said, sort_keys=True, ensure_ascii=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _lists_files(files: object) -> bool:
    return isinstance(files, dict) and all(
        isinstance(entry, dict) and isinstance(entry.get("size_bytes"), int) and isinstance(entry.get("sha256"), str)
        and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
        for name, entry in files.items())
