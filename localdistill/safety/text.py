"""Model text is data: this file makes it safe to show on a terminal, and is the only place that does.

It must not be used on text that is stored or trained on: the store keeps what the model wrote, byte for byte.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

_C0_PICTURES = 0x2400
_DELETE_PICTURE = "\u2421"

_MOST_BITS = 4096
"""Of a number that is written in digits; Python refuses to write out longer ones."""

_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f"  # C0 without tab and newline, DELETE
    "\x80-\x9f"  # C1: one byte forms of ESC [ and ESC ]
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # invisible letters and marks
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidi embeddings, overrides and isolates
    "\u2028\u2029"  # line and paragraph separators: some terminals break the line, widths do not know it
    "\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\ud800-\udfff"  # lone surrogates cannot be encoded
    "\U000e0000-\U000e0fff"  # tags and further variation selectors: text nobody sees
    "]"
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(_C0_PICTURES + code)
    if code == 0x7F:
        return _DELETE_PICTURE
    return f"\u27e8{code:02X}\u27e9" if code < 0x100 else f"\u27e8U+{code:04X}\u27e9"


def display_safe(text: str) -> str:
    """`text` with every character that could steer a terminal, reorder or hide text replaced by a visible symbol.

    Newline and tab stay; CR LF becomes LF. C0 controls become control pictures, everything else unsafe
    its code in angle brackets. Applying it twice changes nothing more.
    """
    return _UNSAFE.sub(_visible, text.replace("\r\n", "\n"))


def json_safe(value: object, indent: int | None = None, ascii_only: bool = False) -> str:
    """`value` as JSON that any reader takes and a terminal can show: what `display_safe` replaces is escaped as
    `\\u`, and a number that is none is null. Paths and other objects become their text. ascii_only: whatever is not
    ASCII is escaped."""
    text = json.dumps(_plain(value), ensure_ascii=ascii_only, indent=indent, allow_nan=False)
    return _UNSAFE.sub(lambda match: _escaped(match[0]), text)


def _plain(value: object) -> object:
    """`value` as JSON's own kinds."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if value.bit_length() <= _MOST_BITS else hex(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key if isinstance(key, str) else str(key): _plain(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(one) for one in value]
    return str(value)


def _escaped(letter: str) -> str:
    """A character outside of ASCII in JSON's `\\u`; one above U+FFFF as two halves."""
    return json.dumps(letter)[1:-1] if letter != "\x7f" else "\\u007f"
