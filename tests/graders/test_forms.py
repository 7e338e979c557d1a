"""Forms around a number: which of them state it and which state something else, in every place of an answer."""

import pytest

from localdistill.core.records import Message, Prompt, Trace
from localdistill.graders.exact import ExactGrader
from localdistill.graders.math import MathGrader

PLACES = {
    "boxed": "We add them up.\n\n\\[\\boxed{FORM}\\]",
    "announced": "We add them up. The answer is FORM.",
    "bold": "We add them up.\n\n**Final answer:** **FORM**",
    "conclusion": "We add them up. So Vera ends up with FORM.",
    "formula": "We add them up. Hence the result is $FORM$.",
    "line": "We add them up.\n#### FORM",
    "plain": "FORM",
}


def grade(grader: MathGrader | ExactGrader, reference: str, answer: str, question: str = "Work this out.") -> float:
    prompt = Prompt((Message("user", question),), reference=reference)
    return grader.grade(prompt, Trace("t", prompt.id, "e", "m", "", answer)).value


WRONG_MATHS = [
    # (reference, form)
    ("4", "\\sqrt{4}"), ("4", "4\\sqrt{2}"), ("4", "\\sqrt[4]{7}"), ("4", "4^2"), ("4", "4^{12}"), ("4", "2^4"),
    ("4", "2^{4}"), ("4", "4!"), ("4", "4x"), ("4", "4 x"), ("4", "4xy"), ("4", "4i"), ("4", "3 + 4i"),
    ("4", "4\\pi"), ("4", "4π"), ("4", "\\frac{4}{3}"), ("4", "\\frac{3}{4}"), ("4", "\\frac{4}{\\sqrt{3}}"),
    ("4", "4/3"), ("4", "3/4"), ("4", "-4"), ("4", "4.5"), ("4", "0.4"), ("4", ".4"), ("4", "4,500"),
    ("4", "4 \\pm 1"), ("4", "\\pm 4"), ("4", "4\\%"), ("4", "4 + 1"), ("4", "4 - 1"), ("4", "4 \\times 3"),
    ("4", "4 \\cdot 10^3"), ("4", "4 \\div 8"), ("4", "x > 4"), ("4", "x < 4"), ("4", "x \\ge 4"), ("4", "x \\neq 4"),
    ("4", "4 < x"), ("4", "x^2 = 4"), ("4", "2x = 4"), ("4", "\\sqrt{x} = 4"), ("4", "(4, 5)"), ("4", "(3, 4)"),
    ("4", "[4, 5]"), ("4", "[4, 9)"), ("4", "\\{4, 5\\}"), ("4", "4, 5"), ("4", "3, 4"), ("4", "4 : 3"), ("4", "4:3"),
    ("4", "3:4"), ("4", "\\log 4"), ("4", "\\log_4 9"), ("4", "\\ln 4"), ("4", "\\sin 4"), ("4", "f(4)"),
    ("4", "a_4"), ("4", "4_7"), ("4", "x + 4"), ("4", "4 - x"), ("4", "4e"), ("4", "e^4"), ("4", "|x - 4|"),
    ("4", "\\binom{4}{2}"), ("4", "x = 4 \\text{ or } x = 5"), ("4", "x = 4, y = 5"), ("4", "4 \\frac{1}{2}"),
    ("4", "4 \\bmod 3"), ("9", "\\sqrt{9}"), ("12", "12ab"), ("12", "3 \\cdot 12"),
]


@pytest.mark.parametrize("place", ["boxed", "announced", "bold", "formula", "line", "plain"])
@pytest.mark.parametrize(("reference", "form"), WRONG_MATHS)
def test_a_number_inside_an_expression_is_not_its_value(
        math_grader: MathGrader, reference: str, form: str, place: str) -> None:
    assert grade(math_grader, reference, PLACES[place].replace("FORM", form)) == 0


