"""Importing a data set of the hub: its files of rows one after another, in one revision, so that an import that ended
early goes on with what is missing of the same one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from localdistill.api.traces.importing import ImportReport, Origin, import_file
from localdistill.core.disk import size_text
from localdistill.core.errors import InputError, PartialResult
from localdistill.core.events import Cancel, Emit, Noted, silent
from localdistill.core.records import content_id
from localdistill.hub.client import Hub
from localdistill.hub.datasets import HubDataset, HubFile, fetch, look_up
from localdistill.hub.names import HubAddress
from localdistill.interchange.unpacking import MOST_UNFOLD
from localdistill.safety.files import atomic_write_text, free_bytes
from localdistill.workspace.folder import Workspace
from localdistill.workspace.imports import FOLDER

_LEAVE_BYTES = 1 << 30
"""Of disk that stays free."""


@dataclass
class HubImport:
    """A data set of the hub that is being imported."""

    workspace: Workspace | None
    """None where nothing is stored."""
    address: str
    """As somebody wrote it."""
    dataset: HubDataset
    done: set[str]
    """Names of files that came in before."""
    note: Path | None = None

    @property
    def said(self) -> str:
        """What there is, in one sentence."""
        data, left = self.dataset, [file for file in self.dataset.files if file.name not in self.done]
        more = f"; {data.other_files:,} other files hold no rows" if data.other_files else ""
        before = f", {len(self.done):,} of them came in before" if self.done else ""
        size = size_text(sum(file.size_bytes or 0 for file in left))
        return (f"{data.repository} at {data.revision[:12]}: {len(data.files):,} files of rows{before}, {size} to fetch"
                f"{more}; licence {data.licence or 'not stated'}")

    def fetched(self, emit: Emit = silent, cancel: Cancel | None = None) -> Iterator[tuple[HubFile, Path]]:
        """The files that have not come in yet, each on this machine. PartialResult says what is kept when the hub
        cannot be reached; InputError when the disk has not the room; Cancelled, in the middle of a file too."""
        with Hub() as hub:
            for file in self.dataset.files:
                if file.name not in self.done:
                    yield file, self._fetched(hub, file, emit, cancel)

    def _fetched(self, hub: Hub, file: HubFile, emit: Emit, cancel: Cancel | None) -> Path:
        size = file.size_bytes or 0
        room = free_bytes(self.workspace.root if self.workspace else Path())
        if size + _LEAVE_BYTES > room:
            raise InputError(f"{file.name} has {size_text(size)}, and {size_text(room)} are free",
                             "free some disk, or name fewer files")
        emit(Noted(f"fetching {file.name} ({size_text(size)})"))
        try:
            return fetch(hub, self.dataset, file, emit, cancel)
        except PartialResult as error:
            kept = f"{len(self.done):,} of {len(self.dataset.files):,} files are imported and kept"
            raise PartialResult(f"{error.message}; {kept}",
                                f"localdistill import {self.address} goes on with the rest. {error.hint}") from None

    def take(self, file: HubFile, path: Path, layout: str = "auto", columns: Mapping[str, str] | None = None,
             unfold: float = MOST_UNFOLD, is_copied: bool = True) -> ImportReport:
        """Store the rows of a file; see `import_file`. It is not read again by the next import of the same revision."""
        assert self.workspace is not None, "something is to be stored"
        origin = Origin(self.dataset.source(file), self.dataset.address(file), self.dataset.licence)
        report = import_file(self.workspace, path, layout, columns, unfold, is_copied, origin)
        if not report.ended_early:
            self.done.add(file.name)
            self._keep()
        return report

    def _keep(self) -> None:
        """Write down what came in, as long as something is missing."""
        assert self.note is not None
        if all(file.name in self.done for file in self.dataset.files):
            self.note.unlink(missing_ok=True)
            return
        self.note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.note, json.dumps({"address": self.address, "revision": self.dataset.revision,
                                                 "done": sorted(self.done)}) + "\n")


def open_hub_import(workspace: Workspace | None, address: str, cancel: Cancel | None = None) -> HubImport:
    """Look a data set up. What an import of the same address left when it ended early counts: its revision, and the
    files that came in. The errors of `look_up`."""
    parsed, note, done = HubAddress.parse(address), None, set[str]()
    if workspace is not None:
        key = content_id("hub", address).removeprefix("b2:")[:16]
        note = workspace.root / FOLDER / f"{key}.hub"
        revision, done = _read(note)
        if revision:
            parsed = HubAddress(parsed.repository, revision, parsed.path)
    with Hub() as hub:
        dataset = look_up(hub, parsed, cancel)
    return HubImport(workspace, address, dataset, done & {file.name for file in dataset.files}, note)


def _read(note: Path) -> tuple[str, set[str]]:
    """The revision and the files of a note; nothing of one that cannot be read: then all is read again."""
    try:
        said = json.loads(note.read_bytes()[:1 << 22])
        return str(said["revision"]), {str(name) for name in said["done"]}
    except (OSError, ValueError, TypeError, KeyError):
        return "", set()
