"""The rule book: each verdict names the rules that made it, and what each of them finds in an answer."""

from __future__ import annotations

import re

import pytest

from localdistill.core.means import Means
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.graders import GRADERS
from localdistill.graders.math import MathGrader
from localdistill.graders.rules import RuleName


def fact(grader: MathGrader, reference: str, answer: str, question: str = "Work this out.") -> Fact:
    prompt = Prompt((Message("user", question),), reference=reference)
    return grader.grade(prompt, Trace("t", prompt.id, "e", "m", "", answer))


def rules_of(reason: str) -> list[str]:
    """The names that a reason opens with."""
    return reason.partition(":")[0].split(", ")


@pytest.mark.parametrize(
    ("reference", "answer", "score", "rules"),
    [
        ("5", "\\boxed{5}", 1, "boxed, only_one, same_number"),
        ("5", "The first part gives 2.\n#### 5\n\nAsk me about the other 3 as well!", 1,
         "hash_line, only_one, same_number"),
        ("5", "#### 3. Adding up\nSo it is 5.", 1, "conclusion, only_one, same_number"),
        ("5", "**A:** 6", 0, "announced, only_one, same_number"),
        ("5", "It costs 2 or 3, so it takes **5** of 8 days.", 1, "conclusion, bold, same_number"),
        ("5", "Each of the 3 boxes holds 4, so 5 are left.", 1, "conclusion, so, same_number"),
        ("5", "3 + 2 = 5 kites for 2 friends.", 1, "conclusion, last_equals, same_number"),
        ("5", "She has five kites.", 1, "conclusion, in_words, same_number"),
        ("5", "It is 5.\nThe answer is 5. No, that is wrong.", 0, "announced, only_one, taken_back"),
        ("x + 1", "\\boxed{x + 1}. Wait, that is wrong.", 0, "boxed, taken_back"),
        ("5", "\\boxed{5}. The answer is 6.", 0, "boxed, only_one, two_results"),
        ("5", "It is 5 or 6.", 0, "conclusion, not_single"),
        ("5", "\\boxed{5x}", 0, "boxed, only_one, no_value"),
        ("5", "", 0, "empty"),
        ("5", "I cannot say.", 0, "no_result"),
        ("\\frac{1}{7}", "\\boxed{0.142857}", 1, "boxed, only_one, rounded"),
        ("0.142857", "\\boxed{\\frac{1}{7}}", 1, "boxed, only_one, rounded"),
        ("\\frac{1}{7}", "\\boxed{0.14}", 0, "boxed, only_one, same_number"),
        ("\\frac{1}{7}", "\\boxed{0.142858}", 0, "boxed, only_one, same_number"),
        ("12", "\\boxed{12.0004}", 0, "boxed, only_one, same_number"),
        ("\\text{odd}", "Therefore the function is odd.", 1, "conclusion, same_words"),
        ("\\text{odd}", "Therefore the function is even.", 0, "conclusion, same_words"),
        ("x^2 - 1", "\\boxed{(x-1)(x+1)}", 1, "boxed, same_formula"),
        ("x^2 - 1", "\\boxed{(x-1)^2}", 0, "boxed, same_formula"),
    ],
)
def test_a_verdict_names_its_rules(math_grader: MathGrader, reference: str, answer: str, score: int,
                                   rules: str) -> None:
    said = fact(math_grader, reference, answer)
    assert (said.value, said.reason.partition(":")[0]) == (score, rules), said


@pytest.mark.parametrize("name", ["choice", "exact", "math"])
def test_reasons_name_rules_of_the_book_only(name: str) -> None:
    cls = GRADERS.load(name)
    for sample in cls.samples():
        grader = cls(cls.Options.model_validate(dict(sample.options)))
        if grader.applies(sample.prompt):
            [said] = grader.facts([(sample.prompt, sample.trace)], Means())
            assert set(rules_of(said.reason)) <= {rule.value for rule in RuleName}, said.reason
        grader.close()


def test_every_rule_has_a_plain_name_and_one_sentence() -> None:
    assert all(re.fullmatch(r"[a-z]+(?:_[a-z]+)*", rule) and 8 < len(rule.says) < 130 for rule in RuleName)
    assert len({rule.says for rule in RuleName}) == len(RuleName)


