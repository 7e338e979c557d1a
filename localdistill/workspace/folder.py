"""The workspace: one folder with runs, artifacts and the store. An artifact is a folder that is whole: its manifest,
written last, lists every file with its size and SHA-256. Its name is the digest of all that decided its content."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.core.errors import Cancelled, LocalDistillError, UsageError
from localdistill.core.events import Emit, silent
from localdistill.core.records import content_id
from localdistill.modelfiles.gguf_files import part_names
from localdistill.safety.files import inside, publish
from localdistill.safety.journal import CLOSED
from localdistill.safety.known_sums import memory_of
from localdistill.safety.manifest import (
    MANIFEST,
    damage_of,
    damages_of,
    nobody_asks,
    read_manifest,
    strangers_in,
    write_manifest,
)
from localdistill.safety.scratch import remove_scratch
from localdistill.safety.written_size import SIDE
from localdistill.workspace.run_folder import RUN_JOURNAL

MARKER = "localdistill.toml"
BUILDING = ".building-"
"""Before the name of an artifact: the folder that it is built in."""
SCRATCH = ("checkpoints",)
"""Folders that only help to resume; they are removed before an artifact is published."""
KEPT = "journals"
FORGETTING = "forgetting.json"
"""Lies in a workspace while something is being forgotten."""
WHY = "WHY.txt"
"""Lies in every folder that was set aside."""
_PLAIN = re.compile(r"[\w-]+")
"""What a digest is without its tag: no path, and nothing that a search takes for more than itself."""


@dataclass(frozen=True)
class Artifact:
    """One result that is complete as far as its folder tells; `damage` looks at what is in the files."""

    kind: str
    digest: str
    path: Path

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What it is made of: files, meta data, and when. LocalDistillError when it cannot be read."""
        return read_manifest(self.path)

    def file(self, name: str) -> Path:
        """A file in it; LocalDistillError when the manifest does not list it."""
        if name not in self.manifest["files"]:
            raise LocalDistillError(f"the {self.kind} {self.digest} holds no file '{name}'", "")
        return self.path / name

    def checked(self, name: str) -> Path:
        """A file in it that was compared with its checksum; LocalDistillError when it differs. The other files are not
        looked at."""
        path = self.file(name)
        if why := damage_of(self.path, self.manifest, [name]):
            raise self._damaged(why)
        return path

    def is_whole(self) -> bool:
        """True when every listed file is there in its size. What is in them was not looked at."""
        try:
            files = self.manifest["files"]
            return all((self.path / name).stat().st_size == entry["size_bytes"] for name, entry in files.items())
        except (OSError, LocalDistillError):
            return False

    def damage(self, tick: Callable[[], None] = nobody_asks) -> str:
        """The first thing that is not what was written, in words; empty when every file is. Large files take a while
        the first time: `tick` is called meanwhile and may raise."""
        with closing(self.damages(tick)) as found:
            return next(found, "")

    def damages(self, tick: Callable[[], None] = nobody_asks, afresh: bool = False) -> Generator[str, None, None]:
        """Everything that is not what was written, in words. afresh: read every byte, whatever was read before."""
        try:
            if (self.manifest.get("kind", self.kind), self.manifest.get("digest", self.digest)) != (
                    self.kind, self.digest):
                yield f"{MANIFEST} belongs to another artifact"
                return
            yield from damages_of(self.path, self.manifest, tick=tick, afresh=afresh)
        except LocalDistillError as error:
            if isinstance(error, Cancelled):
                raise
            yield error.message

    @property
    def name(self) -> str:
        """Its kind and its label, for people; what of its digest is shown where its manifest cannot be read."""
        try:
            return f"{self.kind} '{self.manifest['label']}'"
        except (LocalDistillError, KeyError):
            return f"{self.kind} {self.path.name[:8]}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Digests of what it was made from; LocalDistillError when its manifest cannot be read."""
        found = self.manifest.get("inputs", ())
        return tuple(filter(None, map(str, found))) if isinstance(found, list) else ()

    def strangers(self) -> list[str]:
        """Files in its folder that no stage wrote. Nothing reads them."""
        return strangers_in(self.path, self.manifest)

    def verify(self) -> None:
        """Compare every file with its checksum; LocalDistillError names the first that differs."""
        if why := self.damage():
            raise self._damaged(why)

    def _damaged(self, why: str) -> LocalDistillError:
        return LocalDistillError(f"{self.path} is damaged: {why}", "localdistill resume RUN makes it again")


