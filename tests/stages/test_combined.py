"""Several graders as one, in a recipe: whom its parts ask is known, metered and told apart like anybody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill.core.errors import RecipeError
from localdistill.recipe import parse_recipe
from localdistill.recipe.engine_uses import engine_uses
from localdistill.recipe.members import members_of
from localdistill.stages import grade
from localdistill.stages.checking import check_recipe
from tests.stages.test_collecting import Chain
from tests.stages.test_facts import answers, asked, facts_of, record, verdicts
from tests.toys import with_judge

__all__ = ["asked"]


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    with_judge(monkeypatch)


def recipe_of(root: Path, count: int, combined: str) -> str:
    from tests.helpers import write_questions

    questions = write_questions(root / "q.jsonl", count)
    return f"""
name = "t"
[prompts]
files = ["{questions}"]
[teacher]
use = "replay"
path = "{root / 'said.jsonl'}"
[engine.strict]
use = "replay"
path = "{root / 'judge.jsonl'}"
[[grade]]
use = "combined"
{combined}
"""


JUDGE = '{ use = "toy_judge", judge = "strict" }'


def test_the_first_grader_that_can_speaks_and_the_judge_is_asked_about_the_rest_alone(
        tmp_path: Path, asked: list[str]) -> None:
    said = [(question, answer.replace("is 4", "is 5")) for question, answer in answers(4)]
    record(tmp_path / "said.jsonl", said)
    record(tmp_path / "judge.jsonl", verdicts(said))
    for combined, questions in ((f'rule = "first"\nof = ["exact", {JUDGE}]', 0),
                                (f'rule = "all"\nof = ["exact", {JUDGE}]', 4)):
        asked.clear()
        chain = Chain(tmp_path, recipe_of(tmp_path, 4, combined))
        chain.collect()
        grade.run(chain.context())
        assert sum(one.startswith("Check") for one in asked) == questions
    facts = facts_of(chain)
    assert len(facts) == 8 and {fact.by for fact in facts} == {"combined"}
    assert len({fact.variant for fact in facts}) == 2, "another rule is another variant"


def test_a_new_version_of_a_part_judges_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.graders.exact import ExactGrader

    record(tmp_path / "said.jsonl", answers(2))
    recipe = recipe_of(tmp_path, 2, 'of = ["exact"]')
    chain = Chain(tmp_path, recipe)
    chain.collect()
    grade.run(chain.context())
    grade.run(chain.context())
    assert len(facts_of(chain)) == 2
    monkeypatch.setattr(ExactGrader, "version", ExactGrader.version + 1)
    grade.run(chain.context())
    assert len(facts_of(chain)) == 4


def test_who_is_asked_by_a_part_is_known_before_anything_runs(tmp_path: Path) -> None:
    recipe = parse_recipe(recipe_of(tmp_path, 1, f'of = ["exact", {JUDGE}]'))
    assert [(use.role, use.engine.name) for use in engine_uses(recipe)] == [
        ("teacher", "teacher"), ("grader toy_judge", "strict")]
    assert {one.key: one.member.use for one in members_of(recipe) if one.key.startswith("grade")} == {
        "grade.0": "combined", "grade.0.of.0": "exact", "grade.0.of.1": "toy_judge"}


@pytest.mark.parametrize(("combined", "said"), [
    ('of = ["exakt"]', "grade[0].of[0]: there is no grader named 'exakt'; did you mean 'exact'?"),
    ('of = ["toy_judge"]', "grade[0].of[0].judge: 'toy_judge' needs an engine"),
    ('of = [{ use = "exact", ignore_cases = true }]', "ignore_cases: unknown key"),
    ('of = [{ use = "toy_judge", judge = "strickt" }]', "did you mean 'strict'?"),
    ('of = []', "grade[0].of:"),
    ('rule = "most"', "rule"),
])
def test_what_is_wrong_in_a_part_is_one_line_at_its_key(tmp_path: Path, combined: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(recipe_of(tmp_path, 1, combined))
    assert said in caught.value.message, caught.value.message


def test_what_stands_in_the_way_of_a_part_is_known_before_anything_runs(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.safety.jail.cells import Cell, Confinement

    record(tmp_path / "said.jsonl", answers(1))
    monkeypatch.setattr(Cell, "confinement", lambda self: Confinement({"files": (), "network": (), "processes": ()}))
    problems = check_recipe(parse_recipe(recipe_of(tmp_path, 1, 'of = ["exact", "code"]')), tmp_path)
    assert [(one.key, one.kind) for one in problems if "shut in" in one.text] == [("grade.0", "error")]
