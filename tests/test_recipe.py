"""Recipes: every problem at once, with the nearest key; settings; round trip; every shipped recipe loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill.errors import RecipeError
from localdistill.modelfiles.shipped import recipe_file, shipped_recipes
from localdistill.recipe import dump_recipe, load_recipe, parse_recipe, read_resolved, recipe_schema

SMALL = """
name = "small"
[traces]
files = ["rows.jsonl"]
[[grade]]
use = "exact"
"""


def problems(text: str, settings: tuple[str, ...] = ()) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "mine.toml", settings)
    assert caught.value.exit_code == 2
    return caught.value.message


@pytest.mark.parametrize("path", shipped_recipes(), ids=lambda p: p.stem)
def test_every_shipped_recipe_loads_and_opens_with_its_command(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    head = path.read_text().split("\n\n")[0]
    assert "# Run it:" in head and "localdistill" in head and recipe.description


def test_all_problems_are_reported_at_once_with_file_key_and_nearest_name() -> None:
    text = SMALL + '[colect]\nsamples = 1\n[student]\nmodell = "x"\n[[arm]]\nname = "a"\nformat = "full_trase"\n'
    message = problems(text)
    assert "mine.toml: colect: unknown key; did you mean 'collect'?" in message
    assert "student.modell: unknown key; did you mean 'model'?" in message
    assert "student.model: is missing" in message
    assert "arm[0].format: there is no format named 'full_trase'; did you mean 'full_trace'?" in message


def test_options_of_members_are_checked_where_they_stand() -> None:
    message = problems(SMALL + '[[select.filter]]\nuse = "verified"\nmin_scor = 1\n')
    assert "select.filter[0].min_scor: unknown key; did you mean 'min_score'?" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name = "x"', "nothing to work on"),
        (SMALL + '[export]\narm = "base"\n', "[export] needs at least one [[export.to]]"),
        ('name = "x"\n[prompts]\nfiles = ["a"]', "[prompts] needs a [teacher]"),
        (SMALL + '[[arm]]\nname = "a"\nformat = "original"', "[[arm]] needs a [student]"),
        (SMALL + '[student]\nmodel = "m"\n[[arm]]\nname = "base"\nformat = "original"', "may not be named 'base'"),
        (
            SMALL + '[student]\nmodel = "m"\n[[arm]]\nname = "a"\nformat = "original"\nrewrite = "s"',
            "no rewrite named 's'",
        ),
        (SMALL.replace("small", "Not A Name"), "name"),
        ("name = ", "not valid TOML"),
    ],
)
def test_what_sections_miss_is_said(text: str, expected: str) -> None:
    assert expected in problems(text)


def test_settings_are_toml_and_reach_list_items_by_name() -> None:
    text = SMALL + '[student]\nmodel = "m"\n[[arm]]\nname = "a"\nformat = "original"\n'
    recipe = parse_recipe(text, settings=['arm.a.format="full_trace"', "student.max_tokens=99", "seed=7"])
    assert recipe.arms[0].format == "full_trace"
    assert recipe.student is not None and recipe.student.max_tokens == 99
    assert recipe.seed == 7
    assert "no item 'b'" in problems(text, ("arm.b.format=1",))
    assert "section.key=value" in problems(text, ("arm",))


def test_a_resolved_recipe_reads_back_equal() -> None:
    for path in shipped_recipes():
        recipe = load_recipe(path)
        assert read_resolved(dump_recipe(recipe)) == recipe


def test_recipes_hold_no_dotted_imports() -> None:
    assert "no grader named 'os.system'" in problems(SMALL.replace("exact", "os.system"))


def test_the_schema_documents_every_field() -> None:
    schema = recipe_schema()
    members = [options for family in schema["x-members"].values() for options in family.values()]
    sections = [section for name, section in schema["$defs"].items() if name.endswith("Section")]
    for model in [*members, *sections]:
        for name, field in model.get("properties", {}).items():
            assert field.get("description"), f"{model['title']}.{name} has no text"


def test_a_folder_of_a_recipes_name_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pantry").mkdir()
    monkeypatch.chdir(tmp_path)
    assert recipe_file("pantry").name == "pantry.toml" and recipe_file("pantry").is_file()
