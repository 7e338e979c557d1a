"""Answers after the pattern of public bug reports of graders, which each got a wrong verdict somewhere; the names are
those of the reports' kinds."""

from __future__ import annotations

import pytest

from localdistill.core.records import Message, Prompt, Trace
from localdistill.graders.math import MathGrader

REPORTED = {
    # name: (reference, answer, verdict)
    "tiny values are no equal ones": ("\\frac{1}{1994!}", "\\boxed{\\frac{1}{1996!}}", 0),
    "tiny powers are no equal ones": ("\\frac{1}{2^{89}}", "\\boxed{\\frac{1}{2^{88}}}", 0),
    "a huge part that is missing": (
        "\\frac{2^{1995}+1}{3 \\cdot 2^{1996}}", "\\boxed{\\frac{1}{3 \\cdot 2^{1996}}}", 0),
    "a relation for an interval": ("[\\sqrt{3}, +\\infty)", "\\boxed{k \\geq \\sqrt{3}}", 1),
    "a space for thousands": ("2000", "\\boxed{2 000}", 1),
    "a comma for the point": ("2000.75", "\\boxed{2000,75}", 1),
    "pairs in several boxes": ("(2,5), (5,2)", "The two are \\[\n\\boxed{(5, 2)}, \\boxed{(2, 5)}\n\\]", 1),
    "roots in several boxes": ("m = 4, -7", "Hence $\\boxed{-7}$ \\quad and \\quad $\\boxed{4}$.", 1),
    "a Chinese sentence": ("48", "一共有 8 箱，每箱 6 个，所以总共有 48 个苹果。", 1),
    "a French sentence": ("4.5", "La réponse est 4,5.", 1),
    "a Japanese sentence": ("48", "8箱あるので、答えは48個です。", 1),
    "a word in bold": ("\\text{No}", "The answer is **No**.", 1),
    "an option with its reason": ("C", "The correct option is (C) because A does not hold.", 1),
    "an option with its text": ("B", "**Answer: B) 24 plums**", 1),
    "many decimals of a fraction": ("\\frac{5}{12}", "\\boxed{0.4166666666666667}", 1),
    "a power of ten for an exponent": ("2.4e5", "\\boxed{2.4 \\times 10^{5}}", 1),
    "a power of ten with its unit": ("3.5e31", "\\boxed{3.5\\times 10^{31} \\text{ erg/s}}", 1),
    "a sign of multiplication": ("6e7", "The speed is about 6 × 10^7 m/s.", 1),
    "a raised digit in bold": ("y^2+3", "Final answer: **y² + 3**", 1),
    "a friendly closing sentence": ("48", "8 * 6 = 48\n#### 48\n\nI hope this helps with all 5 of your questions!", 1),
    "another value behind the colon": ("3100", "5000 stones - 1900 stones = 3100 stones\nA: 5", 0),
    "the end of an equation": (
        "5", "Two pears cost $2 * 2 = $4.\nThus, 3 kiwis cost $9 - $4 = $5 more than 2 pears.", 1),
    "a number of a kind behind the value": (
        "8", "There are 80*0.50=40 birds on the roof.\nThere are 40*0.20=8 birds that are 7 inches.", 1),
    "a factor of a root": ("5", "The answer is $5\\sqrt{3}$.", 0),
    "a factor of a root with a unit": ("7", "So the width is $7\\sqrt{2}$ cm.", 0),
    "a base of a power": ("10", "The answer is 10^4.", 0),
    "a factor of pi": ("5", "Therefore the volume is 5π.", 0),
    "a sum in brackets": ("12", "Answer \\( (7+5) \\)", 1),
    "a digit in a word": ("3", "QRXEL3D", 0),
    "a box on the way": (
        "90", "The first shelf holds $0.5 \\cdot 60 = \\boxed{30}$ books. The other two hold 60 more.\n\n"
              "Final Answer: The final answer is $90$. I hope it is correct.", 1),
}


@pytest.mark.parametrize("name", REPORTED)
def test_what_was_reported_gets_its_verdict(math_grader: MathGrader, name: str) -> None:
    reference, answer, verdict = REPORTED[name]
    prompt = Prompt((Message("user", "How many 7 inch birds are there?" if "kind" in name else "Work it out."),),
                    reference=reference)
    fact = math_grader.grade(prompt, Trace("t", prompt.id, "e", "m", "", answer))
    assert fact.value == verdict, fact.reason
