"""JSON that a stranger wrote, within bounds that are looked at before anything is built of it: three bytes of text can
become seventy of memory. Knows nothing of what the values mean."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import ModelFileError

MOST_DEPTH = 64
"""How deep values may lie in each other; what is written by hand or by a tool lies at most some ten deep."""
_SEPARATORS = (b",", b":", b"[", b"{")


@dataclass(frozen=True)
class Bounds:
    """What one kind of file may hold at most."""

    size_bytes: int
    values: int
    """Values and keys; counted by their separators, those inside texts included."""


SMALL = Bounds(4 << 20, 200_000)
"""Settings: of real ones the largest hold some ten thousand values."""
TENSORS = Bounds(16 << 20, 1_000_000)
"""Headers and indexes of weights: 65,536 tensors at most, with some 13 values each."""
TOKENIZER = Bounds(48 << 20, 4_000_000)
"""A tokenizer: of real ones the largest hold 260,000 tokens and 510,000 merges in 33 MB."""


def values_at_most(data: bytes) -> int:
    """No fewer values than JSON of these bytes can hold."""
    return 1 + sum(map(data.count, _SEPARATORS))


def is_within(value: object, depth: int = MOST_DEPTH) -> bool:
    """Whether no value lies more than `depth` deep in `value`, found out without recursion."""
    level: list[object] = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level if isinstance(outer, (dict, list))
                 for inner in (outer.values() if isinstance(outer, dict) else outer)
                 if isinstance(inner, (dict, list))]
        if not level:
            return True
    return False


def read_table(path: Path, bounds: Bounds = SMALL, unique: bool = False) -> dict[str, Any]:
    """The JSON object in the file at `path`, which belongs to a model. unique: refuse an object that holds a key twice,
    of which readers take different ones.

    Raises ModelFileError that names the file and what is wrong, FileNotFoundError where there is none.
    """
    return table_of(read_bytes(path, bounds.size_bytes), str(path), bounds, unique)


def read_bytes(path: Path, most: int) -> bytes:
    """All of the file at `path`, at most `most` bytes. Raises like `read_table`."""
    try:
        if path.exists() and not path.is_file():
            raise ModelFileError(f"{path} is not a file", "get the model again")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"{path} cannot be read: {reason}", "check the file") from None
    if len(data) > most:
        raise ModelFileError(f"{path} is larger than {most:,} bytes, which no file of its kind is",
                             "get the model again, from who made it")
    return data


def table_of(data: bytes, what: str, bounds: Bounds = SMALL, unique: bool = False) -> dict[str, Any]:
    """The JSON object that is all of `data`; see `read_table`. what: how messages call it."""
    if (count := values_at_most(data)) > bounds.values:
        raise ModelFileError(f"{what} holds some {count:,} values; files of its kind hold at most {bounds.values:,}",
                             "get the model again, from who made it")
    try:
        text = data.decode("utf-8")
        del data
        value = json.loads(text, object_pairs_hook=_unique if unique else None)
    except _Twice as twice:
        raise ModelFileError(f"{what} holds the key '{str(twice)[:80]}' twice", "do not use this model unless you know "
                             "who made it") from None
    except UnicodeDecodeError:
        raise ModelFileError(f"{what} is not UTF-8 text", "get the model again") from None
    except RecursionError:
        raise ModelFileError(f"{what} is nested too deeply", "get the model again") from None
    except ValueError as error:
        raise ModelFileError(f"{what} is not valid JSON ({str(error)[:200]})", "get the model again") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{what} does not hold a JSON object", "get the model again")
    if not is_within(value):
        raise ModelFileError(f"{what} is nested more than {MOST_DEPTH} deep", "get the model again")
    return value


class _Twice(Exception):
    """A key that an object holds twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _Twice(next(name for name, count in counts.items() if count > 1))
    return found
