"""Formulas in a passage, made ready for math-verify: signs of Unicode as LaTeX, marks of emphasis gone, and a passage
that is nothing but a formula said to be one."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIGNS = (("−", "-"), ("–", "-"), ("×", r"\times "), ("·", r"\cdot "), ("∙", r"\cdot "), ("÷", r"\div "),
          ("π", r"\pi "), ("√", r"\sqrt "), ("∞", r"\infty "), ("≤", r"\le "), ("≥", r"\ge "), ("≠", r"\ne "),
          ("≈", r"\approx "), ("∪", r"\cup "), ("∩", r"\cap "), ("∈", r"\in "), ("±", r"\pm "), ("θ", r"\theta "),
          ("α", r"\alpha "), ("β", r"\beta "), ("λ", r"\lambda "), ("∅", r"\emptyset "), ("°", r"^\circ "))
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_ROOT = re.compile(r"√\s*\(([^()]*)\)|√\s*(\d+(?:\.\d+)?|[A-Za-z])|(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)")
_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed")
_PROSE = re.compile(r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|min|max|mod|lim|pi|and|or|cm|mm|km"
                    r"|kg|deg)(?![A-Za-z]))[A-Za-z]{2,}(?![A-Za-z])")
_UNIT_POWER = re.compile(r"\\(?:text\w*|mathrm|mbox)\s*\{[^{}]*\}\s*\^\s*\{?\s*(-?\d)")
_NAMED = re.compile(r"\\(?:text\w*|mathrm|mathbf|mbox|begin|end|operatorname|left|right)\s*\{[^{}]*\}")


def as_latex(text: str) -> str:
    """`text` without emphasis, its signs as LaTeX writes them."""
    text = re.sub(r"\*\*|(?<!\w)__+|__+(?!\w)", "", text)
    text = _ROOT.sub(lambda match: rf"\sqrt{{{next(filter(None, match.groups()), '')}}}", text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+", lambda match: f"^{{{match[0].translate(_RAISED)}}}", text)
    text = re.sub("[₀-₉]+", lambda match: f"_{{{match[0].translate(_LOWERED)}}}", text)
    for sign, command in _SIGNS:
        text = text.replace(sign, command)
    return text.strip().rstrip(".。,;").strip()


def boxed(text: str) -> str:
    """A formula that is surely read as one."""
    return f"\\boxed{{{text}}}"


def is_bare(text: str) -> bool:
    """Whether a text is one formula without delimiters or words around it."""
    return not _DELIMITED.search(text) and not _PROSE.search(_NAMED.sub("", text)) and bool(
        re.search(r"[\d\\^+*/=()\[\]{}|<>-]|^[A-Za-z]$", text))


def squeezed(text: str) -> str:
    """A formula as text, without spaces, delimiters and sizes of brackets."""
    text = re.sub(r"\\(?:left|right|displaystyle|quad|[,! ;:])|[\s$]|\\[()\[\]]", "", as_latex(text))
    return re.sub(r"\\[dtc]frac", r"\\frac", text)


def of_other_power(reference: str, passage: str) -> bool:
    """True where both name a unit with a power (`\\text{ cm}^2`) and the powers differ."""
    wanted, stated = (_UNIT_POWER.findall(text) for text in (reference, as_latex(passage)))
    return len(wanted) == 1 == len(stated) and wanted != stated


def same_base(reference: str, passage: str) -> Sequence[str] | None:
    """Digits and base of a reference such as `4343_6` and those that a passage states last: (4343, 6, digits, base),
    the base empty where it goes unsaid. None where the reference is no such number or the passage states none."""
    wanted = re.fullmatch(r"\s*(-?\w+)_\{?(\d+)\}?\s*", reference)
    stated = re.findall(r"(?<![\w.])(-?[0-9A-F]+)(?:\s*_\s*\{?\s*(\d+)\s*\}?)?(?![\w.]*\d)", passage) if wanted else []
    return (wanted[1], wanted[2], *stated[-1]) if wanted and stated else None
