"""Where a worker attacks: a copy of the victim that is put right again before every case, what a sound one shows, and
which files each look at it reads."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random

from localdistill import Workspace
from tests.attack import shim
from tests.attack.judging import judged
from tests.attack.kind import Ending
from tests.attack.teacher import Account, account
from tests.attack.victim import Victim
from tests.attack.view import Look, Seen, looks_of

_Stamp = tuple[int, int, int]
_DIGEST = re.compile(r"[0-9a-f]{32}")
MOST_LOOKS = 5
"""At a damaged file that many looks read."""
ALWAYS = ("localdistill runs", "localdistill status")
"""Nothing vanishes from these without a line."""


def kind_of_file(name: str) -> str:
    """What kind of file a path in a workspace is: without digests and names of runs."""
    name = _DIGEST.sub("*", name)
    for exact, kind in ((r"^runs/[^/]+", "runs/*"), (r"-(F16|Q8_0)\.gguf", "-*.gguf"), (r"/[\w-]+\.ids", "/*.ids")):
        name = re.sub(exact, kind, name)
    return name


@dataclass
class Place:
    """A copy of one state of the victim."""

    original: Path
    root: Path
    _stamps: dict[str, _Stamp] = field(default_factory=dict)

    @cached_property
    def files(self) -> list[str]:
        """Every file of the victim that holds something."""
        return sorted(path.relative_to(self.original).as_posix() for path in self.original.rglob("*")
                      if path.is_file() and path.stat().st_size)

    @cached_property
    def by_kind(self) -> dict[str, list[str]]:
        """The files by what they are; what nobody promises anything of is left out."""
        found = defaultdict(list)
        for name in self.files:
            if not name.endswith("/log.txt"):
                found[kind_of_file(name)].append(name)
        return dict(sorted(found.items()))

    def fresh(self) -> Workspace:
        """The workspace, as the victim is."""
        there = _stamps_in(self.root) if self.root.is_dir() else {}
        wanted = {path.relative_to(self.original).as_posix(): path for path in self.original.rglob("*")}
        for name in sorted(there.keys() - wanted.keys(), reverse=True):
            _remove(self.root / name)
        for name in sorted(wanted):
            self._put_right(name, wanted[name], there.get(name))
        return Workspace(self.root)

    def to_damage(self) -> Workspace:
        """The same, once it is known what each look shows of it: to find that out undoes any damage."""
        assert self.sound
        return self.fresh()

    def _put_right(self, name: str, source: Path, now: _Stamp | None) -> None:
        target = self.root / name
        if source.is_dir():
            if target.is_symlink() or target.is_file():
                target.unlink()
            target.mkdir(parents=True, exist_ok=True)
        elif now is None or now != self._stamps.get(name):
            _remove(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            self._stamps[name] = _stamp(target.lstat())

    @cached_property
    def looks(self) -> list[Look]:
        """Every look at it."""
        return looks_of(self.fresh())

    @cached_property
    def sound(self) -> dict[str, Seen]:
        """What each look shows when nothing is wrong."""
        workspace, found = self.fresh(), {}
        for look in self.looks:
            with shim.recording(self.root) as read:
                found[look.name] = look.at(workspace)
            assert not found[look.name].crash, (look.name, found[look.name].crash)
            self._read[look.name] = {Path(path).relative_to(self.root).as_posix() for path in read}
        return found

    @cached_property
    def _read(self) -> dict[str, set[str]]:
        return {}

    def looks_at(self, name: str, chance: Random, most: int = MOST_LOOKS) -> list[Look]:
        """Looks that read this file (all, when that cannot be known), at most so many, and those at everything."""
        assert self.sound
        readers = [look for look in self.looks if not self._read[look.name] or name in self._read[look.name]]
        chosen = chance.sample(readers, min(most, len(readers)))
        return [look for look in self.looks if look in chosen or look.name in ALWAYS]

    def judge(self, what: str, looks: Iterable[Look]) -> Ending:
        """The ending of what was done to the workspace."""
        return judged(what, self.sound, looks, Workspace(self.root))


class Ground:
    """What a worker gives to every attack."""

    def __init__(self, victim: Victim, folder: Path, key: str) -> None:
        self.victim, self.folder, self.key = victim, folder, key
        self._places: dict[str, Place] = {}

    def place(self, state: str = "workspace") -> Place:
        """A copy of one state of the victim: `workspace` is the finished one."""
        if state not in self._places:
            self._places[state] = Place(self.victim.folder / state, self.folder / state)
        return self._places[state]

    def account(self) -> Account:
        """What was asked of the teacher in the name of this worker."""
        return account(self.victim.port, self.key)

    def empty(self) -> Path:
        """A folder without anything."""
        folder = self.folder / "scratch"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _stamps_in(root: Path) -> dict[str, _Stamp]:
    return {path.relative_to(root).as_posix(): _stamp(path.lstat()) for path in root.rglob("*")}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def replace_bytes(path: Path, data: bytes) -> None:
    """Put other bytes in the place of a file, as if it had not been touched: rot leaves no date."""
    before = path.stat()
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.replace(new, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def chosen_file(place: Place, chance: Random, favourites: Sequence[str] = ()) -> str:
    """One file: each kind of file is as likely as any other, `favourites` twice."""
    kinds = [*place.by_kind, *(kind for kind in favourites if kind in place.by_kind)]
    return chance.choice(place.by_kind[chance.choice(kinds)])
