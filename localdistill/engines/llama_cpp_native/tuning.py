"""The cache of auto-tuning: what was measured once for a machine and a model, remembered in one small file of the
user's cache folder.

Reading a broken or foreign file is the same as finding none. Nothing here measures."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localdistill.safety.files import atomic_write_text, sha256_file

CACHE_ENV = "LOCALDISTILL_CACHE"
_FORMAT = 1


@dataclass(frozen=True)
class Tuning:
    """The fastest settings of one model on one machine."""

    threads: int
    flash_attention: bool | None
    """None: not measured, llama.cpp's or our default holds."""
    unified: bool | None
    """True when one cache for all sequences was clearly faster; None: not measured."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """Tokens/s of everything that was tried."""
    elapsed_s: float = 0.0

    @property
    def best_rate(self) -> float:
        """Tokens/s of the fastest."""
        return max(self.rates.values(), default=0.0)


def cache_folder() -> Path:
    """The user's cache of localdistill: `$LOCALDISTILL_CACHE`, else the system's folder for caches."""
    if named := os.environ.get(CACHE_ENV):
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("localdistill"))


class TuningFile:
    """The file of measurements and of digests of large files."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = (folder or cache_folder()) / "llama_cpp.json"

    def find(self, key: str) -> Tuning | None:
        """What is remembered under `key`."""
        with contextlib.suppress(TypeError):
            return Tuning(**self._read()["tunings"][key]) if key in self._read()["tunings"] else None
        return None

    def keep(self, key: str, tuning: Tuning) -> None:
        """Remember `tuning`. A folder that cannot be written is no error: it is measured again next time."""
        known = self._read()
        known["tunings"][key] = dataclasses.asdict(tuning)
        self._write(known)

    def digest(self, path: Path) -> str:
        """`sha256:...` of a model file, from memory while its path, size and time of change stay the same."""
        status = path.stat()
        mark = [status.st_size, status.st_mtime_ns]
        known = self._read()
        entry = known["digests"].get(str(path.resolve()))
        if isinstance(entry, list) and entry[:2] == mark:
            return str(entry[2])
        digest = sha256_file(path)
        known["digests"][str(path.resolve())] = [*mark, digest]
        self._write(known)
        return digest

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            known = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            known = {}
        if not isinstance(known, dict) or known.get("format") != _FORMAT:
            known = {}
        parts = {name: known.get(name) for name in ("tunings", "digests")}
        return {name: part if isinstance(part, dict) else {} for name, part in parts.items()}

    def _write(self, known: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(self._path, json.dumps({"format": _FORMAT, **known}, indent=1))


def tuning_key(digest: str, facts: Mapping[str, Any], parallel: int, kv_type: str, cores: int) -> str:
    """Identity of a measurement: machine, model, version of llama.cpp, and what was asked of it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        llama = version("llama-cpp-python")
    except PackageNotFoundError:
        llama = "unknown"
    machine = [platform.system(), platform.machine(), facts.get("processor", ""), cores,
               [device["description"] for device in facts.get("devices", ())], facts.get("gpu_layers", 0),
               facts.get("repacks", True), facts.get("matrix_units", True)]
    text = json.dumps([machine, digest, llama, parallel, kv_type], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