WRONG_WORDS = [
    # (reference, form)
    ("4", "4 or 5"), ("5", "4 or 5"), ("5", "either 4 or 5"), ("5", "4 to 5"), ("4", "4–5"),
    ("5", "between 4 and 5 pears"), ("4", "4 dozen pears"), ("4", "4 hundred"), ("4", "4 million"), ("4", "4 pairs"),
    ("4", "4 percent"), ("4", "4%"), ("4", "4 squared"), ("4", "4 cubed"), ("4", "4 factorial"), ("4", "4 pi"),
    ("4", "4 times 3"), ("4", "4 plus 1"), ("4", "the square root of 4"), ("4", "the cube of 4"), ("4", "half of 4"),
    ("4", "minus 4"), ("4", "2 to the power of 4"), ("4", "4 divided by 3"), ("4", "more than 4"),
    ("4", "less than 4"), ("4", "4 or more"), ("4", "over 4 pears"), ("4", "4B"), ("4", "B4"), ("4", "QX4RT"),
    ("4", "4.5.6"), ("4", "x4"), ("4", "log 4"), ("4", "sqrt(4)"), ("4", "√4"), ("4", "4²"), ("4", "4³"),
    ("4", "4½"), ("4", "∛4"), ("4", "4∞"), ("4", "4⁄9"),
    ("4", "4 cube roots"), ("4", "4 and a half"),
    ("4", "x4y"), ("4", "4th"), ("4", "3 or 4 pears"), ("4", "4 thirds"), ("4", "not 4"), ("4", "4 pears or 5 pears"),
    ("4", "4 out of 9"), ("2", "4 out of 2"),
]


@pytest.mark.parametrize("place", ["boxed", "announced", "bold", "conclusion", "line", "plain"])
@pytest.mark.parametrize(("reference", "form"), WRONG_WORDS)
def test_words_around_a_number_make_another_value_of_it(
        math_grader: MathGrader, reference: str, form: str, place: str) -> None:
    assert grade(math_grader, reference, PLACES[place].replace("FORM", form)) == 0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("15", "It could be 12 or 15."), ("12", "It could be 12 or 15."), ("15", "It could be 12. Or 15."),
        ("5", "It is not 5."), ("5", "It isn't 5."), ("5", "The answer is not 5."), ("5", "The answer isn't **5**."),
        ("5", "The answer is not equal to $5$."), ("5", "It cannot be 5."), ("5", "So 5 is wrong."),
        ("5", "5 is not the answer."), ("5", "The answer 5 is incorrect."), ("5", "Is it 5?"),
        ("5", "The answer is 5? I do not know."), ("5", "The answer is 5. No, that is wrong."),
        ("5", "\\boxed{5}\n\nBut this is not correct."), ("5", "A common wrong answer is 5."),
        ("5", "If the answer is 5, we are done."), ("5", "Suppose x = 5."), ("5", "The answer is anything but 5."),
        ("5", "There are more than 5 of them."), ("5", "It is anything other than 5."),
        ("5", "So \\boxed{5} or \\boxed{7}."), ("7", "So \\boxed{5} or \\boxed{7}."),
        ("7", "\\boxed{5} and \\boxed{7}"), ("5", "\\boxed{5 \\text{ or } 7}"), ("7", "\\boxed{5 \\text{ or } 7}"),
        ("5", "\\boxed{5}. The answer is 7."), ("7", "\\boxed{5}. The answer is 7."),
        ("5", "\\boxed{5} was on the way. The final answer is 7."),
        ("9", "Nine crates came: 3 * 3 = 9.\nThus 5 crates hold $20 - $8 = $12 more than 9 bags."),
        ("9", "There are 30 * 0.3 = 9 hens.\nThere are 9 - 5 = 4 hens that lay 9 eggs."),
        ("3", "Here x = 3 and y = 4."), ("80", "20 jars * 4 = 80 jars\nA: 7"),
        ("80", "So it is 80 jars.\n\nAnswer: 7"), ("80", "20 * 4 = 80\n7"), ("5", "3x = 15 and so x^2 = 5 x"),
        ("24", "In the end 2x + 1 = 24."), ("\\sqrt{2}", "The answer is not $\\sqrt{2}$."),
        ("\\sqrt{2}", "It could be $\\sqrt{2}$ or $\\sqrt{3}$."), ("\\sqrt{2}", "Is it $\\sqrt{2}$?"),
        ("\\sqrt{2}", "The answer is $\\sqrt{2}$ or $\\sqrt{3}$."), ("\\frac{1}{900!}", "\\boxed{\\frac{1}{902!}}"),
        ("\\frac{1}{2^{80}}", "\\boxed{\\frac{1}{2^{81}}}"), ("10^{-9}", "\\boxed{10^{-8}}"),
        ("2^{3000}", "\\boxed{2^{3001}}"),
        ("\\frac{3^{1500}+1}{2 \\cdot 3^{1501}}", "\\boxed{\\frac{1}{2 \\cdot 3^{1501}}}"),
        ("5", "So she pays 12 if she buys 5."), ("6", "We get 6 +"), ("6", "Then the total is 18 / (6"),
    ],
)
def test_what_is_denied_open_or_on_the_way_is_no_answer(math_grader: MathGrader, reference: str, answer: str) -> None:
    assert grade(math_grader, reference, answer) == 0


