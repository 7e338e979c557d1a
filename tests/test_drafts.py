"""A recipe file while it is edited: comments and order stay, problems stand at their keys, nobody's version is lost."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from localdistill import (
    ChangedElsewhere,
    InputError,
    LocalDistillError,
    RecipeDraft,
    RecipeError,
    UsageError,
    new_recipe,
    problems_in,
)
from localdistill.cli.app import app
from tests.helpers import REPO

PANTRY = (REPO / "recipes/pantry.toml").read_text()
KEYS = ("seed", "max_usd", "collect.samples", "collect.system", "teacher.0.model", "grade.1.use", "train.rank",
        "evaluate.max_tokens", "prompts.files", "filter.0.use", "train.objective.use", "export.arm")
VALUES = st.one_of(st.integers(-5, 5), st.text(st.characters(blacklist_categories=("Cs",)), max_size=8), st.booleans(),
                   st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=3), max_size=2))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return new_recipe(tmp_path / "mine.toml", "pantry")


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_is_set_reads_back_and_everything_else_stays(edits: list[tuple[str, object]]) -> None:
    draft = RecipeDraft(Path("mine.toml"), PANTRY)
    expected: dict[str, object] = {}
    for key, value in edits:
        draft.set(key, value)
        expected[key] = value
    for key, value in expected.items():
        assert draft.value(key) == value
    before, after = tomllib.loads(PANTRY), tomllib.loads(draft.text)
    assert after["arm"] == before["arm"]
    assert [row for row in PANTRY.splitlines() if row.startswith("#")] == [
        row for row in draft.text.splitlines() if row.startswith("#")]


def test_comments_and_order_stay_when_tables_come_and_go(mine: Path) -> None:
    draft = RecipeDraft.open(mine)
    draft.add("grade", {"use": "math"})
    draft.add("teacher", {"use": "llama_cpp", "name": "second", "model": "x.gguf"})
    draft.remove("filter.0")
    draft.remove("export")
    assert [row["use"] for row in draft.value("grade")] == ["exact", "instructions", "math"]
    assert [row.get("name") for row in draft.value("teacher")] == [None, "second"]
    assert "# the stories" in draft.text and "export" not in draft.data
    assert draft.problems() == []


def test_an_emptied_list_leaves_no_header(mine: Path) -> None:
    draft = RecipeDraft.open(mine)
    while draft.value("grade"):
        draft.remove("grade.0")
    assert "[[grade]]" not in draft.text and "grade" not in draft.data


def test_every_problem_stands_at_its_key(mine: Path) -> None:
    draft = RecipeDraft.open(mine)
    draft.set("grade.0.use", "exakt")
    draft.set("collect.samples", "many")
    draft.set("filter.0.min_scor", 1)
    draft.set("train.rnk", 3)
    found = {problem.key: problem.text for problem in draft.problems()}
    assert "did you mean 'exact'?" in found["grade.0.use"]
    assert "integer" in found["collect.samples"]
    assert "did you mean 'min_score'?" in found["filter.0.min_scor"]
    assert "did you mean 'rank'?" in found["train.rnk"]


def test_text_that_is_no_toml_is_one_problem_and_is_never_replaced() -> None:
    draft = RecipeDraft(Path("x.toml"), 'name = "a\nseed = ')
    assert "not valid TOML" in draft.problems()[0].text and draft.data == {}
    with pytest.raises(LocalDistillError):
        draft.set("seed", 3)
    assert draft.text == 'name = "a\nseed = '
    assert problems_in("")[0].text


def test_saving_over_what_somebody_else_wrote_is_refused_and_both_can_be_kept(mine: Path) -> None:
    draft = RecipeDraft.open(mine)
    draft.set("seed", 7)
    mine.write_text("# theirs\n" + PANTRY)
    assert draft.is_changed_elsewhere()
    with pytest.raises(ChangedElsewhere):
        draft.save()
    assert mine.read_text().startswith("# theirs")
    aside = draft.save_over()
    assert aside.read_text().startswith("# theirs") and "seed = 7" in mine.read_text()

    draft.set("seed", 8)
    mine.write_text("# again\n" + PANTRY)
    kept = draft.take_theirs()
    assert "seed = 8" in kept.read_text() and draft.text.startswith("# again") and not draft.is_changed
    draft.set("seed", 9)
    draft.save()
    assert "seed = 9" in mine.read_text() and not draft.is_changed_elsewhere()


def test_a_file_that_was_removed_meanwhile_is_written_again(mine: Path) -> None:
    draft = RecipeDraft.open(mine)
    mine.unlink()
    draft.set("seed", 1)
    draft.save()
    assert "seed = 1" in mine.read_text()


def test_unsaved_edits_outlive_the_session(mine: Path) -> None:
    draft = RecipeDraft.open(mine)
    draft.set("seed", 7)
    draft.keep()

    later = RecipeDraft.open(mine)
    left = later.left_over()
    assert left is not None and "seed = 7" in left
    later.keep()  # nothing was decided yet: the edits stay
    assert RecipeDraft.open(mine).left_over() == left
    later.set("seed", 8)
    later.keep()  # edits of this session set the older ones aside
    assert "seed = 7" in (mine.parent / "mine.toml.mine-1").read_text()

    last = RecipeDraft.open(mine)
    kept = last.left_over()
    assert kept is not None
    last.take_up(kept)
    last.save()
    assert "seed = 8" in mine.read_text() and RecipeDraft.open(mine).left_over() is None


def test_a_new_recipe_never_overwrites(mine: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        new_recipe(mine, "pantry")
    with pytest.raises(InputError, match="toml"):
        new_recipe(mine.with_suffix(".txt"), "pantry")
    with pytest.raises(RecipeError, match="pantri"):
        new_recipe(mine.with_name("other.toml"), "pantri")
    with pytest.raises(InputError, match="cannot be written"):
        new_recipe(mine.parent / "no-such-folder/x.toml", "pantry")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="UTF-8"):
        RecipeDraft.open(tmp_path / "x.toml")
    with pytest.raises(RecipeError, match="cannot be read"):
        RecipeDraft.open(tmp_path / "y.toml")


def test_the_command_line_changes_a_recipe(mine: Path) -> None:
    result = CliRunner().invoke(app, ["recipe", "set", str(mine), "seed=5", "collect.system=be brief",
                                      "--add", "grade=math", "--remove", "filter.0"])
    assert result.exit_code == 0, result.output
    draft = RecipeDraft.open(mine)
    assert draft.value("seed") == 5 and draft.value("collect.system") == "be brief"
    assert draft.value("grade.2.use") == "math" and draft.problems() == []
    result = CliRunner().invoke(app, ["recipe", "set", str(mine), "--add", "arm=full_trace", "--add", "engine=replay",
                                      "traces.again.ask=replay"])
    assert result.exit_code == 0, result.output
    draft = RecipeDraft.open(mine)
    assert draft.value("arm.full_trace-2") == {"format": "full_trace"} and draft.value("engine.replay.use") == "replay"
    assert [problem.key for problem in draft.problems()] == [
        "engine.replay.path", "arm.original.traces", "arm.answer_only.traces", "arm.full_trace.traces",
        "arm.full_trace-2.traces"]
    refused = CliRunner().invoke(app, ["recipe", "set", str(mine), "--add", "traces=x"])
    assert isinstance(refused.exception, UsageError) and "traces.NAME.ask" in refused.exception.hint
    result = CliRunner().invoke(app, ["recipe", "set", str(mine), "seed=many"])
    assert "seed:" in result.output
