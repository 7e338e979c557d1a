"""Text as a reader sees it: without characters that show nothing, full-width signs as the usual ones, LaTeX commands
that were escaped once more as they were meant. Every grader that looks for a result reads this; nothing is decided
here."""

from __future__ import annotations

import re

TAIL_CHARS = 20_000
"""Only this much of the end of an answer is searched: results stand at the end, and hostile text stays cheap."""

_HIDDEN = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064"
                     "\u2066-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]|[\U000e0000-\U000e01ef]")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
    0x3000: " ", 0xFFE5: "\u00a5", 0xFFE1: "\u00a3", 0xFE6A: "%", 0x2044: "/"}
_STOP = re.compile("(?<!\\d)\uff0e|\uff0e(?!\\d)")
_COMMA = re.compile("(?<!\\d)\uff0c|\uff0c(?!\\d)")
_DOUBLED = re.compile(r"\\\\(?=(?:left|right|d?frac|tfrac|boxed|fbox|sqrt|text|mathrm|mathbf|times|cdot|pi|infty|cup"
                      r"|leq?|geq?|in|pm|quad|begin|end)\b)")
_TAGS = re.compile(r"</?(?:s|b|i|p|br|em|strong|think|answer|final_answer|solution|response|result|output)\s*/?>",
                   re.IGNORECASE)
_IN_ROWS = re.compile(r"\\begin|&")


def readable(text: str) -> str:
    """`text` as a reader sees it."""
    text = _COMMA.sub(", ", _STOP.sub("\u3002", _HIDDEN.sub("", text)))
    text = text.translate(_FULL_WIDTH)
    return text if _IN_ROWS.search(text) else _DOUBLED.sub(r"\\", text)


def tail_of(answer: str) -> str:
    """The end of an answer, which is searched for a result."""
    # Cut before it is read, so that a megabyte costs no more than the end; hidden characters may fill some of it.
    return _TAGS.sub(" ", readable(answer[-2 * TAIL_CHARS:]))[-TAIL_CHARS:].strip()
