"""What the contamination filter finds, and what it says of it."""

from typing import Any

import pyarrow as pa
import pytest

from localdistill.core.means import Means
from localdistill.filters.contamination import ContaminationFilter

ITEM = "Let $a$ and $b$ be the roots of $x^2 + 3x + 1 = 0$. Find $a^2 + b^2$ and express it as a fraction."


def reasons(rows: list[dict[str, str]], items: list[str], golds: list[str] | None = None, **options: Any) -> list[str]:
    """Why each row goes; empty for those that stay."""
    rule = ContaminationFilter(ContaminationFilter.Options(**options))
    rule.begin(Means(items=items, golds=golds or []))
    filled = [{"question": "", "reasoning": "", "answer": "", **row} for row in rows]
    verdicts = rule.keep(pa.RecordBatch.from_pylist(filled))
    assert [not rule.why(row) for row in filled] == list(verdicts)
    return [rule.why(row) for row in filled]


def test_other_numbers_and_another_question_at_the_end_are_close_and_the_reason_quotes_the_item() -> None:
    changed = "Let $a$ and $b$ be the roots of $x^2 + 5x + 2 = 0$. Compute $a^3 + b^3$."
    [reason] = reasons([{"question": changed}], [ITEM])
    assert "runs of 8 words and marks" in reason and "the item 'Let $a$" in reason
    assert reasons([{"question": changed}], [ITEM], close=0) == [""]
    assert reasons([{"question": changed}], [ITEM], close=30) == [""]


def test_case_space_and_punctuation_hide_nothing() -> None:
    noisy = ITEM.upper().replace(". ", " .\n\n").replace("$", " $ ")
    assert reasons([{"question": noisy}], [ITEM]) != [""]


def test_masked_numbers_find_an_item_with_others() -> None:
    item = "A hen lays 12 eggs each week and eats 3 of them, so how many eggs are left over after 4 weeks?"
    other = item.replace("12", "15").replace("3", "2").replace("4", "7").replace(", so", "; so")
    assert reasons([{"question": other}], [item], close=0) == [""]
    assert "with numbers left out" in reasons([{"question": other}], [item], close=0, mask_numbers=True)[0]


def test_a_way_of_asking_that_many_items_share_is_no_item() -> None:
    ending = "Write your whole answer as one letter in a box at the very end of your reply, please."
    items = [f"What is the capital of country number {word}? {ending}" for word in "abcdefghijkl"]
    assert reasons([{"question": f"Who wrote the book about the red hen? {ending}"}], items, threshold=1) == [""]
    assert reasons([{"question": items[3]}], items) != [""]


DRAWING = '[asy]\nlabel("$A$", A, N);\nlabel("$B$", B, S);\ndraw((0,0)--(1,0)--(1,1)--cycle);\n[/asy]'


def test_phrases_of_a_drawing_language_are_no_item_and_a_copied_drawing_is() -> None:
    item = f"What is the area of the grey field that the red hen walks over? {DRAWING}"
    other = '[asy]\nlabel("$A$", P, N);\nfill((2,5)--(7,3));\nlabel("$B$", Q, S);\n[/asy] How long is the blue rope?'
    assert reasons([{"question": other}], [item]) == [""]
    for copied in (DRAWING, DRAWING.replace("[/asy]", ""), DRAWING[5:]):
        assert reasons([{"question": f"Name the angle. {copied}"}], [item]) != [""]
    assert reasons([{"question": other}], [item.replace("[/asy]", "")]) != [""], "what never ends is no drawing"


def test_an_index_below_a_name_is_a_mark_of_its_own() -> None:
    item = "Let $(a_1, a_2, \\dots, a_n)$ be a row. Find $n$."
    assert reasons([{"question": "Take $(a_1, a_2, \\dots, a_{30})$ and order it."}], [item]) != [""]


def test_a_trace_that_quotes_a_long_answer_goes_and_a_short_one_is_in_every_text() -> None:
    gold = "\\begin{pmatrix} -2 \\\\ -14 \\\\ -7 \\end{pmatrix}"
    rows = [{"reasoning": f"So it must be {gold}."}, {"answer": "It is 42."}]
    found = reasons(rows, ["one", "two"], [gold, "42"])
    assert "quotes the answer to the item 'one'" in found[0] and found[1] == ""
    assert reasons(rows, ["one", "two"], [gold, "42"], gold=0) == ["", ""]


@pytest.mark.parametrize("text", ["", "\x00 \u202e", "a" * 100_000, "1 " * 50_000])
def test_odd_text_is_looked_through(text: str) -> None:
    assert reasons([{"question": text, "answer": text}], [ITEM], ["a b c d e f g h i"]) == [""]
