"""The write-ahead log of a store that was not closed, as after a power cut, is damaged: what it held is there, or is
missed aloud."""

from __future__ import annotations

from random import Random

from tests.attack.ground import Ground, replace_bytes
from tests.attack.kind import Ending, Kind
from tests.attack.kinds.cuts import cut, emptied, gone, zeroed

LOG = "localdistill.duckdb.wal"


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    place = ground.place("unclosed")
    path = place.to_damage().root / LOG
    if chance.random() < 0.5:
        data = bytearray(path.read_bytes())
        at, bit = chance.randrange(len(data)), chance.randrange(8)
        data[at] ^= 1 << bit
        replace_bytes(path, bytes(data))
        told = f"bit {bit} of byte {at:,} turns"
    else:
        told = chance.choice((cut, cut, zeroed, emptied, gone))(path, place, chance)
    return place.judge(f"{LOG}: {told}", place.looks_at("localdistill.duckdb", chance))


KIND = Kind("log", "the write-ahead log of a store that was not closed is damaged", 500, _attack)