RIGHT_MATHS = [
    # (reference, form)
    ("4", "4"), ("4", "4.0"), ("4", "4.00"), ("4", "x = 4"), ("4", "n=4"), ("4", "f(2) = 4"), ("4", "a_3 = 4"),
    ("4", "AB = 4"), ("4", "+4"), ("4", "(4)"), ("4", "2 + 2 = 4"), ("4", "\\sqrt{16}"), ("4", "2^2"), ("4", "8/2"),
    ("4", "\\frac{8}{2}"), ("4", "\\frac{\\sqrt{64}}{2}"), ("4", "4\\text{ cm}"), ("4", "4 \\text{ cm}^2"),
    ("4", "4\\,\\mathrm{m}"), ("4", "\\mathbf{4}"), ("4", "4\\text{ km/h}"), ("4", "4 \\text{ pears}"),
    ("4", "4^\\circ"), ("4", "\\$4"), ("4", "3! - 2"), ("24", "4!"), ("4", "x \\approx 4"), ("4", "S = 12 / 3 = 4"),
    ("4000", "4,000"), ("4000", "4{,}000"), ("4000", "4 \\times 10^3"), ("4000", "4 \\cdot 10^{3}"),
    ("3/4", "\\frac{3}{4}"), ("3/4", "0.75"), ("\\frac{3}{4}", "3/4"), ("9/2", "4\\frac{1}{2}"), ("-4", "-4"),
    ("-4", "x = -4"), ("-4", "−4"), ("0.5", "50\\%"), ("10", "(9 + 1)"), ("4", "4 \\text{ m/s}^2"),
]


@pytest.mark.parametrize("place", ["boxed", "announced", "bold", "formula", "line", "plain"])
@pytest.mark.parametrize(("reference", "form"), RIGHT_MATHS)
def test_the_number_itself_in_other_writing_is_right(
        math_grader: MathGrader, reference: str, form: str, place: str) -> None:
    assert grade(math_grader, reference, PLACES[place].replace("FORM", form)) == 1


