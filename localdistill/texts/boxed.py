r"""What a worked solution puts into `\boxed{}`."""

from __future__ import annotations


def boxed_in(text: str) -> str | None:
    r"""What stands in the last `\boxed{}` of a worked solution; None where there is none that is closed."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place].strip() or None
    return None
