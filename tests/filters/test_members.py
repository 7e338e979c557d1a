"""What each filter removes."""

from typing import Any

import pytest
from pydantic import ValidationError

from localdistill.core.errors import UsageError
from localdistill.core.means import Means
from localdistill.filters.contamination import ContaminationFilter
from localdistill.filters.duplicates import DuplicatesFilter
from localdistill.filters.length import LengthFilter
from localdistill.filters.verified import VerifiedFilter
from tests.filters.test_contract import batch, kept


def test_verified_needs_a_score_and_a_complete_answer() -> None:
    rows: list[dict[str, Any]] = [{}, {"score": 0.5}, {"score": None}, {"status": "length"}]
    assert kept(VerifiedFilter(), *rows) == [True, False, False, False]
    assert kept(VerifiedFilter(VerifiedFilter.Options(allow_ungraded=True)), *rows) == [True, False, True, False]
    assert kept(VerifiedFilter(VerifiedFilter.Options(min_score=0.5)), *rows) == [True, True, False, False]


def test_length_in_tokens_and_in_characters() -> None:
    rows = [{"completion_tokens": n, "reasoning": "r" * n, "answer": ""} for n in (0, 5, 10, 11)]
    assert kept(LengthFilter(LengthFilter.Options(minimum=6, maximum=10)), *rows) == [True, False, True, False]
    strict = LengthFilter.Options(minimum=6, maximum=10, keep_unknown=False)
    assert kept(LengthFilter(strict), *rows) == [False, False, True, False]
    characters = LengthFilter.Options(unit="characters", minimum=5, maximum=10)
    assert kept(LengthFilter(characters), *rows) == [False, True, True, False]
    with pytest.raises(ValidationError, match="below minimum"):
        LengthFilter.Options(minimum=6, maximum=5)


def test_duplicates_keep_the_first_across_batches() -> None:
    rule = DuplicatesFilter()
    assert kept(rule, {"answer": "It is  2."}, {"answer": "it is 2.\n"}, {"answer": "3"}) == [True, False, True]
    assert kept(rule, {"answer": "It is 2.", "reasoning": "Other."}, {"answer": "3", "question": "?"}) == [False, True]


def test_reasoning_can_tell_duplicates_apart() -> None:
    rule = DuplicatesFilter(DuplicatesFilter.Options(compare="reasoning_and_answer"))
    assert kept(rule, {"reasoning": "a"}, {"reasoning": "b"}, {"reasoning": "A"}) == [True, True, False]


def test_texts_do_not_flow_into_each_other() -> None:
    assert kept(DuplicatesFilter(), {"question": "a b", "answer": "c"}, {"question": "a", "answer": "b c"}) == [
        True,
        True,
    ]


def test_one_trace_per_prompt() -> None:
    rows = [
        {"prompt_id": p, "answer": a, "question": p, "reasoning": ""}
        for p, a in [("p", "long one"), ("p", "aa"), ("q", "x"), ("p", "bb")]
    ]
    first = DuplicatesFilter(DuplicatesFilter.Options(per_prompt="first"))
    assert kept(first, *rows) == [True, False, True, False]
    shortest = DuplicatesFilter(DuplicatesFilter.Options(per_prompt="shortest"))
    with pytest.raises(UsageError, match="did not see all"):
        kept(shortest, *rows)
    for row in rows:
        shortest.prepare(batch(row))
    assert kept(shortest, *rows[:1]) + kept(shortest, *rows[1:]) == [False, True, True, False]


def test_contamination_removes_questions_that_hold_an_item() -> None:
    item = "A farmer has twelve hens and each of them lays three eggs per day, how many eggs is that?"
    rule = ContaminationFilter()
    rule.begin(Means(items=[item, "What is 1 + 1?"]))
    rows = [
        {"question": q}
        for q in (f"Consider this. {item}", "what is 1+1", "What is 1 + 2?", "A farmer has twelve hens.")
    ]
    assert kept(rule, *rows) == [False, False, True, True]
    with pytest.raises(UsageError, match="no evaluation items"):
        ContaminationFilter().begin(Means())