RIGHT_WORDS = [
    # (reference, form)
    ("4", "4 pears"), ("4", "4 cm"), ("4", "4cm"), ("4", "4 m²"), ("4", "4 km/h"), ("4", "4 m"), ("4", "$4"),
    ("4", "$4.00"), ("4", "€4"), ("4", "4€"), ("4", "4 dollars"), ("4", "**4**"), ("4", "**4 pears**"),
    ("4", "4 (2 + 2)"), ("4", "4 square metres"), ("4", "4 pears in all"), ("4", "a total of 4 pears"),
    ("4", "exactly 4 pears"), ("4", "about 4 pears"), ("4", "4 kg"), ("4000", "4,000 pears"), ("4000", "$4,000"),
    ("4000", "4 thousand"), ("48", "4 dozen"), ("4", "four"), ("4", "four pears"), ("21", "twenty-one pears"),
    ("4", "4 L"), ("4", "4 degrees"), ("4.5", "4 1/2 pears"), ("4", "4, not 5"), ("4", "4 pears (not 5)"),
    ("4", "4 M&Ms"), ("90", "1 hour and 30 minutes"), ("4", "4:00 pm"), ("4", "2 + 2 = 4 pears"),
    ("4", "4 pears more than Ida"),
]


@pytest.mark.parametrize("place", ["announced", "conclusion", "line", "plain"])
@pytest.mark.parametrize(("reference", "form"), RIGHT_WORDS)
def test_units_money_and_words_leave_a_number_right(
        math_grader: MathGrader, reference: str, form: str, place: str) -> None:
    assert grade(math_grader, reference, PLACES[place].replace("FORM", form)) == 1


@pytest.mark.parametrize(
    ("question", "reference", "answer"),
    [
        ("What percentage of the jars is full?", "4", "So 4% of the jars are full."),
        ("What percent is that?", "4", "\\boxed{4\\%}"), ("By what rate did it grow?", "4", "It grew by 4%."),
        ("How many dozen eggs are needed?", "4", "She needs 4 dozen eggs."),
        ("How many pairs of socks are there?", "4", "There are 4 pairs of socks."),
        ("How many millions live there?", "4", "About 4 million live there."),
        ("In which grade is Nils?", "4", "\\boxed{4^{\\text{th}} \\text{ grade}}"),
        ("On which day do they meet?", "4", "They meet on the 4th day."),
        ("At least how many boats are needed?", "4", "They need at least 4 boats."),
        ("How many 7 inch nails are there?", "6", "There are 30 * 0.2 = 6 nails that are 7 inches."),
        ("What is x^2 + y^2?", "25", "Hence $x^2 + y^2 = 25$."), ("What is $2x$?", "8", "\\boxed{2x = 8}"),
        ("How much more do they cost?", "7",
         "Two figs cost $1 * 2 = $2.\nThus, 3 melons cost $9 - $2 = $7 more than 2 figs."),
        ("How much does he pay?", "12", "If he buys 3 at $4 each, then he pays $12."),
        ("What is left?", "120",
         "The first crate brings $\\boxed{20}$.\n\nFinal Answer: The final answer is $120$. That is all."),
        ("Find all pairs.", "(1,4), (4,1)", "The pairs are \\[\\boxed{(4, 1)}, \\boxed{(1, 4)}\\]"),
        ("Where do they meet?", "(3, -2)", "Therefore, they meet at \\( (3, -2) \\)."),
        ("What is the length?", "\\frac{3\\sqrt{3}}{4}", "Therefore, the length is \\( \\frac{3\\sqrt{3}}{4} \\)."),
    ],
)
def test_what_the_question_asks_for_is_right(
        math_grader: MathGrader, question: str, reference: str, answer: str) -> None:
    assert grade(math_grader, reference, answer, question) == 1


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("It is 4", 1), ("The answer is 4 pears.", 1), ("\\boxed{4}", 1), ("The answer is 4\\sqrt{2}.", 0),
        ("4^2", 0), ("QX4", 0), ("\\boxed{4!}", 0), ("It is not 4.", 0), ("3 or 4", 0), ("x > 4", 0), ("4%", 0),
        ("(3, 4)", 0),
    ],
)
def test_the_exact_grader_takes_no_number_out_of_an_expression_either(answer: str, score: int) -> None:
    assert grade(ExactGrader(), "4", answer) == score
