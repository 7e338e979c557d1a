"""Reads the options that a question lists, each with its label: `(A) ...`, `B. ...`, `Answer3: ...`, `（C）...`; and
the labels that a reference names. Pure text work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_WORDED = r"(?:answer|option|choice|solution|ending|选项|選択肢)"
_STYLES = tuple(re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in (
    r"[(]\s*(?:\\(?:mathrm|text\w*)\s*\{\s*)?(?-i:([A-Z]))\s*\}?\s*[)]\s*[.:、]?",
    r"(?:\\(?:mathrm|text\w*)\s*\{\s*|(?<![A-Za-z0-9\\(]))[(]?(?-i:([A-Z]))\s*[.。、:)]\s*\}?",
    rf"(?<![a-z]){_WORDED}\s*(\d{{1,2}})\s*[.:)]",
    r"[(]\s*(\d{1,2})\s*[)]",
))
_END = re.compile(r"\n\s*(?:\n|answer format\b|answer\s*[:])|\\end\{", re.IGNORECASE)
_WRITTEN_BREAK = re.compile(r"\\n(?=\s*[A-Z(])")
"""A line break that was escaped twice."""
_ONE = rf"(?:{_WORDED}\s*)?[(\[]?\s*(?P<label>[A-Z]|\d{{1,2}})\s*[)\]]?"
_REFERENCE = re.compile(rf"(?i:{_ONE})\s*[.。]?")


def options_of(question: str) -> Mapping[str, str]:
    """Label -> text of the options that end `question`, in order; empty where it lists none. Labels are capital letters
    or numbers, from A or 1 on without a gap."""
    question = _WRITTEN_BREAK.sub("\n", question)
    found = [_longest_run(style, question) for style in _STYLES]
    return max(found, key=len, default={})


def _longest_run(style: re.Pattern[str], question: str) -> dict[str, str]:
    """Of runs that are equally long, the last."""
    marks, best = list(style.finditer(question)), list[re.Match[str]]()
    for begin, mark in enumerate(marks):
        if mark[1] not in ("A", "1"):
            continue
        run = [mark]
        for later in marks[begin + 1:]:
            if later[1] == _next(run[-1][1]):
                run.append(later)
        best = run if len(run) >= max(2, len(best)) else best
    ends = [*(mark.start() for mark in best[1:]), len(question)]
    return {mark[1]: _cleaned(question[mark.end():end]) for mark, end in zip(best, ends)}


def _next(label: str) -> str:
    return str(int(label) + 1) if label.isdigit() else chr(ord(label) + 1)


def _cleaned(text: str) -> str:
    return _END.split(text, maxsplit=1)[0].strip().rstrip("\\").strip()


def labels_in(reference: str, options: Mapping[str, str]) -> Sequence[str]:
    """The labels that a reference names, in order, one or several (`B`, `(C)`, `answer3`, `A, C`, `ACD`), or the one
    whose text it is; empty where it names none."""
    plain = re.sub(r"\\(?:text\w*|mathrm|mathbf|boxed)\s*\{([^{}]*)\}|[$*]", r"\1", reference).strip()
    whole = _REFERENCE.fullmatch(plain)
    if whole:
        label = whole["label"].upper()
        is_bare_number = label.isdigit() and plain == label
        if label in options or not (options or is_bare_number):
            return (label,)
    parts = [part for part in re.split(r"\s*(?:[,、;&/]|\band\b|(?<=[)])(?=[(]))\s*", plain) if part]
    each = [_REFERENCE.fullmatch(part) for part in parts]
    if len(parts) > 1 and all(each):
        several = [match["label"].upper() for match in each if match]
        is_known = set(several) <= set(options) if options else not any(label.isdigit() for label in several)
        return several if is_known else ()
    if re.fullmatch(r"[A-Z]{2,}", plain) and list(plain) == sorted(set(plain)) and set(plain) <= set(options):
        return list(plain)
    same = [label for label, text in options.items() if text and text.casefold() == plain.casefold()]
    return same if len(same) == 1 else ()
