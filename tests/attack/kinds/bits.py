"""A single bit of one file turns, as a disk does when nobody looks."""

from __future__ import annotations

from random import Random

from tests.attack.ground import Ground, chosen_file, replace_bytes
from tests.attack.kind import Ending, Kind

STORE = ("localdistill.duckdb",) * 3
"""More of it than of a small file."""


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    place = ground.place()
    workspace = place.to_damage()
    name = chosen_file(place, chance, STORE)
    data = bytearray((workspace.root / name).read_bytes())
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    data[at] ^= 1 << bit
    replace_bytes(workspace.root / name, bytes(data))
    return place.judge(f"bit {bit} of byte {at:,} of {name}", place.looks_at(name, chance))


KIND = Kind("bits", "one bit of one file of the workspace turns", 3600, _attack)