@pytest.mark.parametrize(
    ("question", "reference", "answer", "score"),
    [
        ("", "1e-5", "\\boxed{0.00001}", 1), ("", "2.5e7", "\\boxed{2.5 \\times 10^{7} \\text{ J/kg}}", 1),
        ("", "2.5e7", "\\boxed{2.5 \\times 10^{6}}", 0), ("", "6e4", "It is about 6 × 10^4 m/s.", 1),
        ("", "2500", "\\boxed{2 500}", 1), ("", "2500.75", "\\boxed{2500,75}", 1), ("", "4.5", "Es sind 4,5 km.", 1),
        ("", "0,25", "\\boxed{\\frac{1}{4}}", 1), ("", "2", "\\boxed{2,5}", 0), ("", "5", "\\boxed{2,5}", 0),
        ("", "(2,5)", "\\boxed{(2,5)}", 1), ("", "(2,5)", "\\boxed{2.5}", 0), ("", "-2,1", "\\boxed{1, -2}", 1),
        ("", "35", "\\boxed{35\\%}", 0), ("What percent is that?", "35", "It is 35 pct.", 1),
        ("", "30000", "大约有 3 万人。", 1), ("", "35", "每排有 5 棵树，共 7 排，所以一共有 35 棵树。", 1),
        ("", "7", "每排有 5 棵树，共 7 排，所以一共有 35 棵树。", 0), ("", "35", "答案是３５。", 1),
        ("", "35", "7列あるので、答えは35本です。", 1), ("", "5", "7列あるので、答えは35本です。", 0),
        ("", "\\frac{3}{8}", "综上，概率为 $\\frac{3}{8}$．", 1),
        ("", "42", "The answer is 4\u200b2.", 1), ("", "42", "\ufeff\\boxed{4\u20602}", 1),
        ("", "\\\\frac{1}{5}", "\\boxed{\\frac15}", 1), ("", "$\\boxed{12}$", "\\boxed{12}", 1),
        ("", "Adding up, we find that the number of all such ways is \\boxed{12}.", "So it is 12.", 1),
        ("", "3 + 4 = 7, and half of it is 3.5.\n#### 3.5", "\\boxed{3.5}", 1),
    ],
)
def test_numbers_in_any_usual_writing(math_grader: MathGrader, question: str, reference: str, answer: str,
                                      score: int) -> None:
    assert fact(math_grader, reference, answer, question).value == score


LISTED = "Which one is it?\nA. 12 pears\nB. 15 pears\nC. an odd number of figs\nD. none of these"


@pytest.mark.parametrize(
    ("question", "reference", "answer", "score"),
    [
        (LISTED, "B", "The correct option is (B) because A does not hold.", 1),
        (LISTED, "B", "**Answer: B) 15 pears**", 1),
        (LISTED, "(B)", "\\boxed{\\textbf{(B)}}", 1), (LISTED, "\\text{(B)}", "It is 15 pears.", 1),
        (LISTED, "B", "\\boxed{C}", 0), (LISTED, "B", "It is either A or B.", 0), (LISTED, "15 pears", "\\boxed{B}", 1),
        (LISTED, "15", "The answer is (C).", 0), ("", "E", "\\boxed{E}", 1), ("", "E", "\\boxed{F}", 0),
        ("", "B", "The right option is (B), since A fails.", 1), ("", "B", "Answer: C) 15 pears", 0),
    ],
)
def test_an_option_is_its_letter_or_its_text(math_grader: MathGrader, question: str, reference: str, answer: str,
                                             score: int) -> None:
    assert fact(math_grader, reference, answer, question).value == score


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("Evelyn", "The answer is Evelyn, since she is the fastest.", 1), ("Evelyn", "\\boxed{\\text{Evelyn}}", 1),
        ("Evelyn", "The answer is not Evelyn.", 0), ("Evelyn", "It is Evelyn or Carla.", 0),
        ("Evelyn", "Evelyn was faster than Briana, but the fastest is Carla.", 0), ("\\text{Yes}", "**Yes.**", 1),
        ("\\text{Yes}", "The answer is **no**.", 0), ("east", "They end up facing east.", 1),
        ("east", "They end up facing south-west.", 0),
    ],
)
def test_words_are_results(math_grader: MathGrader, reference: str, answer: str, score: int) -> None:
    assert fact(math_grader, reference, answer).value == score


@pytest.mark.parametrize("reference", ["\\frac{", "\\sqrt{\\frac{}}{}^_", "}{"])
def test_what_no_reference_can_tell_is_undecided(math_grader: MathGrader, reference: str) -> None:
    said = fact(math_grader, reference, "\\boxed{x + 1}")
    assert (said.value, said.passed) == (None, None) and "bad_reference: cannot be judged" in said.reason
