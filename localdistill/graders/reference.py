"""What a reference says is right: a bare result, whether it came as one, in a box, behind `####` or as a whole
solution that ends with it."""

from __future__ import annotations

import re

from localdistill.graders.extraction import Extracted, result_of, stated_result
from localdistill.graders.readable import tail_of

_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
_PROSE = re.compile(r"(?:[A-Za-z]{2,}[\s,]+){4,}")


def result_in(reference: str) -> str:
    """The result, without the marks of a formula around it."""
    text = bare(tail_of(reference))
    if "\\boxed" in text or "\\fbox" in text or "####" in text:
        found: Extracted | None = stated_result(text)
        return bare(found.text) if found else text
    if len(text) > 200 and _PROSE.search(text):
        found = result_of(text)
        return bare(found.text) if found else text
    return text


def bare(text: str) -> str:
    """A formula without its delimiters, and without a full stop."""
    text = text.strip()
    for opening, closing in _DELIMITERS:
        inner = text.rstrip(". ")
        if inner.startswith(opening) and inner.endswith(closing) and len(inner) > len(opening) + len(closing):
            inside = inner[len(opening):-len(closing)]
            if opening not in inside:
                return inside.strip()
    return text