class Workspace:
    """One workspace folder."""

    def __init__(self, root: Path | str, emit: Emit = silent) -> None:
        self.root = Path(root)
        self.emit = emit
        """Who is told of what was mended and what is missing when somebody opens the store."""

    @classmethod
    def find(cls, explicit: Path | str | None = None, may_be_new: bool = True) -> Workspace:
        """The folder given, else the nearest parent that holds `localdistill.toml`, else the current folder. It is not
        made: who writes first does that. may_be_new: the folder need not be there yet. UsageError when it cannot be a
        workspace."""
        if explicit is None:
            try:
                here = Path.cwd()
            except FileNotFoundError:
                raise UsageError("the current folder is gone", "cd to one that is there, or name one: --workspace "
                                                               "FOLDER") from None
            root = next((folder for folder in (here, *here.parents) if (folder / MARKER).is_file()), here)
        else:
            root = Path(os.path.realpath(explicit))
        _require_folder(root, may_be_new)
        return cls(root)

    @property
    def runs(self) -> Path:
        """The folder of runs."""
        return self.root / "runs"

    @property
    def artifacts(self) -> Path:
        """The folder of artifacts, one folder per kind."""
        return self.root / "artifacts"

    @property
    def damaged(self) -> Path:
        """The folder that damaged artifacts are moved to; nothing in it is used."""
        return self.root / "damaged"

    @property
    def store_path(self) -> Path:
        """The file of the store."""
        return self.root / "localdistill.duckdb"

    @property
    def batches(self) -> Path:
        """The folder that remembers batches under way at providers."""
        return self.root / "batches"

    @property
    def kept(self) -> Path:
        """The folder of the journals that belong to no run: of what was stored directly, of imports, and of runs that
        were removed."""
        return self.root / KEPT

    @property
    def retired(self) -> Path:
        """The folder of what runs whose own folder was removed have said and paid for."""
        return self.kept / "runs"

    def journals(self) -> list[Path]:
        """Every journal, by the path of its open part: those that belong to no run, and those of all runs."""
        found = [*self.kept.glob("*.jsonl*"), *self.kept.glob("*/*.jsonl*")]
        kept = {path.with_name(path.name.removesuffix(CLOSED)) for path in found
                if path.name.endswith((".jsonl", f".jsonl{CLOSED}"))}
        return sorted(kept.union(*(_journals_of_runs(folder) for folder in (self.runs, self.retired))))

    @staticmethod
    def artifact_digest(kind: str, version: int, options: Mapping[str, Any], inputs: Sequence[str]) -> str:
        """`b2:...` of a stage's logic version, its options and its inputs' digests."""
        return content_id("artifact", kind, version, dict(options), list(inputs))

    def _folder(self, kind: str, digest: str) -> Path:
        return inside(self.artifacts, f"{kind}/{digest.removeprefix('b2:')}")

    def artifact(self, kind: str, digest: str, tick: Callable[[], None] = nobody_asks) -> Artifact | None:
        """The artifact when all of it is what was written, else None. It is compared with its checksums, once per
        process and version of its files."""
        found = self.find_artifact(kind, digest)
        return found if found is not None and not found.damage(tick) else None

    def find_artifact(self, kind: str, digest: str) -> Artifact | None:
        """The artifact whose folder is there, whole or damaged; None when there is none. Nobody looked at its files."""
        found = Artifact(kind, digest, self._folder(kind, digest))
        return found if found.path.is_dir() else None

    def damaged_sources(self, artifact: Artifact, tick: Callable[[], None] = nobody_asks,
                        also: Iterable[str] = ()) -> Iterator[str]:
        """What is wrong with the artifacts that this one was made from, directly or by others, and with those of the
        digests `also`: one sentence each. What was removed since is not damaged."""
        known: set[str] = set()
        waiting = [*artifact.inputs, *also]
        while waiting:
            digest = waiting.pop(0)
            if digest in known:
                continue
            known.add(digest)
            for source in self._with_digest(digest):
                if why := source.damage(tick):
                    yield f"the {source.name} is damaged ({why})"
                else:
                    waiting += source.inputs

    def _with_digest(self, digest: str) -> list[Artifact]:
        name = digest.removeprefix("b2:")
        if not _PLAIN.fullmatch(name):
            return []
        folders = sorted(self.artifacts.glob(f"*/{name}"))
        return [Artifact(folder.parent.name, f"b2:{name}", folder) for folder in folders if folder.is_dir()]

    def make_artifact(
        self, kind: str, digest: str, meta: Mapping[str, Any], build: Callable[[Path], None],
        unstable: str = "", said: Callable[[str], None] = lambda text: None,
    ) -> tuple[Artifact, bool]:
        """The artifact, made by `build(staging)` unless it is there, and whether it was there before.

        Two that want the same take turns, so the second finds what the first made. The staging folder becomes the
        artifact when `build` ends well; after a crash or an error it stays, so that whoever builds again finds what was
        there (checkpoints). `meta` goes into the manifest and may be completed by `build`.

        One that is there and damaged is moved to `damaged`, said, and made again. `unstable` is a pattern of the files
        that may come out otherwise the second time: where they do, what was made from the first is set aside too.
        """
        if (found := self.artifact(kind, digest)) is not None:
            return found, True
        final = self._folder(kind, digest)
        staging = final.with_name(f"{BUILDING}{final.name}")
        final.parent.mkdir(parents=True, exist_ok=True)
        with self._turn(final):
            if (found := self.artifact(kind, digest)) is not None:
                return found, True
            if final.exists():
                said(self._set_aside(Artifact(kind, digest, final), "it is made again"))
            staging.mkdir(exist_ok=True)
            remove_scratch(staging)
            build(staging)
            for name in SCRATCH:
                shutil.rmtree(staging / name, ignore_errors=True)
            write_manifest(staging, {"kind": kind, "digest": digest, **meta})
            if unstable and self._came_out_otherwise(final, staging, unstable):
                for stale in self._made_from(digest):
                    with self._turn(stale.path):
                        said(self._set_aside(stale, f"it was made from the {kind} {digest[3:11]}, which was damaged "
                                                    "and may not be the same now that it is made again"))
            publish(staging, final)
        return Artifact(kind, digest, final), False

    @staticmethod
    @contextmanager
    def _turn(final: Path) -> Iterator[None]:
        """Wait until nobody else makes or moves this artifact."""
        with open(final.with_name(f".lock-{final.name}"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _set_aside(self, artifact: Artifact, then: str) -> str:
        """Move the folder of an artifact to `damaged`; what was wrong, where it is now, and `then`, in a sentence."""
        why, name = artifact.damage(), artifact.name
        self.damaged.mkdir(exist_ok=True)
        number = 1 + sum(1 for _ in self.damaged.glob(f"{artifact.kind}-{artifact.path.name}-*"))
        place = self.damaged / f"{artifact.kind}-{artifact.path.name}-{number}"
        os.replace(artifact.path, place)
        memory_of(artifact.path).unlink(missing_ok=True)
        sentence = f"the {name} {f'is damaged ({why})' if why else 'is out of date'}: {then}"
        (place / WHY).write_text(f"{sentence}\n", encoding="utf-8")
        return f"{sentence}; what was there lies in {place.relative_to(self.root)}"

    def _came_out_otherwise(self, final: Path, staging: Path, pattern: str) -> bool:
        """True when an earlier making of this artifact was set aside and its files of `pattern` were others."""
        earlier = sorted(self.damaged.glob(f"{final.parent.name}-{final.name}-*"), key=lambda p: p.stat().st_ctime)
        if not earlier:
            return False
        try:
            return _sums(earlier[-1], pattern) != _sums(staging, pattern)
        except LocalDistillError:
            return True

    def _made_from(self, digest: str) -> list[Artifact]:
        """Every artifact that was made from `digest`, directly or by others."""
        known, found, waiting = self.list_artifacts(), list[Artifact](), [digest]
        while waiting:
            source = waiting.pop()
            made = [one for one in known if source in one.inputs and one not in found]
            found += made
            waiting += [one.digest for one in made]
        return found

    def list_artifacts(self) -> list[Artifact]:
        """All artifacts whose files are there in their sizes; nobody looked into them."""
        return [artifact for artifact in self.all_artifacts() if artifact.is_whole()]

    def newest_artifacts(self, kind: str) -> list[Artifact]:
        """Those of one kind, the latest first."""
        found = [artifact for artifact in self.list_artifacts() if artifact.kind == kind]
        return sorted(found, key=lambda artifact: float(artifact.manifest.get("made_at", 0)), reverse=True)

    def all_artifacts(self) -> list[Artifact]:
        """Every folder of an artifact, whole or damaged; nobody looked into them."""
        return [Artifact(folder.parent.name, f"b2:{folder.name}", folder)
                for folder in sorted(self.artifacts.glob("*/*")) if not folder.name.startswith(".") and folder.is_dir()]


def _journals_of_runs(folder: Path) -> set[Path]:
    """The journals of the runs in a folder. There may be very many runs, so this asks for three names in each, and
    does not list what else is there."""
    top, found = str(folder), set[Path]()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(top):
            journal = f"{top}/{name}/{RUN_JOURNAL}"
            if any(os.path.lexists(journal + ending) for ending in ("", CLOSED, SIDE)):
                found.add(Path(journal))
    return found


def _require_folder(root: Path, may_be_new: bool) -> None:
    """UsageError when `root` is not and cannot be the folder of a workspace."""
    if not may_be_new and not root.exists():
        raise UsageError(f"there is no folder {root}",
                         f"look at its name: ls {shlex.quote(str(root.parent))}; a run with --workspace makes one")
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file, and a workspace is a folder",
                         "name its folder, or another one: --workspace FOLDER")
    try:
        str(root).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of {root} is not UTF-8, and the store cannot be opened there",
                         "rename the folder: mv FOLDER workspace") from None


def check_file(path: Path, tick: Callable[[], None] = nobody_asks) -> None:
    """Compare a file that lies in an artifact with its checksum, and with it the parts of the model of which it is the
    first; LocalDistillError when it is not what was written. Files that no manifest lists are nobody's to check."""
    real = path.resolve()
    if not (real.parent / MANIFEST).is_file():
        return
    try:
        manifest = read_manifest(real.parent)
        listed = [name for name in part_names(real.name) if name in manifest["files"]]
        why = damage_of(real.parent, manifest, listed, tick) if listed else ""
    except Cancelled:
        raise
    except LocalDistillError as error:
        why = error.message
    if why:
        raise LocalDistillError(f"{path.parent} is damaged: {why}",
                                "localdistill exports says which run made it; localdistill resume RUN makes it again")


def _sums(folder: Path, pattern: str) -> dict[str, str]:
    files = read_manifest(folder)["files"]
    return {name: entry["sha256"] for name, entry in files.items() if fnmatch(name, pattern)}
