"""Right answers in other writing, and wrong ones made of right ones by rule: neighbouring numbers, swapped operands,
units and multiples, parts of expressions, hedges. Nothing here asks a grader or a computer algebra system."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

SEED = 16
PLACES = (
    "We add them up.\n\n\\[\\boxed{FORM}\\]", "We add them up. The answer is $FORM$.",
    "We add them up.\n\n**Final answer:** $FORM$", "We add them up. Hence the result is $FORM$.",
    "We add them up.\n#### FORM", "So the answer is FORM.", "FORM",
    "Step 1 gives $7$.\n\nTherefore it is $\\boxed{FORM}$.",
    "We add them up.\n\nA: FORM", "$$\\boxed{FORM}.$$ That is what was asked for.",
)
CHOICE_FORMS = (
    "LETTER", "(LETTER)", "LETTER.", "LETTER) TEXT", "LETTER. TEXT", "The answer is LETTER.", "The answer is (LETTER).",
    "The correct answer is LETTER. TEXT", "Answer: LETTER", "**Answer: LETTER**", "**Answer:** (LETTER) TEXT",
    "\\boxed{LETTER}", "\\boxed{\\text{(LETTER)}}", "Let me think about it.\n\nThe correct option is **LETTER**.",
    "So the answer is (LETTER).", "Final answer: LETTER", "I would choose option LETTER.", "The best choice is LETTER.",
    "We look at each of them in turn.\n\n**LETTER**", "TEXT", "The answer is TEXT.",
    "答案是LETTER。", "故选 LETTER。",
    "因此，正确答案为 LETTER。", "正解はLETTERです。", "Option LETTER is correct.",
    "The correct choice is: (LETTER) TEXT",
    "Therefore, (LETTER) is the right one.", "Hence the answer would be LETTER, TEXT.",
    "Looking at it, LETTER is the correct answer.",
)

HOSTILE = (
    "\\boxed{9^{9^{9^{9^{9}}}} + x}", "x" * 1_000_000, "\\boxed{" + "\\frac{1}{" * 400 + "}" * 401,
    "\\boxed{" + "(" * 5_000 + "}", "\\boxed{(x+1)^{10^{10^{10}}}}", "\\boxed{" + "9" * 15_000 + "}",
    "\\boxed{\\int_0^{\\infty} e^{-x^{x^x}} \\sin(x^{x}) dx}", "1" + "+1" * 9_000, "\\boxed{(10^{9})!!!}",
    "\\boxed{\\sum_{k=1}^{10^{12}} \\frac{\\sin k}{k!}}", "\u200b" * 50_000 + "\\boxed{x}",
    "{" * 9_000 + "x" + "}" * 9_000,
    "\\boxed{\\sqrt{" + "\\sqrt{x+" * 60 + "1" + "}" * 62, "The answer is $x" + "^{x" * 300 + "}" * 300 + "$",
)
"""A megabyte, towers of powers, brackets that never close, integrals without an end, characters that show nothing."""


@dataclass(frozen=True)
class Made:
    """An answer with the reference that it is measured by."""

    kind: str
    question: str
    reference: str
    answer: str


def references_of(data: Path) -> list[tuple[str, str]]:
    """Questions with their reference: MATH-500, OlympiadBench where there is one answer, GSM8K's test questions."""
    found = []
    for line in (data / "math500/test.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found.append((row["problem"], row["answer"]))
    for line in (data / "math/olympiadbench.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if len(row["final_answer"]) == 1 and not row["is_multiple_answer"] and not row["error"]:
            found.append((row["question"], row["final_answer"][0].strip().strip("$")))
    for line in (data / "gsm8k/test.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found.append((row["question"], row["answer"].rpartition("####")[2].strip()))
    return found


def right_answers(references: Sequence[tuple[str, str]], count: int) -> Iterator[Made]:
    """`count` answers that are right."""
    return _made(references, count, _right_forms)


def wrong_answers(references: Sequence[tuple[str, str]], count: int) -> Iterator[Made]:
    """`count` answers that are wrong."""
    return _made(references, count, _wrong_forms)


def _made(references: Sequence[tuple[str, str]], count: int,
          forms: Callable[[str, str, random.Random], list[tuple[str, str]]]) -> Iterator[Made]:
    chance = random.Random(SEED)
    made = 0
    while made < count:
        question, reference = chance.choice(references)
        offered = [(kind, form) for kind, form in forms(reference, question, chance)
                   if _squeezed(form) != _squeezed(reference) or forms is _right_forms]
        if not offered:
            continue
        kind, form = chance.choice(offered)
        place = chance.choice(PLACES)
        if "$" in form:
            place = place.replace("$FORM$", "FORM")
        yield Made(kind, question, reference, place.replace("FORM", form))
        made += 1


def _squeezed(text: str) -> str:
    return re.sub(r"\\left|\\right|\\[,! ;]|[\s{}$]", "", re.sub(r"\\[dt]frac", r"\\frac", text))


def _fraction(reference: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", reference)
    return (int(found[1]), int(found[2])) if found else None


def _right_forms(reference: str, question: str, chance: random.Random) -> list[tuple[str, str]]:
    found = [("as it is", reference),
             ("spaced", re.sub(r"(?<=[\w)}])([+=])(?=[\w\\({])", r" \1 ", reference))]
    if re.fullmatch(r"-?\d+", reference):
        value = int(reference)
        found += [("decimal", f"{value}.0"), ("decimals", f"{value}.00"), ("named", f"x = {value}"),
                  ("fraction", f"\\frac{{{2 * value}}}{{2}}"), ("sum", f"{value - 3} + 3 = {value}"),
                  ("unit", f"{value} \\text{{ cm}}"), ("text", f"\\text{{{value}}}"),
                  ("power", f"{value} \\times 10^0"),
                  ("bold", f"\\mathbf{{{value}}}")]
        if abs(value) >= 1000:
            found += [("thousands", f"{value:,}"), ("thin spaces", f"{value:,}".replace(",", "\\,")),
                      ("braces", f"{value:,}".replace(",", "{,}"))]
    part = _fraction(reference)
    if part:
        top, below = part
        found += [("slash", f"{top}/{below}"), ("dfrac", f"\\dfrac{{{top}}}{{{below}}}"),
                  ("extended", f"\\frac{{{3 * top}}}{{{3 * below}}}"), ("named", f"P = \\frac{{{top}}}{{{below}}}")]
        if top > below and top % below:
            found.append(("mixed", f"{top // below}\\frac{{{top % below}}}{{{below}}}"))
        decimal = _decimal(Fraction(top, below))
        if decimal:
            found.append(("decimal", decimal))
    if "\\frac" in reference:
        found.append(("dfrac", reference.replace("\\frac", "\\dfrac")))
    if reference.startswith("(") and reference.endswith(")"):
        found.append(("left", f"\\left({reference[1:-1]}\\right)"))
    return found


def _decimal(value: Fraction) -> str:
    """Its decimals where they end."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return f"{float(value):.10f}".rstrip("0") if below == 1 and value.denominator <= 1024 else ""


def _wrong_forms(reference: str, question: str, chance: random.Random) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    plain = reference.replace(",", "").replace("\\!", "")
    if re.fullmatch(r"-?\d+", plain):
        found += _wrong_integers(int(plain), f"{question} {reference}".lower(), chance)
    part = _fraction(reference)
    if part:
        top, below = part
        found += [("swapped", f"\\frac{{{below}}}{{{top}}}"), ("part", f"{top}"), ("part", f"{below}"),
                  ("neighbour", f"\\frac{{{top + 1}}}{{{below}}}"), ("neighbour", f"\\frac{{{top}}}{{{below + 1}}}"),
                  ("sign", f"-\\frac{{{top}}}{{{below}}}"), ("part", f"\\sqrt{{\\frac{{{top}}}{{{below}}}}}"),
                  ("part", f"\\frac{{{top}}}{{{below}}}\\pi"), ("neighbour", f"1\\frac{{{top}}}{{{below}}}")]
        found = [one for one in found if top != below or one[0] not in ("swapped", "part")]
        if below == 1 or top == 1:
            found = [one for one in found if one[0] != "part" or "frac" in one[1]]
    numbers = list(re.finditer(r"(?<![\d.\\])\d+(?![\d.])", reference))
    if numbers and not re.fullmatch(r"-?\d+", plain) and not part:
        found += _wrong_formulas(reference, numbers, chance)
    pair = re.fullmatch(r"([(\[])\s*([^(),\[\]{}]+),\s*([^(),\[\]{}]+?)\s*([)\]])", reference)
    if pair and pair[2].strip() != pair[3].strip() and pair[1] + pair[4] == "()":
        found += [("swapped", f"({pair[3]}, {pair[2]})"), ("part", pair[2].strip()), ("part", pair[3].strip())]
    if pair and pair[1] + pair[4] != "()":
        other = {"(": "[", "[": "(", ")": "]", "]": ")"}
        found += [("ends", f"{other[pair[1]]}{pair[2]}, {pair[3]}{pair[4]}")]
    return found


def _wrong_integers(value: int, told: str, chance: random.Random) -> list[tuple[str, str]]:
    text = str(abs(value))
    found = [("neighbour", f"{value + 1}"), ("neighbour", f"{value - 1}"), ("neighbour", f"{value}.5"),
             ("neighbour", f"{value + chance.choice((2, 5, 10, 100))}"), ("part", f"{value}x"),
             ("part", f"{value}\\pi"), ("part", f"{value} + \\sqrt{{2}}"), ("part", f"({value}, {value + 1})"),
             ("hedge", f"{value} \\text{{ or }} {value + 1}"), ("relation", f"x > {value}"),
             ("relation", f"x \\neq {value}"), ("part", f"{value} \\pm 1"), ("unit", f"{value} \\times 10^3"
                                                                                 if value else "1")]
    if value:
        found += [("sign", f"{-value}"), ("neighbour", f"{value}0"), ("unit", f"0.{text.zfill(2)}1")]
        found += [(("unit"), f"{value} {word}") for word in ("dozen", "million", "hundred") if word not in told]
        found += [("unit", f"{value}\\%")] if not re.search(r"percent|%|rate", told) else []
    if abs(value) > 1:
        found += [("part", f"\\frac{{1}}{{{value}}}"), ("part", f"\\sqrt{{{abs(value)}}}"), ("part", f"{abs(value)}^2"),
                  ("part", f"\\frac{{{value}}}{{7}}")]
    if len(text) > 1 and text[0] != text[1]:
        found += [("neighbour", ("-" if value < 0 else "") + text[1] + text[0] + text[2:])]
        found += [("part", text[1:])] if text[1] != "0" else []
    return found


def _wrong_formulas(reference: str, numbers: Sequence[re.Match[str]], chance: random.Random) -> list[tuple[str, str]]:
    number = chance.choice(numbers)
    changed = reference[:number.start()] + str(int(number[0]) + 1) + reference[number.end():]
    found = [("neighbour", changed)]
    without_root = re.sub(r"\\sqrt\s*\{(\w+)\}", r"\1", reference, count=1)
    if without_root != reference and not re.search(r"\\sqrt\s*\{[01]\}", reference):
        found.append(("part", without_root))
    if "\\pi" in reference:
        found.append(("part", reference.replace("\\pi", "", 1) if re.search(r"\d\s*\\pi", reference) else "7"))
    swapped = re.fullmatch(r"(-?\w+)\s*-\s*(\w+)", reference)
    if swapped and swapped[1] != swapped[2]:
        found.append(("swapped", f"{swapped[2]} - {swapped[1]}"))
    terms = re.fullmatch(r"([^+]+)\+([^+]+)", reference)
    if terms and reference.count("(") == 0 and reference.count("{") == 0 and "=" not in reference:
        found += [("part", terms[1].strip()), ("swapped", f"{terms[1].strip()} - {terms[2].strip()}")]
    if re.match(r"^\d|^\\frac|^\\sqrt", reference) and "=" not in reference and "," not in reference:
        found.append(("sign", f"-{reference}"))
    return found
