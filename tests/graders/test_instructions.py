"""The `instructions` grader and its kinds."""

from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.graders.instructions import InstructionsGrader
from localdistill.graders.obedience import KINDS, Instruction, detecting, loosened
from localdistill.interchange.files import read_file
from localdistill.modelfiles.shipped import shipped_path


def grade(constraints: Any, answer: str, **options: Any) -> Fact:
    prompt = Prompt((Message("user", "?"),), metadata={"constraints": constraints})
    grader = InstructionsGrader(InstructionsGrader.Options(**options))
    return grader.grade(prompt, Trace("t", prompt.id, "e", "m", "", answer))


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_can_be_kept_and_broken_and_the_reason_names_it(name: str) -> None:
    kind = KINDS[name]
    constraint = {"kind": name, **kind.example}
    kept, broken = grade([constraint], kind.kept), grade([constraint], kind.broken)
    assert (kept.value, broken.value) == (1, 0) and name in broken.reason
    assert grade([constraint], " \n").value == 0
    assert kind.holds.__doc__


def test_all_25_kinds_of_ifeval_are_there() -> None:
    assert sum(":" in name for name in KINDS) == 25


@pytest.mark.parametrize("name", [name for name in KINDS if ":" in name])
@pytest.mark.parametrize("text", ["a" * 40_000, "* " * 20_000, "[" * 40_000, "<<" * 20_000, "\n" * 40_000,
                                  "x." * 20_000, "\x00\ud800", "(((" * 10_000 + ".", "I'" * 20_000])
def test_no_kind_raises_or_hangs_for_long_and_odd_text(name: str, text: str) -> None:
    instruction = Instruction.read({"kind": name, **KINDS[name].example})
    assert instruction.holds_loosely(text) in (True, False)


def test_all_must_hold_and_the_reason_names_the_broken_ones_only() -> None:
    verdict = grade([{"kind": "lowercase"}, {"kind": "contains", "value": "jar"}], "a plum")
    assert verdict.value == 0 and "contains" in verdict.reason and "lowercase" not in verdict.reason
    assert (verdict.metrics["kept"], verdict.metrics["stated"]) == (1, 2)


def test_the_loose_verdict_forgives_what_stands_around_an_answer_and_is_the_score_where_asked() -> None:
    constraints = [{"kind": "startend:quotation"}, {"kind": "punctuation:no_comma"}]
    answer = 'Sure, here it is:\n"*A jar.*"\nAnything else, Sir?'
    strict, loose = grade(constraints, answer), grade(constraints, answer, verdict="loose")
    assert (strict.value, loose.value) == (0, 1) and strict.metrics == loose.metrics
    assert strict.metrics["loose"] == 1 and "but not loosely" in strict.reason


def test_each_instruction_may_be_kept_loosely_by_a_form_of_its_own() -> None:
    first, last = {"kind": "startend:end_checker", "end_phrase": "jar."}, {"kind": "combination:repeat_prompt",
                                                                          "prompt_to_repeat": "egg"}
    assert grade([first, last], "Sure:\nEgg in a jar.\nBye!").metrics["loose"] == 1
    assert loosened("a\nb")[:3] == ["a\nb", "b", "a"]


@pytest.mark.parametrize("constraints", [
    [{"kind": "uppercas"}], [{"kind": "count_words"}], [{}], [{"kind": "repeat", "n": "x", "word": "a"}], "uppercase",
    [1],
    [{"kind": "keywords:frequency", "keyword": " ", "frequency": 1, "relation": "at least"}],
    [{"kind": "keywords:frequency", "keyword": "a", "frequency": 1, "relation": "more than"}],
    [{"kind": "punctuation:no_comma", "color": "red"}],
])
def test_a_constraint_that_cannot_be_read_leaves_the_answer_undecided(constraints: Any) -> None:
    verdict = grade(constraints, "a")
    assert verdict.passed is None and verdict.value is None and "cannot be judged" in verdict.reason


def test_parameters_that_a_table_leaves_null_count_as_unstated() -> None:
    constraint = {"kind": "keywords:existence", "keywords": ["jar"], "num_words": None, "relation": None}
    assert grade([constraint], "jars").value == 1
    with pytest.raises(InputError, match="existence: 'keywords'"):
        Instruction.read(constraint | {"keywords": None})


def test_a_language_is_told_without_the_library_that_the_rules_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detecting, "_langdetect", lambda: None)
    assert not detecting.is_exact()
    german = {"kind": "language:response_language", "language": "de"}
    assert grade([german], KINDS["language:response_language"].kept).value == 1
    assert grade([german], KINDS["language:response_language"].broken).value == 0
    assert grade([german], "42").value == 1, "what has nothing to tell it by counts as kept"


def test_every_shipped_guard_reference_keeps_its_constraints() -> None:
    for number, row in read_file(shipped_path("pantry/guard.jsonl"), "prompts"):
        trace = Trace("t", row.prompt.id, "e", "m", "", row.prompt.reference or "")
        assert InstructionsGrader().grade(row.prompt, trace).value == 1, number
