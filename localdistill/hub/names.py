"""What names of the hub mean: models as `hf://organisation/name[@revision]`, data sets below `hf://datasets/`."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

from localdistill.core.errors import InputError, ModelFileError

SCHEME = "hf://"
DATASETS = f"{SCHEME}datasets/"
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_NAME = re.compile(rf"{SCHEME}({_PART}/{_PART})(?:@([\w][\w./-]{{0,199}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DATASET_FORM = (f"{DATASETS}organisation/name, with @revision behind it, and /FILE or /FOLDER, where you want less "
                 "than all")


def in_hub(source: str) -> bool:
    """Whether `source` names a model of the hub."""
    return source.startswith(SCHEME) and not source.startswith(DATASETS)


def is_hub_address(text: str) -> bool:
    """Whether this is meant to be a data set of the hub."""
    return text.startswith("hf:")


def is_commit(revision: str) -> bool:
    """Whether a revision can never mean anything else."""
    return _COMMIT.fullmatch(revision) is not None


@dataclass(frozen=True)
class HubName:
    """A model of the hub."""

    repository: str
    revision: str = ""
    """A commit, branch or tag; empty is the newest."""

    @classmethod
    def of(cls, source: str) -> HubName:
        """ModelFileError when `source` is no such name."""
        found = _NAME.fullmatch(source)
        if found is None or ".." in source:
            raise ModelFileError(f"'{source[:200]}' is not of the form {SCHEME}organisation/name[@revision]")
        return cls(found[1], found[2] or "")

    @property
    def is_pinned(self) -> bool:
        """The revision can never mean anything else."""
        return is_commit(self.revision)

    def at(self, commit: str) -> str:
        """The name of this very commit."""
        return f"{SCHEME}{self.repository}@{commit}"


@dataclass(frozen=True)
class HubAddress:
    """A data set of the hub, or a part of it, as somebody wrote it."""

    repository: str
    revision: str = ""
    """A branch, tag or commit; empty is the newest."""
    path: str = ""
    """A file, a folder, or a pattern with `*`; empty is everything."""

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """InputError for another form."""
        parts = text.removeprefix(DATASETS).strip("/").split("/")
        if not text.startswith(DATASETS) or len(parts) < 2 or ".." in parts or not all(parts):
            raise InputError(f"'{text}' names no data set of the hub", _DATASET_FORM)
        name, _, revision = parts[1].partition("@")
        return cls(f"{parts[0]}/{name}", revision, "/".join(parts[2:]))

    def names(self, file: str) -> bool:
        """Whether this file is meant."""
        path = self.path
        return not path or file == path or file.startswith(f"{path}/") or fnmatch.fnmatchcase(file, path)
