"""Arms of right and wrong answers, and arms of several parts, through the format stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localdistill.api.traces.datasets import dataset_shapes
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.events import Warned
from localdistill.core.records import Fact
from localdistill.recipe import Member
from localdistill.stages import format as formatting
from localdistill.stages.context import StageContext
from localdistill.stages.learning import candidates
from localdistill.stages.outputs import DatasetFacts, FormatOutput, read_output
from localdistill.stages.sets import ArmPart
from tests.stages.test_format import RECIPE, counts, prompt_of, rows_of, staged, trace_of
from tests.tiny_models import CHAT_TEMPLATE

PAIRS = RECIPE.replace('format = "answer_only"', 'format = "preference"').replace(
    'dtype = "float32"', 'dtype = "float32"\nobjective = { use = "dpo" }')
ALONE = PAIRS.replace('[[arm]]\nname = "original"\nformat = "original"\n', "")


def graded(folder: Path, prompts: int, wrong: int, recipe: str = ALONE) -> StageContext:
    """So many prompts with three answers each, the first right; the second is wrong at the first `wrong` of them, and
    nobody judged the third."""
    made = [prompt_of(number) for number in range(prompts)]
    context = staged(folder, [(prompt, 3) for prompt in made], CHAT_TEMPLATE, recipe)
    context.store.add_facts([
        Fact(trace_of(prompt, teacher).id, "exact", value=score, passed=score >= 1)
        for number, prompt in enumerate(made)
        for teacher, score in (("teacher0", 1.0), ("teacher1", float(number >= wrong)))])
    return context


def facts(context: StageContext, arm: str) -> DatasetFacts:
    return read_output(context.run, FormatOutput).arms[arm].facts


def test_pairs_come_of_verdicts_and_prompts_with_one_side_are_counted(tmp_path: Path) -> None:
    context = graded(tmp_path, 5, 3)
    formatting.run(context)
    rows = rows_of(context, "answers")
    assert [row["sign"] for row in rows] == [1, -1] * 3 and len({row["group"] for row in rows}) == 3
    assert all(row["trace_id"].startswith("teacher0" if row["sign"] > 0 else "teacher1") for row in rows)
    assert len({row["row_id"] for row in rows}) == 6
    said = counts(context, "answers")
    assert said["- its prompt has no wrong answer that can serve beside it"] == 4
    assert said["- nobody judged whether its answer is right"] == 5 and said["rows"] == 6 and said["prompts"] == 3
    made = facts(context, "answers")
    assert (made.groups, made.wrong, made.prompts, made.several) == (3, 3, 3, 0)
    [shape] = dataset_shapes(context.workspace, context.run)
    assert (shape.groups, shape.wrong, shape.prompts) == (3, 3, 3)


def test_a_group_with_a_row_that_does_not_fit_is_left_out_whole(tmp_path: Path) -> None:
    context = graded(tmp_path, 3, 3)
    long = trace_of(prompt_of(7), "teacher0")
    context.store.add_prompts([prompt_of(7)])
    words = " ".join(["far"] * 300)
    context.store.add_traces([long, replace(long, id="long", answer=words)])
    context.store.add_facts([Fact(long.id, "exact", value=1.0, passed=True),
                             Fact("long", "exact", value=0.0, passed=False)])
    context.run.write_ids("select", [*context.run.ids("select"), long.id, "long"])
    formatting.run(context)
    assert prompt_of(7).id not in {row["prompt_id"] for row in rows_of(context, "answers")}
    left_out = facts(context, "answers").left_out
    assert left_out["longer than 200 tokens"] == 1
    assert left_out["left out with its group: longer than 200 tokens"] == 1


def test_prompts_with_one_side_only_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LocalDistillError, match=r"arm 'answers' has nothing to train on: .*no wrong answer"):
        formatting.run(graded(tmp_path, 3, 0))


@pytest.mark.parametrize(("recipe", "said"), [
    (ALONE.replace("dpo", "sft"), "arm 'answers': the objective sft takes no wrong answers, and the format preference"),
    (PAIRS, "arm 'original': the objective dpo takes pairs of a right and a wrong answer, which the format original"),
    (ALONE.replace("preference", "signed"), "takes pairs .* which the format signed does not make"),
])
def test_an_objective_that_cannot_learn_from_a_format_is_refused_first(tmp_path: Path, recipe: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        formatting.run(graded(tmp_path, 2, 2, recipe))
    assert refused.value.hint


def test_signed_rows_go_with_an_objective_of_single_rows(tmp_path: Path) -> None:
    context = graded(tmp_path, 4, 4, ALONE.replace("preference", "signed").replace("dpo", "redi"))
    formatting.run(context)
    assert Counter(row["sign"] for row in rows_of(context, "answers")) == {1: 4, -1: 4}


def in_parts(monkeypatch: pytest.MonkeyPatch, context: StageContext, *parts: tuple[str, str, float | None],
             formats: tuple[str, ...] = ("answer_only", "answer_only")) -> None:
    """Let the arm `answers` have these parts: name, teacher, share. The arm `original` stays as it is."""
    ids = tuple(context.run.ids("select"))

    def made(_: StageContext, section: Any) -> tuple[ArmPart, ...]:
        if section.name != "answers":
            return (ArmPart(section.name, ids, Member(use="original")),)
        own = {teacher: tuple(one for one in ids if one.startswith(teacher)) for _, teacher, _ in parts}
        return tuple(ArmPart(name, own[teacher], Member(use=form), share)
                     for (name, teacher, share), form in zip(parts, formats, strict=True))

    monkeypatch.setattr(formatting, "arm_parts", made)


def test_shares_are_exact_after_what_does_not_fit_and_the_deficit_is_said(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [(prompt_of(n), 2 if n < 2 else 1) for n in range(10)]
    context = staged(tmp_path, prompts)
    in_parts(monkeypatch, context, ("many", "teacher0", 0.5), ("few", "teacher1", 0.5))
    formatting.run(context)
    rows = rows_of(context, "answers")
    assert Counter(row["trace_id"].split("-")[0] for row in rows) == {"teacher0": 3, "teacher1": 2}
    assert {row["prompt_id"] for row in rows} == {row["prompt_id"] for row in rows_of(context, "original")}
    [said] = [e for e in context.heard if isinstance(e, Warned)]  # type: ignore[attr-defined]
    assert said.arm == "answers" and "part 'few' can serve 2 of the 5 prompts" in said.text and said.hint
    made = facts(context, "answers")
    assert [(part.name, part.prompts, part.rows, part.share) for part in made.parts] == [
        ("many", 3, 3, 0.5), ("few", 2, 2, 0.5)]
    assert made.format == "answer_only@1" and counts(context, "original")["- prompt not served by every arm"] == 5


def test_parts_without_shares_all_serve_a_prompt_that_still_counts_once(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = staged(tmp_path, [(prompt_of(1), 2), (prompt_of(2), 1)])
    in_parts(monkeypatch, context, ("one", "teacher0", None), ("two", "teacher1", None))
    formatting.run(context)
    assert sorted(row["row_weight"] for row in rows_of(context, "answers")) == [0.5, 0.5, 1.0]


def test_a_part_without_rows_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = staged(tmp_path, [(prompt_of(1), 1)])
    in_parts(monkeypatch, context, ("one", "teacher0", 0.5), ("none", "teacher9", 0.5))
    with pytest.raises(LocalDistillError, match="part 'none' of arm 'answers' has nothing to train on"):
        formatting.run(context)
    in_parts(monkeypatch, context, ("one", "teacher0", 0.9), ("two", "teacher0", 0.1))
    with pytest.raises(LocalDistillError, match="part 'two' of arm 'answers' has no rows among the prompts"):
        formatting.run(context)


def test_a_format_is_given_what_is_said_of_a_trace_and_of_its_prompt(tmp_path: Path) -> None:
    context = graded(tmp_path, 1, 1)
    trace, prompt = trace_of(prompt_of(0), "teacher0"), prompt_of(0)
    context.store.add_facts([Fact(trace.id, "tokens", kind="label", value=9.0, metrics={"answer": 4.0}),
                             Fact(prompt.id, "tries", kind="label", value=2.0)])
    [(_, found)] = candidates(context.store, context.run.ids("select"))
    assert found[0].passed is True
    assert found[0].facts == {"exact": 1.0, "tokens": 9.0, "tokens_answer": 4.0, "tries": 2.0}
    [(_, scoped)] = candidates(context.store, context.run.ids("select"), [("tokens", 1, "")])
    assert scoped[0].passed is None and scoped[0].facts == {"tokens": 9.0, "tokens_answer": 4.0}


@pytest.mark.parametrize(("formats", "thinks"), [
    (("answer_only", "answer_only"), False), (("full_trace", "full_trace"), True),
    (("full_trace", "answer_only"), None)])
def test_an_arm_whose_parts_think_and_do_not_does_as_it_is_told(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formats: tuple[str, str], thinks: bool | None) -> None:
    context = staged(tmp_path, [(prompt_of(n), 2) for n in range(2)], CHAT_TEMPLATE)
    thought = [replace(trace_of(prompt_of(n), f"thinker{of}"), reasoning="Hm.", trace_kind="raw")
               for n in range(2) for of in range(2)]
    context.store.add_traces(thought)
    context.run.write_ids("select", [*context.run.ids("select"), *(trace.id for trace in thought)])
    in_parts(monkeypatch, context, ("one", "thinker0", None), ("two", "thinker1", None), formats=formats)
    formatting.run(context)
    assert facts(context, "answers").thinks is thinks
    shape = next(one for one in dataset_shapes(context.workspace, context.run) if one.arm == "answers")
    assert shape.thinks is thinks
