"""Small files under a checksum of their own, so that what was changed by a disk or by hand is seen when it is read:
JSON objects, lists of ids, and lines of JSON. What versions before seals wrote has none, and is read as it is."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

KEY = "checksum"
"""The key of an object that holds its checksum; it is always the last one."""
CRC = "crc"
"""The key of a line's checksum, the last one too."""
NOT_WRITTEN = "is not what was written"
_LIST = re.compile(r"# (\d+) ids, (sha256:[0-9a-f]{64})\n")
_ID = re.compile(r"[!-~]+")
_SORTED = json.JSONEncoder(sort_keys=True, ensure_ascii=True)
_LINE = re.compile(rb', "crc": "([0-9a-f]{8})"\}\s*\Z')


def checksum_of(said: Mapping[str, Any]) -> str:
    """`sha256:<hex>` of an object, however it is laid out."""
    return sha256_of(_SORTED.encode(said).encode())


def sealed(said: Mapping[str, Any], indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The object as JSON, with its checksum."""
    plain = json.loads(json.dumps(dict(said)))  # what is read back: keys are text, tuples are lists
    return json.dumps({**plain, KEY: checksum_of(plain)}, indent=indent, ensure_ascii=ensure_ascii)


def unsealed(data: bytes | str) -> dict[str, Any]:
    """The object in `data`, without its checksum. ValueError when it is none, or not what was written."""
    said = json.loads(data)
    if not isinstance(said, dict):
        raise ValueError("holds no object")
    return without_seal(said)


def without_seal(said: dict[str, Any]) -> dict[str, Any]:
    """An object as it was before it was sealed. ValueError when it is not what was written."""
    plain = {key: value for key, value in said.items() if key != KEY}
    if KEY in said and said[KEY] != checksum_of(plain):
        raise ValueError(NOT_WRITTEN)
    return plain


def sealed_list(ids: Sequence[str]) -> str:
    """Ids, one a line, below a line that says how many they are and their checksum."""
    body = "".join(f"{one}\n" for one in ids)
    return f"# {len(ids)} ids, {sha256_of(body.encode())}\n{body}"


def seal_of_list(text: str) -> str:
    """The checksum that a list says of itself; empty when it has none."""
    head = _LIST.match(text)
    return head[2] if head else ""


def unsealed_list(text: str) -> list[str]:
    """The ids. ValueError when they are not what was written."""
    head = _LIST.match(text)
    ids = (text[head.end():] if head else text).split()
    if head is None:
        if ids != text.splitlines() or not all(map(_ID.fullmatch, ids)):
            raise ValueError(NOT_WRITTEN)
        return ids
    if (len(ids), sha256_of(text[head.end():].encode())) != (int(head[1]), head[2]):
        raise ValueError(NOT_WRITTEN)
    return ids


def sealed_line(text: str) -> bytes:
    """A JSON object that is one line, with the CRC-32 of its text as its last key, and the line's end."""
    body = text.encode("utf-8", "replace")[:-1]
    return b'%s, "crc": "%08x"}\n' % (body, zlib.crc32(body))


def is_line_whole(line: bytes) -> bool:
    """False when a line has a checksum and is not what was written."""
    found = _LINE.search(line)
    if found is None:
        return True
    return int(found[1], 16) == zlib.crc32(line[:found.start()])


def sha256_of(data: bytes) -> str:
    """`sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def why_unread(error: Exception) -> str:
    """What is wrong with a file that was refused, to stand behind its name."""
    return NOT_WRITTEN if str(error) == NOT_WRITTEN else "cannot be read"
