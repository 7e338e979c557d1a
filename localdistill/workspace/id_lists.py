"""The lists of ids that the stages of a run leave, each below its checksum. What a stage leaves besides holds the
checksums once more: so a list that is gone, or that is another one, is missed too."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from localdistill.core.errors import LocalDistillError
from localdistill.core.seals import NOT_WRITTEN, seal_of_list, sealed_list, unsealed, unsealed_list, why_unread
from localdistill.safety.files import Stamp, atomic_write_text, stamp_of

_LISTS = "lists"
_ENDING = ".ids"


class IdLists:
    """The lists of one run."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder, self._run_id = folder, run_id
        self._written: dict[str, str] = {}
        """By the stage of this process, with their checksums; empty for what was forgotten."""

    def handed_over(self) -> Mapping[str, Mapping[str, str]]:
        """What was written since this was asked last, for what the stage leaves."""
        written, self._written = {name: seal for name, seal in self._written.items() if seal}, {}
        return {_LISTS: written} if written else {}

    def write(self, name: str, ids: Sequence[str]) -> None:
        """Keep a list, whole or not at all."""
        text = sealed_list(ids)
        self._written[name] = seal_of_list(text)
        atomic_write_text(self._path(name), text)

    def forget(self, name: str) -> None:
        """Let it be as if the run had not come to this list, so that it is made again."""
        self._written[name] = ""
        self._path(name).unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """True when there is a list of this name, or was one."""
        return self._path(name).exists() or bool(self._listed(name)[0])

    def read(self, name: str) -> list[str]:
        """The ids; none where there never was such a list. LocalDistillError when it is gone or not what was
        written."""
        listed, listed_ns = self._listed(name)
        try:
            text, changed_ns = self._path(name).read_text(), self._path(name).stat().st_mtime_ns
            ids, seal = unsealed_list(text), seal_of_list(text)
        except FileNotFoundError:
            if not listed:
                return []
            why = "is missing"
        except (OSError, ValueError) as error:
            why = why_unread(error)
        else:
            # A newer list is that of a stage which was killed before it left anything else.
            if not listed or listed == seal or (seal and changed_ns > listed_ns):
                return ids
            why = NOT_WRITTEN
        raise LocalDistillError(f"stages/{name}{_ENDING} of run {self._run_id} is damaged: it {why}",
                                f"localdistill resume {self._run_id} makes it again")

    def stamp(self, name: str) -> Stamp | None:
        """By what it is told whether the list is still the one that it was."""
        return stamp_of(self._path(name))

    def names(self) -> list[str]:
        """Every list that there is or was."""
        there = {path.name.removesuffix(_ENDING) for path in self._folder.glob(f"*{_ENDING}")}
        return sorted(there.union(*(lists for lists, _ in self._left())))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_ENDING}"

    def _listed(self, name: str) -> tuple[str, int]:
        """The checksum that a list has by what its stage left, and when that was written, in ns; empty, and 0, where
        nothing says so."""
        if name in self._written:
            return self._written[name], 0
        return max(((lists[name], wrote_ns) for lists, wrote_ns in self._left() if name in lists),
                   key=lambda found: found[1], default=("", 0))

    def _left(self) -> list[tuple[dict[str, str], int]]:
        """The lists that every stage names, and when."""
        found = []
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                lists, wrote_ns = unsealed(path.read_bytes()).get(_LISTS), path.stat().st_mtime_ns
                if isinstance(lists, dict):
                    found.append(({str(name): str(seal) for name, seal in lists.items()}, wrote_ns))
        return found
