"""Files of data sets on the Hugging Face hub: which there are in which revision, and fetching them by the hub's own
library: what was fetched is not fetched again, a file that was cut off is. The address is HF_ENDPOINT's, the key
HF_TOKEN's or that of `hf auth login`, both the library's business. Reads no rows."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import InputError, LocalDistillError, MissingExtra, PartialResult
from localdistill.core.events import Cancel
from localdistill.modelfiles.hub import cache_folder, fetch_file

PREFIX = "hf://datasets/"
_COMMIT = re.compile(r"[0-9a-f]{40}")
ENDINGS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_PACKED = (".gz", ".zst", ".zstd")
_NOT_ROWS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "package.json")
_FORM = "hf://datasets/organisation/name, with @revision behind it, and /FILE or /FOLDER, where you want less than all"


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
        return f"{PREFIX}{self.repository}@{self.revision}/{file.name}"

    def source(self, file: HubFile) -> str:
        """What its rows come from, whatever the revision."""
        return f"{PREFIX}{self.repository}/{file.name}"


@dataclass(frozen=True)
class HubAddress:
    """What somebody wrote."""

    repository: str
    revision: str = ""
    """A branch, tag or commit; empty is the newest."""
    path: str = ""
    """A file, a folder, or a pattern with `*`; empty is everything."""

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """InputError for another form."""
        parts = text.removeprefix(PREFIX).strip("/").split("/")
        if not text.startswith(PREFIX) or len(parts) < 2 or ".." in parts or not all(parts):
            raise InputError(f"'{text}' names no data set of the hub", _FORM)
        name, _, revision = parts[1].partition("@")
        return cls(f"{parts[0]}/{name}", revision, "/".join(parts[2:]))

    def names(self, file: str) -> bool:
        """Whether this file is meant."""
        path = self.path
        return not path or file == path or file.startswith(f"{path}/") or fnmatch.fnmatchcase(file, path)


def is_hub_address(text: str) -> bool:
    """Whether this is meant to be a data set of the hub."""
    return text.startswith("hf:")


def look_up(address: HubAddress) -> HubDataset:
    """The data set, its newest commit or that of its revision. InputError when there is none that may be read, or it
    holds no rows; PartialResult when the hub cannot be reached."""
    with _told(address.repository, address.revision):
        found = _api().dataset_info(address.repository, revision=address.revision or None, files_metadata=True)
    names = {one.rfilename: one.size for one in found.siblings or ()}
    mine = sorted(name for name in names if address.names(name))
    rows = [name for name in mine if _holds_rows(name) and not _leads_outside(name)]
    if not rows:
        raise InputError(
            f"{address.repository} holds no file of rows" + (f" under '{address.path}'" if address.path else "")
            + f" among {len(names)} files", f"endings that are read: {', '.join(ENDINGS)}, plain or packed")
    if not found.sha:
        raise InputError(f"the hub does not say which commit of {address.repository} this is", "name one: @COMMIT")
    card: Any = found.card_data or {}
    licence = card.get("license") if hasattr(card, "get") else None
    said = licence if isinstance(licence, str) else ", ".join(map(str, licence or ()))
    return HubDataset(address.repository, found.sha, tuple(HubFile(name, names[name]) for name in rows), said,
                      len(mine) - len(rows))


def fetch(dataset: HubDataset, file: HubFile) -> Path:
    """The file on this machine; fetched unless it is here. InputError when it is not given out, PartialResult when the
    hub cannot be reached."""
    with _told(dataset.repository, dataset.revision):
        from huggingface_hub import hf_hub_download

        found = hf_hub_download(dataset.repository, file.name, repo_type="dataset", revision=dataset.revision,
                                endpoint=_endpoint())
    return Path(found)


def here(text: str) -> Path | None:
    """The one file that an address names, where it is on this machine: in the revision that it names, or what that
    meant when it was fetched last. InputError for an address that names no single file."""
    address = _of_one_file(text)
    place = cache_folder() / f"datasets--{address.repository.replace('/', '--')}"
    commit = address.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (place / "refs" / (commit or "main")).read_text().strip()
        except (OSError, ValueError):
            return None
    file = place / "snapshots" / commit / address.path
    return file if _COMMIT.fullmatch(commit) and file.is_file() else None


def bring(text: str, cancel: Cancel, newest: bool = False) -> Path:
    """The one file that an address names, on this machine; fetched by a process of its own unless it is here. newest:
    fetched as the hub has it by now. InputError for an address that names no single file, and the errors of
    `modelfiles.hub.fetch_file`."""
    address = _of_one_file(text)
    found = None if newest else here(text)
    return found or fetch_file(address.repository, address.revision, address.path, cancel)


def _of_one_file(text: str) -> HubAddress:
    address = HubAddress.parse(text)
    if not address.path or "*" in address.path:
        raise InputError(f"'{text}' names no single file of a data set", f"{PREFIX}ORGANISATION/NAME/FILE")
    return address


def _holds_rows(name: str) -> bool:
    last = name.rpartition("/")[2].lower()
    for packed in _PACKED:
        last = last.removesuffix(packed)
    return last.endswith(ENDINGS) and last not in _NOT_ROWS and not name.startswith(".")


def _leads_outside(name: str) -> bool:
    return name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _api() -> Any:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtra.of("hub", "huggingface_hub") from None
    return HfApi(endpoint=_endpoint())


@contextmanager
def _told(repository: str, revision: str) -> Iterator[None]:
    """What the library raises, as errors of ours."""
    _api()
    from huggingface_hub import errors

    try:
        yield
    except LocalDistillError:
        raise
    except errors.GatedRepoError:
        raise InputError(f"{repository} is gated: its owner decides who may read it",
                         "ask for access on its page of the hub; then `hf auth login`, or HF_TOKEN") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{repository} has no revision '{revision}'", "leave @REVISION out for the newest") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise InputError(f"there is no data set '{repository}' on the hub that you may read",
                         "check its name; a private one needs `hf auth login`, or HF_TOKEN") from None
    except errors.RemoteEntryNotFoundError:
        raise InputError(f"{repository} lists a file that the hub does not have", "name another revision") from None
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "no status")
        if status in (401, 403):
            raise InputError(f"the hub does not let you read {repository} ({status})",
                             "check its name; a private one needs `hf auth login`, or HF_TOKEN") from None
        raise PartialResult(f"the hub answers with {status} for {repository}", "try again later") from None
    except Exception as error:
        if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno is not None:
            raise  # the disk, which is told elsewhere
        raise PartialResult(f"the hub cannot be reached for {repository}: {type(error).__name__}",
                            "check the network (HF_ENDPOINT, HF_HUB_OFFLINE), then try again") from None
