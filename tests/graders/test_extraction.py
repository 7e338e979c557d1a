"""Which passage of an answer counts as its result, and which number of the passage."""

import pytest

from localdistill.graders.extraction import last_boxed, number_of, result_of


def stated(answer: str, question: str = "") -> tuple[str, str]:
    passage = result_of(answer)
    assert passage is not None
    number = number_of(passage, answer, question)
    return passage.how, number.text if number else ""


@pytest.mark.parametrize(
    ("answer", "how", "number"),
    [
        ("first \\boxed{1}, then \\boxed{2}. The answer is 3.", "boxed", "2"),
        ("so it is 3\n#### 12", "hash_line", "12"),
        ("#### Step 3\nIt costs 5 dollars.", "conclusion", "5"),
        ("The answer is 7. It was easy.", "announced", "7"),
        ("**Final Answer:**\n\n12 apples", "announced", "12"),
        ("**Answer**: Each pays **$240** per year for 5 years.", "announced", "$240"),
        ("So 3 + 4 = 7.\n\nThus he pays $3 + $4 = $7.", "conclusion", "$7"),
        ("9 - 5 = 4\n\nIn 30 days she saves 4 dollars.", "conclusion", "4"),
        ("Each child gets 1 bowl (2 bowls are left).", "conclusion", "1"),
        ("In a 30-day month he makes 75.", "conclusion", "75"),
        ("To be ready by 5:00 pm, the latest time is 2:00.", "conclusion", "2:00"),
    ],
)
def test_the_result_is_found(answer: str, how: str, number: str) -> None:
    assert stated(answer) == (how, number)


def test_the_counted_noun_of_the_question_decides() -> None:
    assert stated("Lee has 15 sheep and 5 geese.", "How many geese live there?") == ("conclusion", "5")
    assert stated("Lee has 15 sheep and 5 geese.", "How many sheep live there?") == ("conclusion", "15")


def test_numbers_that_the_question_gave_come_second() -> None:
    question = "She mines for 30 days. What is the yield?"
    assert stated("In 30 days she mines 43,200 pounds.", question) == ("conclusion", "43,200")


def test_nothing_is_found_in_words_alone() -> None:
    assert result_of("I cannot say.") is None


def test_nested_braces_and_unclosed_boxes() -> None:
    assert last_boxed("\\boxed{\\frac{1}{2}}") == (0, "\\frac{1}{2}")
    assert last_boxed("\\boxed{3} and \\boxed{4") == (0, "3")
    assert last_boxed("none") is None
