"""Quotes texts of strangers in a question to a model, so that what they say is material and cannot pass for the
question: each stands between lines with a word that nobody could know before, and what a chat template would take for a
mark of its own is broken up."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping

MOST_CHARS = 20_000
"""Of one text; of a longer one the middle is left out, and that is said in its place."""
_MARKS = re.compile(r"<(?=[|/!A-Za-z_\uff5c\u2581])|\[(?=/?(?:INST|SYS|AVAILABLE|TOOL)\w*\])")
"""How marks of chat templates and thinking begin."""
_UNSEEN = ("Cc", "Cf", "Cs", "Co")
"""Categories of characters that nobody sees."""


def quoted(texts: Mapping[str, str]) -> str:
    """The texts, by name, one after another between lines that hold a digest of them all: a text cannot hold its own.
    The same texts give the same quotation, so that what was asked is known again."""
    shown = {name: _shown(text) for name, text in texts.items()}
    digest = hashlib.blake2b("\0".join(shown.values()).encode("utf-8"), digest_size=6).hexdigest()
    return "\n\n".join(f"----- {name} {digest} begins -----\n{text}\n----- {name} {digest} ends -----"
                       for name, text in shown.items())


def _shown(text: str) -> str:
    """What is shown of a text: no marks, no characters that nobody sees, not too much."""
    if len(text) > MOST_CHARS:
        half = MOST_CHARS // 2
        text = f"{text[:half]}\n[{len(text) - 2 * half:,} characters are left out here]\n{text[-half:]}"
    seen = "".join(char for char in text if char in "\n\t" or unicodedata.category(char) not in _UNSEEN)
    return _MARKS.sub(lambda found: f"{found[0]} ", seen)
