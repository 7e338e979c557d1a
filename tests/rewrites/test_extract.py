"""Extraction: equations in prose, the chain back from the answer, and its share on real traces."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from localdistill.core.means import Means
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.core.stated_numbers import numbers
from localdistill.rewrites.equations import calculate, equations
from localdistill.rewrites.extract import ExtractRewrite
from localdistill.rewrites.result import is_monologue

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "traces"

QUESTION = "Janet's ducks lay 16 eggs. She eats 3 and bakes with 4. She sells the rest at $2 each. What does she make?"
REASONING = """Okay, so let me read this. Janet has ducks that lay 16 eggs.
She eats 3. Then she uses 4 for baking. So altogether 3 + 4 = 7 eggs are gone.
Hmm, maybe 16 - 3 = 13 first? No, both at once. So what is left is 16 - 7 = 9 eggs.
Wait, let me check: 16 - 8 = 9? No, that is wrong.
Now each egg costs $2, so she makes 9 * $2 = $18 per day.
Let me double-check that: 9 * 2 = 18. Yes, 18 dollars."""


def shorten(question: str, reasoning: str, answer: str, **options: object) -> tuple[Trace, Fact]:
    prompt = Prompt((Message("user", question),))
    parent = Trace("t", prompt.id, "e", "m", reasoning, answer, trace_kind="raw")
    rewrite = ExtractRewrite(ExtractRewrite.Options.model_validate(options))
    [found] = rewrite.rewrite([(prompt, parent)], Means())
    return found


def test_it_keeps_the_chain_and_drops_checks_and_detours() -> None:
    trace, fact = shorten(QUESTION, REASONING, "She makes **$18**.")
    assert fact.passed
    assert trace.reasoning.splitlines() == [
        "Altogether 3 + 4 = 7 eggs are gone.", "What is left is 16 - 7 = 9 eggs.",
        "Each egg costs $2, so she makes 9 * $2 = $18 per day.",
    ]
    assert (trace.answer, trace.parent_id, trace.rewrite, trace.trace_kind) == (
        "She makes **$18**.", "t", "extract@2", "summary")
    assert trace.id == shorten(QUESTION, REASONING, "She makes **$18**.")[0].id


def test_reasons_to_reject() -> None:
    assert shorten(QUESTION, REASONING, "She makes 77.")[1].reason == "no step computes the answer's number"
    assert shorten(QUESTION, REASONING, "She makes much.")[1].reason == "the answer has no number to start from"
    assert shorten(QUESTION, REASONING, "It is 18", max_steps=2)[1].reason == "the chain is longer than 2 steps"
    assert shorten("What is 1 + 1?", "1 + 1 = 2.", "2")[1].reason == "the summary is not shorter than the reasoning"
    assert shorten(QUESTION, "", "18")[1].value == 0.0


@pytest.mark.parametrize(("sentence", "operands", "result"), [
    ("So 9 eggs * $2 = $18.", [9, 2], 18),
    ("The cost is 1,200 + 34.5 = 1,234.5 dollars", [1200, 34.5], 1234.5),
    ("\\( \\frac{3}{4} \\times 100 = 75 \\)", [3, 4, 100], 75),
    ("20% of 50 is 10", [20, 50], 10),
    ("3 times 4 is 12, right?", [3, 4], 12),
    ("44 divided by 4 equals 11.", [44, 4], 11),
    ("First, 16 − 3 − 4 = 9", [16, 3, 4], 9),
    ("7 x 8 = 56", [7, 8], 56),
])
def test_equations_in_prose(sentence: str, operands: list[float], result: float) -> None:
    [found] = equations(sentence)
    assert [float(number) for number in found.operands] == operands and float(found.result) == result


@pytest.mark.parametrize("sentence", [
    "16 - 8 = 9", "x = 5", "There are 3 dogs and the cat is 4.", "5 >= 3 + 1", "a == b", "2 ^ 999999 is 7",
])
def test_wrong_or_missing_arithmetic_is_no_equation(sentence: str) -> None:
    assert not equations(sentence)


def test_chained_equations_are_read_one_by_one() -> None:
    assert [found.result for found in equations("10*3*4 = 30*4 = 120")] == [Fraction(120)]


def test_calculate_reads_arithmetic_and_nothing_else() -> None:
    assert calculate("(2 + 3) * 4 eggs - 2^3") == 12
    assert calculate("50 % * 8") == 4
    assert calculate("2 3") is None and calculate("(1 + 2") is None and calculate("1 / 0") is None
    assert calculate("2^99999999") is None


def test_numbers_are_exact() -> None:
    assert numbers("1,234 and 3.0, -5 and 7.") == [1234, 3, -5, 7]
    assert numbers("10-3") == [10, 3]


def test_monologue() -> None:
    assert is_monologue("Hmm, so 4") and is_monologue("It is 4. Wait, no") and is_monologue("then I think so")
    assert not is_monologue("They wait for 4 buses.") and not is_monologue("I have 4 apples.")


@pytest.mark.parametrize("name", ["deepseekR1", "QwQ"])
def test_share_kept_on_real_traces(name: str) -> None:
    file = DATA / f"gsm8k_{name}.json"
    if not file.is_file():
        pytest.skip("the real traces are not beside this checkout (../shared/data)")
    pairs = []
    for row in json.loads(file.read_text())[:120]:
        reply = next(value for key, value in row.items() if key == "model_answer" or "(question)" in key)
        reasoning, closed, answer = reply.partition("</think>")
        if closed:
            prompt = Prompt((Message("user", row["question"]),), reference=row["answer"].split("####")[-1].strip())
            pairs.append((prompt, Trace(f"t{len(pairs)}", prompt.id, "e", "m", reasoning, answer.strip())))
    found = list(ExtractRewrite(ExtractRewrite.Options()).rewrite(pairs, Means()))
    kept = [(parent, trace) for (_, parent), (trace, fact) in zip(pairs, found) if fact.passed]
    assert len(kept) / len(pairs) > 0.9
    ratios = sorted(len(trace.reasoning) / len(parent.reasoning) for parent, trace in kept)
    assert ratios[len(ratios) // 2] < 0.1 and not any(is_monologue(trace.reasoning) for _, trace in kept)
