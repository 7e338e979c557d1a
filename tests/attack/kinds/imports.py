"""Files of rows from strangers: hostile ones, and sound ones with bytes changed. What is read is rows, or an error that
names the file."""

from __future__ import annotations

import gzip
import json
from functools import cache
from random import Random

from localdistill.interchange.raw_rows import rows_of
from tests.attack.ground import Ground
from tests.attack.judging import of_error, worst
from tests.attack.kind import Ending, Kind
from tests.strangers import parquet_files, rows

_LINES = b"".join(json.dumps({**rows.ROW, "n": n}).encode() + b"\n" for n in range(20))
SOUND = (("a.jsonl", _LINES), ("a.json", b"[" + b",".join(_LINES.splitlines()) + b"]"), ("a.csv", b"q,a\n1,2\n3,4\n"),
         ("a.jsonl.gz", gzip.compress(_LINES, mtime=0)))


@cache
def _hostile() -> list[tuple[str, rows.Write]]:
    return [*rows.small(), *parquet_files.small()]


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    folder = ground.empty()
    if number < len(_hostile()):
        what, write = _hostile()[number]
        path = write(folder)
    else:
        name, data = chance.choice((*SOUND, *(("a.parquet", one) for one in parquet_files.sound(5))))
        data = parquet_files.changed(data, chance) if name == "a.parquet" else _scrambled(data, chance)
        path, what = folder / name, f"{name} with bytes changed"
        path.write_bytes(data)
    try:
        found = sum(1 for _ in rows_of(path))
    except Exception as error:
        return worst(what, [of_error("reading", error)])
    return Ending("same", what, f"{found} rows")


def _scrambled(data: bytes, chance: Random) -> bytes:
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found))
        end = at + chance.randint(1, 30)
        match chance.randrange(3):
            case 0:
                found[at] ^= 1 << chance.randrange(8)
            case 1 if end < len(found):
                del found[at:end]
            case _:
                found[at:at] = found[at:end] * chance.randint(1, 3)
    return bytes(found)


KIND = Kind("imports", "files of rows from strangers, hostile or with bytes changed", 1800, _attack,
            needs_workspace=False)
