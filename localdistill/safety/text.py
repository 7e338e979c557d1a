"""Model text is data: this file makes it safe to show on a terminal, and is the only place that does.

It must not be used on text that is stored or trained on: the store keeps what the model wrote, byte for byte.
"""

from __future__ import annotations

import re

_C0_PICTURES = 0x2400
_DELETE_PICTURE = "\u2421"

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
