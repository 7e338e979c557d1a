"""The reply exactly as it came holds reasoning and answer once more, as they are or as JSON writes them: it is kept
with marks in their place, which makes a store half as large. It comes back exactly, or it is kept as it is."""

from __future__ import annotations

import re
from json.encoder import encode_basestring

_MARK = "\ufdd0"
"""As in `rows.storable`, where four hex digits follow it and never a capital."""
_SHORTEST = 8
_WRITTEN_OTHERWISE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""The database and Python do not write these alike in JSON."""
_MARKED = re.compile("\ufdd0([RSAB])")
_PLAIN_AND_JSON = (("R", "S"), ("A", "B"))
"""Of reasoning, and of answer."""


def packed(raw: str, reasoning: str, answer: str) -> str:
    """`raw` with marks where it holds the others."""
    text = raw
    for part, (plain, quoted) in zip((reasoning, answer), _PLAIN_AND_JSON):
        if len(part) < _SHORTEST:
            continue
        if part in text:
            text = text.replace(part, _MARK + plain, 1)
        elif not _WRITTEN_OTHERWISE.search(part) and (inside := encode_basestring(part)[1:-1]) in text:
            text = text.replace(inside, _MARK + quoted, 1)
    return text if text is not raw and unpacked(text, reasoning, answer) == raw else raw


def unpacked(text: str, reasoning: str, answer: str) -> str:
    """What was given to `packed`."""
    if _MARK not in text:
        return text
    forms = {"R": lambda: reasoning, "S": lambda: encode_basestring(reasoning)[1:-1],
             "A": lambda: answer, "B": lambda: encode_basestring(answer)[1:-1]}
    return _MARKED.sub(lambda found: forms[found[1]](), text)


def unpacked_sql(raw: str, reasoning: str, answer: str) -> str:
    """The same of three columns."""
    sql = raw
    for column, (plain, quoted) in zip((reasoning, answer), _PLAIN_AND_JSON):
        text = f"coalesce({column}, '')"
        sql = f"replace(replace({sql}, '{_MARK}{plain}', {text}), '{_MARK}{quoted}', (to_json({text})::VARCHAR)[2:-2])"
    return sql
