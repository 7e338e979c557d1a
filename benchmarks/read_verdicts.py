"""The published verdicts on mathematics that ours are not, each reply read by a person: who is right, and why."""

from __future__ import annotations

_POWER = "the answer is right: a power of ten where the reference is written with an exponent (3e8), which both miss"
_BEGUN = "cut off as the solution begins: the result stands in the reasoning alone, which is no answer"

READ: dict[str, str] = {
    "gemma2_27b__olympiadbench 132": "the answer is right: k < -5 is the interval of the reference, which both miss",
    **{f"qwen25_14b__minerva_math {number}": _POWER
       for number in (10, 13, 43, 129, 136, 175, 178, 179, 194, 197, 218, 232, 236, 265)},
    "skyt1_27b__math500 218": "the answer is right: the pair in the last sentence; the published one took -16 of it",
    "skyt1_27b__math500 227": "the answer is right: option (C) in the last sentence but one; the published one took 2",
    "skyt1_27b__math500 376": "the answer is right: the pair in the last sentence; the published one took -2 of it",
    "skyt1_27b__math500 25": _BEGUN,
    "skyt1_27b__math500 428": _BEGUN,
    "skyt1_27b__math500 88": "cut off in doubt, at `Wait, but earlier I thought`: it states no result",
    "skyt1_27b__math500 195": "cut off in doubt, in the middle of a sum: it states no result",
}
OURS = tuple(name for name, why in READ.items() if why.startswith("cut off"))
"""Where a rule of ours decides, and not an error of theirs."""
