"""Model folders and adapters from strangers: every number, list, text and file of them set to what cannot be, and sound
ones with bytes changed."""

from __future__ import annotations

from functools import cache
from random import Random

from tests.attack.ground import Ground
from tests.attack.judging import of_error, worst
from tests.attack.kind import Ending, Kind
from tests.strangers import students


@cache
def _hostile() -> list[tuple[str, str, students.Change]]:
    """Group, what is wrong, and how to make it so, in an order in which every part is like the whole."""
    found = [(group, *one) for group in students.GROUPS for one in students.changes(group, large=False)]
    Random("folders").shuffle(found)
    return found


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    if number < len(_hostile()):
        group, what, change = _hostile()[number]
        folder = students.changed(ground.folder / "folders", group, change)
        what = f"{group}: {what}"
    else:
        folder = students.changed(ground.folder / "folders", "configs", lambda folder: None)
        path = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        data = bytearray(path.read_bytes())
        head = min(len(data), 4096)  # where a safetensors file says what it holds
        places = [chance.randrange(head) for _ in range(chance.randint(1, 4))]
        for at in places:
            data[at] = chance.choice((0x20, 0x30, 0x39, 0x7D, 0xFF, chance.randrange(256)))
        path.write_bytes(data)
        what = f"{path.relative_to(folder)}: bytes {places} changed"
    try:
        students.used(folder)
    except Exception as error:
        return worst(what, [of_error("the folder", error)])
    return Ending("same", what)


KIND = Kind("folders", "model folders that claim what cannot be, or with bytes changed", 3000, _attack,
            needs_workspace=False)
