"""Files of data sets on the hub: which there are in which revision, and their fetching: what was fetched is not fetched
again, a file that was cut off is. The address is HF_ENDPOINT's, the key HF_TOKEN's or that of `hf auth login`. Reads no
rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import InputError, LocalDistillError, PartialResult
from localdistill.core.events import Cancel, Emit, silent
from localdistill.hub.client import Hub, HubProblem, snapshot
from localdistill.hub.names import DATASETS, HubAddress

ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_PACKED = (".gz", ".zst", ".zstd")
_NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json")


@dataclass(frozen=True)
class HubFile:
    """One file of rows."""

    name: str
    """Inside its data set, with `/` between folders."""
    size_bytes: int | None = None


@dataclass(frozen=True)
class HubDataset:
    """A data set in one revision."""

    repository: str
    revision: str
    """The commit, 40 hex digits: what is fetched later is of the same one."""
    files: tuple[HubFile, ...]
    """Those that hold rows, in the order of their names."""
    licence: str = ""
    """As its card says it."""
    other_files: int = 0
    """Files that hold no rows, or in no form that is read."""

    def address(self, file: HubFile) -> str:
        """What names this one file, in this revision."""
        return f"{DATASETS}{self.repository}@{self.revision}/{file.name}"

    def source(self, file: HubFile) -> str:
        """What its rows come from, whatever the revision."""
        return f"{DATASETS}{self.repository}/{file.name}"


def look_up(hub: Hub, address: HubAddress, cancel: Cancel | None = None) -> HubDataset:
    """The data set, its newest commit or that of its revision. InputError when there is none that may be read, or it
    holds no rows; PartialResult when the hub cannot be reached; MissingExtra; Cancelled."""
    found = _asked(hub, {"act": "dataset", "repository": address.repository, "revision": address.revision}, silent,
                   cancel)
    names: dict[str, int | None] = found["files"]
    mine = sorted(name for name in names if address.names(name))
    rows = [name for name in mine if _holds_rows(name) and not _leads_outside(name)]
    if not rows:
        raise InputError(
            f"{address.repository} holds no file of rows" + (f" under '{address.path}'" if address.path else "")
            + f" among {len(names)} files", f"endings that are read: {', '.join(ENDINGS)}, plain or packed")
    if not found["commit"]:
        raise InputError(f"the hub does not say which commit of {address.repository} this is", "name one: @COMMIT")
    return HubDataset(address.repository, found["commit"], tuple(HubFile(name, names[name]) for name in rows),
                      found["licence"], len(mine) - len(rows))


def fetch(hub: Hub, dataset: HubDataset, file: HubFile, emit: Emit = silent, cancel: Cancel | None = None) -> Path:
    """The file on this machine; fetched unless it is here. InputError when it is not given out, PartialResult when the
    hub cannot be reached, Cancelled."""
    return _fetch(hub, dataset.repository, dataset.revision, file, emit, cancel)


def _fetch(hub: Hub, repository: str, revision: str, file: HubFile, emit: Emit, cancel: Cancel | None) -> Path:
    told = _asked(hub, {"act": "file", "repository": repository, "revision": revision,
                        "name": file.name, "size_bytes": file.size_bytes or 0}, emit, cancel, file.name)
    return Path(told["path"])


def here(text: str) -> Path | None:
    """The one file that an address names, where it is on this machine: in the revision that it names, or what that
    meant when it was fetched last. InputError for an address that names no single file."""
    address = _of_one_file(text)
    folder = snapshot("datasets", address.repository, address.revision)
    file = folder / address.path if folder is not None else None
    return file if file is not None and file.is_file() else None


def bring(text: str, emit: Emit = silent, cancel: Cancel | None = None, newest: bool = False) -> Path:
    """The one file that an address names, on this machine; fetched unless it is here. newest: fetched as the hub has it
    by now. InputError for an address that names no single file, and the errors of `fetch`."""
    address = _of_one_file(text)
    if not newest and (found := here(text)):
        return found
    with Hub() as hub:
        return _fetch(hub, address.repository, address.revision, HubFile(address.path), emit, cancel)


def commit_of(text: str, path: Path) -> str:
    """The revision that the file at `path` is of, which `here` or `bring` found for this address."""
    return path.parents[_of_one_file(text).path.count("/")].name


def _of_one_file(text: str) -> HubAddress:
    address = HubAddress.parse(text)
    if not address.path or "*" in address.path:
        raise InputError(f"'{text}' names no single file of a data set", f"{DATASETS}ORGANISATION/NAME/FILE")
    return address


def _asked(hub: Hub, request: dict[str, Any], emit: Emit, cancel: Cancel | None, what: str = "") -> dict[str, Any]:
    try:
        return hub.ask(request, what, emit, cancel or Cancel())
    except HubProblem as problem:
        raise _refusal(request["repository"], request["revision"], problem) from None


def _holds_rows(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    for packed in _PACKED:
        last = last.removesuffix(packed)
    return last.endswith(ENDINGS) and last not in _NOT_ROWS and not name.startswith(".")


def _leads_outside(name: str) -> bool:
    return name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")


def _refusal(repository: str, revision: str, problem: HubProblem) -> LocalDistillError:
    """The error for a person."""
    login = "check its name; a private one needs `hf auth login`, or HF_TOKEN"
    status = problem.figures.get("status")
    match problem.kind:
        case "gated":
            return InputError(f"{repository} is gated: its owner decides who may read it",
                              "ask for access on its page of the hub; then `hf auth login`, or HF_TOKEN")
        case "revision":
            return InputError(f"{repository} has no revision '{revision}'", "leave @REVISION out for the newest")
        case "repository":
            return InputError(f"there is no data set '{repository}' on the hub that you may read", login)
        case "entry":
            return InputError(f"{repository} lists a file that the hub does not have", "name another revision")
        case "http" if status in (401, 403):
            return InputError(f"the hub does not let you read {repository} ({status})", login)
        case "http":
            return PartialResult(f"the hub answers with {status} for {repository}", "try again later")
        case "disk":
            return InputError(f"{repository} cannot be kept: {problem.text}",
                              "free some disk, or let HF_HOME name a folder on a larger one")
        case "offline":
            return PartialResult(f"{repository} may not be fetched: HF_HUB_OFFLINE is set", "unset it, then try again")
    return PartialResult(f"the hub cannot be reached for {repository}: {problem.text}",
                         "check the network and HF_ENDPOINT, then try again")
