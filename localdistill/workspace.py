"""The workspace: one folder with runs, artifacts and the store. An artifact is a folder that is whole: its manifest,
written last, lists every file with its size and SHA-256. Its name is the digest of all that decided its content."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.errors import LocalDistillError
from localdistill.records import content_id
from localdistill.safety.files import atomic_write_text, inside, publish, sha256_file, sync_file

MARKER = "localdistill.toml"
MANIFEST = "manifest.json"
SCRATCH = ("checkpoints",)
"""Folders that only help to resume; they are removed before an artifact is published."""


@dataclass(frozen=True)
class Artifact:
    """One complete result."""

    kind: str
    digest: str
    path: Path

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What it is made of: files, meta data, and when."""
        data: Mapping[str, Any] = json.loads((self.path / MANIFEST).read_text())
        return data

    def file(self, name: str) -> Path:
        """A file in it; LocalDistillError when the manifest does not list it."""
        if name not in self.manifest["files"]:
            raise LocalDistillError(f"the {self.kind} {self.digest} holds no file '{name}'", "")
        return self.path / name

    def is_whole(self) -> bool:
        """True when every listed file is there in its size."""
        try:
            return all(
                (self.path / name).stat().st_size == entry["size_bytes"]
                for name, entry in self.manifest["files"].items()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def verify(self) -> None:
        """Compare every file with its checksum; LocalDistillError names the first that differs."""
        for name, entry in self.manifest["files"].items():
            if sha256_file(self.path / name) != entry["sha256"]:
                raise LocalDistillError(
                    f"{self.path / name} is not what was written", "remove the folder and resume the run"
                )


class Workspace:
    """One workspace folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    @classmethod
    def find(cls, explicit: Path | str | None = None) -> Workspace:
        """The folder given, else the nearest parent that holds `localdistill.toml`, else the current folder."""
        if explicit is not None:
            Path(explicit).mkdir(parents=True, exist_ok=True)
            return cls(Path(explicit).resolve())
        here = Path.cwd()
        return cls(next((folder for folder in (here, *here.parents) if (folder / MARKER).is_file()), here))

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.root / "runs"

    @property
    def artifacts(self) -> Path:
        """The folder of artifacts, one folder per kind."""
        return self.root / "artifacts"

    @property
    def store_path(self) -> Path:
        """The file of the store."""
        return self.root / "localdistill.duckdb"

    @property
    def batches(self) -> Path:
        """The folder that remembers batches under way at providers."""
        return self.root / "batches"

    def journals(self) -> list[Path]:
        """The journals of all runs."""
        return sorted(self.runs.glob("*/replies.jsonl"))

    @staticmethod
    def artifact_digest(kind: str, version: int, options: Mapping[str, Any], inputs: Sequence[str]) -> str:
        """`b2:...` of a stage's logic version, its options and its inputs' digests."""
        return content_id("artifact", kind, version, dict(options), list(inputs))

    def _folder(self, kind: str, digest: str) -> Path:
        return inside(self.artifacts, f"{kind}/{digest.removeprefix('b2:')}")

    def artifact(self, kind: str, digest: str) -> Artifact | None:
        """The artifact when it is complete, else None."""
        found = Artifact(kind, digest, self._folder(kind, digest))
        return found if found.is_whole() else None

    def make_artifact(
        self, kind: str, digest: str, meta: Mapping[str, Any], build: Callable[[Path], None]
    ) -> tuple[Artifact, bool]:
        """The artifact, made by `build(staging)` unless it is there, and whether it was there before.

        Two that want the same take turns, so the second finds what the first made. The staging folder becomes the
        artifact when `build` ends well; after a crash or an error it stays, so that whoever builds again finds what was
        there (checkpoints). `meta` goes into the manifest and may be completed by `build`.
        """
        final = self._folder(kind, digest)
        staging = final.with_name(f".building-{final.name}")
        if (found := self.artifact(kind, digest)) is not None:
            return found, True
        final.parent.mkdir(parents=True, exist_ok=True)
        with open(final.with_name(f".lock-{final.name}"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (found := self.artifact(kind, digest)) is not None:
                return found, True
            staging.mkdir(exist_ok=True)
            build(staging)
            self._publish(staging, final, {"kind": kind, "digest": digest, **meta})
        return Artifact(kind, digest, final), False

    @staticmethod
    def _publish(staging: Path, final: Path, meta: Mapping[str, Any]) -> None:
        for name in SCRATCH:
            shutil.rmtree(staging / name, ignore_errors=True)
        (staging / MANIFEST).unlink(missing_ok=True)
        files = {}
        for path in sorted(p for p in staging.rglob("*") if p.is_file()):
            sync_file(path)
            files[path.relative_to(staging).as_posix()] = {
                "size_bytes": path.stat().st_size,
                "sha256": sha256_file(path),
            }
        manifest = {**meta, "made_at": time.time(), "files": files}
        atomic_write_text(staging / MANIFEST, json.dumps(manifest, indent=1))
        if final.exists():
            shutil.rmtree(final)
        publish(staging, final)

    def list_artifacts(self) -> list[Artifact]:
        """All complete artifacts."""
        found = []
        for folder in sorted(self.artifacts.glob("*/*")):
            if not folder.name.startswith("."):
                artifact = Artifact(folder.parent.name, f"b2:{folder.name}", folder)
                if artifact.is_whole():
                    found.append(artifact)
        return found
