"""A file is cut off, emptied, gone, overgrown or something else: what is left when a copy broke off, a disk lost its
newest blocks, or somebody tidied up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.attack.ground import Ground, Place, chosen_file, kind_of_file, replace_bytes
from tests.attack.kind import Ending, Kind


def cut(path: Path, place: Place, chance: Random) -> str:
    """A copy broke off."""
    data = path.read_bytes()
    at = chance.randrange(len(data))
    replace_bytes(path, data[:at])
    return f"cut at byte {at:,}"


def _cut_behind_a_line(path: Path, place: Place, chance: Random) -> str:
    """The newest lines are gone, and those that are left are whole."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = chance.randrange(len(lines))
    replace_bytes(path, b"".join(lines[:kept]))
    return f"cut behind line {kept} of {len(lines)}"


def zeroed(path: Path, place: Place, chance: Random) -> str:
    """Blocks that were never written read as zeros."""
    data = path.read_bytes()
    at = chance.randrange(len(data)) // 512 * 512
    size = min(len(data) - at, 512 * chance.randint(1, 8))
    replace_bytes(path, data[:at] + bytes(size) + data[at + size :])
    return f"{size} bytes at {at:,} are zeros"


def _overgrown(path: Path, place: Place, chance: Random) -> str:
    replace_bytes(path, path.read_bytes() + chance.randbytes(chance.randint(1, 2000)))
    return "something else follows"


def _strange(path: Path, place: Place, chance: Random) -> str:
    replace_bytes(path, chance.randbytes(max(1, min(path.stat().st_size, 4096))))
    return "holds something else"


def emptied(path: Path, place: Place, chance: Random) -> str:
    """Only the name was kept."""
    replace_bytes(path, b"")
    return "is empty"


def gone(path: Path, place: Place, chance: Random) -> str:
    """Somebody tidied up."""
    path.unlink()
    return "is gone"


def _folder(path: Path, place: Place, chance: Random) -> str:
    path.unlink()
    path.mkdir()
    return "is a folder"


def _link(path: Path, place: Place, chance: Random) -> str:
    path.unlink()
    path.symlink_to("/nowhere/at/all")
    return "is a link to nothing"


def _exchanged(path: Path, place: Place, chance: Random) -> str:
    """The bytes of another file of its kind, where there is one; else of any."""
    own = path.relative_to(place.root).as_posix()
    alike = [name for name in place.by_kind[kind_of_file(own)] if name != own]
    other = chance.choice(alike or [name for name in place.files if name != own])
    replace_bytes(path, (place.root / other).read_bytes())
    return f"holds what {other} holds"


def _lines_swapped(path: Path, place: Place, chance: Random) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    if len(lines) < 2:
        return emptied(path, place, chance)
    first = chance.randrange(len(lines) - 1)
    lines[first : first + 1] = []
    replace_bytes(path, b"".join(lines))
    return f"line {first + 1} is gone"


WAYS: tuple[Callable[[Path, Place, Random], str], ...] = (
    cut, cut, _cut_behind_a_line, _cut_behind_a_line, zeroed, zeroed, _overgrown, _strange, emptied, gone, _folder,
    _link, _exchanged, _lines_swapped)


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    place = ground.place()
    workspace = place.to_damage()
    name = chosen_file(place, chance)
    told = chance.choice(WAYS)(workspace.root / name, place, chance)
    assert os.path.lexists(workspace.root)
    return place.judge(f"{name} {told}", place.looks_at(name, chance))


KIND = Kind("cuts", "one file of the workspace is cut, emptied, gone, overgrown or another", 2400, _attack)
