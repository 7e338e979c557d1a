"""The `choice` grader: letters, words, several letters, any usual wording."""

from __future__ import annotations

import pytest

from localdistill.core.records import Message, Prompt, Trace
from localdistill.graders.choice import ChoiceGrader
from localdistill.graders.listed_options import labels_in, options_of
from localdistill.graders.readable import readable

FRUIT = "Which of these is a fruit?\nA. stone\nB. pear\nC. cloud\nD. plum jam"


def grade(question: str, reference: str, answer: str) -> tuple[float | str | None, str]:
    prompt = Prompt((Message("user", question),), reference=reference)
    grader = ChoiceGrader()
    assert grader.applies(prompt)
    said = grader.grade(prompt, Trace("t", prompt.id, "e", "m", "", answer))
    return said.value, said.reason.partition(",")[0].partition(":")[0]


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Pick.\n(A) one (B) two (C) three", {"A": "one", "B": "two", "C": "three"}),
        ("Pick. Answer Choices: (A) 2.5 (B) 10 (C) 3", {"A": "2.5", "B": "10", "C": "3"}),
        ("Pick.\nA) one\nB) two", {"A": "one", "B": "two"}),
        ("选（ ）\n（A）只与 $a$ 有关\n（B）只与 $k$ 有关", {"A": "只与 $a$ 有关", "B": "只与 $k$ 有关"}),
        ("选（ ）\\nA．奇函数\\nB．偶函数", {"A": "奇函数", "B": "偶函数"}),
        ("$\\mathrm{A.}x\\quad\\mathrm{B.}y$", {"A": "x\\quad", "B": "y$"}),
        ("Pick: x\n\nAnswer1: a lake Answer2: a hill\n\nAnswer format: answer1/answer2",
         {"1": "a lake", "2": "a hill"}),
        ("What holds?\nA. wood.\nB. iron.\nC. (A) and (B) both.\nD. neither.",
         {"A": "wood.", "B": "iron.", "C": "(A) and (B) both.", "D": "neither."}),
        ("There are 3 boxes (A) of pears. How many?", {}),
    ],
)
def test_options_are_read_from_the_question(question: str, options: dict[str, str]) -> None:
    assert dict(options_of(readable(question))) == options


@pytest.mark.parametrize(
    ("reference", "labels"),
    [
        ("B", ["B"]), ("(B)", ["B"]),
        ("\\text{(B)}", ["B"]), ("B.", ["B"]), ("A, C", ["A", "C"]), ("A and C", ["A", "C"]),
        ("ABD", ["A", "B", "D"]), ("(A)(C)", ["A", "C"]), ("pear", ["B"]), ("E", []), ("42", []), ("BAD", []), ("", []),
    ],
)
def test_references_name_options(reference: str, labels: list[str]) -> None:
    assert list(labels_in(reference, options_of(FRUIT))) == labels


@pytest.mark.parametrize(
    ("answer", "score", "rule"),
    [
        ("B", 1, "last_line"), ("(b)", 1, "last_line"), ("B) pear", 1, "opens_with"), ("pear", 1, "option_text"),
        ("It is a pear.", 1, "option_text"), ("The answer is (B).", 1, "announced"), ("\\boxed{\\text{B}}", 1, "boxed"),
        ("The answer is: \n\n**B. pear**", 1, "announced"), ("答案是 B，因为……", 1, "announced"),
        ("故选（B）。", 1, "announced"), ("正解は B です", 1, "announced"), ("Hence option (B).", 1, "named_last"),
        ("I'd go with B here", 1, "announced"), ("(A) is wrong. (B) is right.", 1, "said_right"),
        ("A), C) and D) are out, so only (B) is left.", 1, "named_last"), ("Respuesta: B", 1, "last_line"),
        ("The answer is A. Wait, the answer is B.", 1, "announced"),
        ("Among A, B, C and D, the answer is B.", 1, "announced"),
        ("The answer is a pear", 1, "option_text"), ("D. plum jam", 0, "opens_with"),
        ("The answer is C.", 0, "announced"),
        ("The answer is not B.", 0, "announced"), ("The answer is B or C.", 0, "announced"),
        ("It is either (A) or (B).", 0, "several_options"), ("Is it B?", 0, "several_options"),
        ("The answer is B. No, that is wrong.", 0, "taken_back"), ("B, D", 0, "several_options"),
        ("A good question.", 0, "no_option"), ("The wrong answer is B.", 0, "no_option"),
        ("Nothing fits.", 0, "no_option"), ("\\boxed{", 0, "no_option"),
    ],
)
def test_a_choice_is_found_in_any_usual_wording(answer: str, score: int, rule: str) -> None:
    assert grade(FRUIT, "B", answer) == (score, rule)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("The answers are B and D.", 1), ("\\boxed{B, D}", 1), ("\\boxed{BD}", 1), ("D, B", 1), ("Both B and D", 1),
        ("故选：BD．", 1), ("The answer is B.", 0), ("B, C and D", 0),
        ("It is B or D.", 0), ("All of them: A, B, C, D", 0),
    ],
)
def test_several_right_letters_must_all_be_stated_and_no_other(answer: str, score: int) -> None:
    assert grade(FRUIT, "B, D", answer)[0] == score


def test_numbered_answers_are_no_numbers() -> None:
    asked = "How many electrons?\n\nAnswer1: 3 Answer2: 5 Answer3: 6 Answer4: 8\n\nAnswer format: answer1/answer2"
    assert grade(asked, "answer3", "the correct answer is answer3")[0] == 1
    assert grade(asked, "answer1", "the correct answer is answer3")[0] == 0
    assert grade(asked, "answer3", "the correct answer is 6")[0] == 1


def test_prompts_without_a_choice_are_left_to_others() -> None:
    def applies(question: str, reference: str | None) -> bool:
        return ChoiceGrader().applies(Prompt((Message("user", question),), reference=reference))

    assert applies(FRUIT, "B") and applies("Which?", "(B)")
    assert not applies(FRUIT, None) and not applies(FRUIT, "apple") and not applies("How many?", "42")
    assert not applies("Which divide 72?", "3, 4, 6")
