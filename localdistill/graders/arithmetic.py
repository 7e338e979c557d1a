"""Reads plain arithmetic as mathematics writes it, LaTeX signs and all; what is not plain arithmetic has no value."""

from __future__ import annotations

import re
from fractions import Fraction

from localdistill.core.arithmetic import evaluate

_TOKEN = re.compile(r"\s*(?:(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<percent>\s?%)?"
                    r"|(?P<sign>[-+*/^()]))")
_SIGNS = (("\\times", "*"), ("\\cdot", "*"), ("\\ast", "*"), ("\\div", "/"), ("×", "*"), ("·", "*"), ("∙", "*"),
          ("÷", "/"), ("−", "-"), ("²", "^2"), ("³", "^3"), ("{", "("), ("}", ")"))
_LONGEST = 200
"""Characters beyond which an expression is left alone."""


def value_of(text: str) -> Fraction | None:
    """The value of an arithmetic expression, or None."""
    for mark, plain in _SIGNS:
        text = text.replace(mark, plain)
    text = re.sub(r"(?<=[\d)])\s*[xX]\s*(?=[\d($])", "*", text)
    text = re.sub(r"[$€£¥]\s?", "", text).strip()
    if not 0 < len(text) <= _LONGEST:
        return None
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return None
        at = found.end()
        tokens.append((found["number"] or found["sign"]).replace(",", ""))
        if found["percent"]:
            tokens += ["%"]
    return evaluate(tokens, implied_products=True)
