"""Formats of right and wrong answers: sides come from verdicts, groups are whole, and every trace is accounted for."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from localdistill.core.records import Candidate, Example, Message, Prompt, Skip, Trace
from localdistill.formats.judged import UNJUDGED
from tests.formats.test_contract import build

PROMPT = Prompt((Message("user", "What is 2 + 2?"),), reference="4", original="4")


def candidate(number: int, passed: bool | None, **changes: Any) -> Candidate:
    """A trace with an answer as long as its number."""
    values = {"reasoning": "So.", "answer": f"It is {'x' * number}.", "trace_kind": "raw"}
    return Candidate(Trace(f"t{number}", PROMPT.id, "e", "m", **(values | changes)), passed)


def laid(name: str, candidates: list[Candidate], **options: Any) -> tuple[list[Example], list[Skip]]:
    made = build(name, **options).lay_out(PROMPT, candidates, len)
    return [one for one in made if isinstance(one, Example)], [one for one in made if isinstance(one, Skip)]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("name", "options"), [
    ("preference", {}), ("preference", {"pairs": 3, "right": "shortest", "wrong": "longest"}),
    ("preference", {"pairs": 0}), ("signed", {}), ("signed", {"most": 1}), ("signed", {"right_alone": True}),
])
def test_groups_are_what_the_format_says_and_nothing_is_lost(name: str, options: dict[str, Any], seed: int) -> None:
    draw = random.Random(seed)
    given = [candidate(number, draw.choice([True, False, None]), status=draw.choice(["complete"] * 3 + ["length"]))
             for number in range(draw.randint(1, 7))]
    draw.shuffle(given)
    examples, skips = laid(name, given, **options)
    verdicts = {one.trace.id: one.passed for one in given}
    assert {one.trace_id for one in examples}.isdisjoint(one.trace_id for one in skips)
    assert {one.trace_id for one in (*examples, *skips)} == set(verdicts)
    assert len({one.trace_id for one in skips}) == len(skips)
    assert all((one.sign > 0) is verdicts[one.trace_id] for one in examples)
    groups = Counter((one.group, one.sign) for one in examples)
    grouping = build(name, **options).grouping
    for group in {one.group for one in examples}:
        right, wrong = groups[group, 1], groups[group, -1]
        assert (right, wrong) == (1, 1) if grouping == "pair" else right and (wrong or grouping == "none")
    assert laid(name, given, **options) == (examples, skips)


def test_pairs_use_every_answer_before_one_comes_again() -> None:
    given = [candidate(n, n < 3) for n in range(6)]
    examples, _ = laid("preference", given, pairs=4)
    assert [one.trace_id for one in examples] == ["t0", "t3", "t1", "t4", "t2", "t5", "t0", "t4"]
    every, skips = laid("preference", given, pairs=0)
    assert len({one.group for one in every}) == 9 and not skips


def test_which_answers_come_first_follows_from_the_students_tokens() -> None:
    given = [candidate(n, n % 2 == 0) for n in (4, 3, 2, 5)]
    examples, skips = laid("preference", given, right="shortest", wrong="longest")
    assert [(one.trace_id, one.sign) for one in examples] == [("t2", 1), ("t5", -1)]
    assert {one.trace_id for one in skips} == {"t4", "t3"}


def test_every_answer_is_laid_out_by_the_format_that_the_options_name() -> None:
    given = [candidate(1, True), candidate(2, False)]
    examples, _ = laid("signed", given, of="full_trace", of_options={"reasoning_weight": 0.5})
    assert all(one.thinks and one.turns[-1].text.startswith("<think>") for one in examples)
    assert examples[0].turns[-1].spans[1].weight == 0.5 and build("signed", of="full_trace").thinks
    assert not build("preference").thinks


def test_what_nobody_judged_and_what_cannot_serve_is_told_apart() -> None:
    examples, skips = laid("preference", [candidate(1, True), candidate(2, None), candidate(3, False, status="length")])
    assert examples == [] and {one.trace_id: one.reason for one in skips} == {
        "t1": "its prompt has no wrong answer that can serve beside it", "t2": UNJUDGED, "t3": "the reply is length"}


@pytest.mark.parametrize(("options", "said"), [
    ({"of": "signed"}, "makes groups itself"), ({"of": "full_tracer"}, "did you mean 'full_trace'"),
    ({"of_options": {"nonsense": 1}}, "nonsense"),
])
def test_an_inner_format_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        build("preference", **options)
