"""Headers of model files from strangers that claim what cannot be, and sound ones with bytes changed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

from localdistill.engines.llama_cpp_native.sizing import context_of, kv_budget_tokens, sizes_of
from localdistill.modelfiles.gguf_header import read_header
from localdistill.modelfiles.vocabulary import gguf_vocabulary_id
from tests.attack.ground import Ground
from tests.attack.judging import of_error, worst
from tests.attack.kind import Ending, Kind
from tests.strangers import gguf

SMALL = ("counts", "lengths", "types", "claims", "tensors")


@cache
def _hostile() -> list[tuple[str, bytes]]:
    return [one for group in SMALL for one in gguf.GROUPS[group]()]


@cache
def _sound() -> bytes:
    return gguf.sound().packed()


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    path = ground.empty() / "m.gguf"
    if number < len(_hostile()):
        what, data = _hostile()[number]
    else:
        changed = bytearray(_sound())
        places = [chance.randrange(len(changed)) for _ in range(chance.randint(1, 4))]
        for at in places:
            changed[at] = chance.choice((0, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        what, data = f"bytes {places} changed", bytes(changed)
    path.write_bytes(data)
    try:
        _use(path)
    except Exception as error:
        return worst(what, [of_error("the header", error)])
    return Ending("same", what)


def _use(path: Path) -> None:
    """All that this process makes of a header."""
    header = read_header(path, max_array=1024)
    sizes = sizes_of(header, "f16")
    context_of(0, sizes)
    kv_budget_tokens(sizes, {"device": "cpu"}, 8 << 30, header.size_bytes)
    gguf_vocabulary_id(path)


KIND = Kind("models", "headers of model files that claim what cannot be", 900, _attack,
            needs_workspace=False)
