"""A record as one line with a checksum of its own, in the files that only grow: journals, ledgers and what lies beside
them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

as_json = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode
"""A value as lines hold it."""


def encode(record: Mapping[str, Any]) -> bytes:
    """One line: the CRC-32 of the JSON in hex, a space, the JSON. Lone surrogates survive as escapes."""
    return line_of(as_json(dict(record)).encode("ascii"))


def line_of(body: bytes) -> bytes:
    """The line of a record's JSON."""
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(line: bytes) -> dict[str, Any] | None:
    """The record of one line without its newline, or None when the line is damaged."""
    check, _, body = line.partition(b" ")
    try:
        if int(check, 16) != zlib.crc32(body):
            return None
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
