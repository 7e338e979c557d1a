"""Names with a dot (`[engine."qwen2.5"]`) are told, set, edited and moved to like any other."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localdistill import RecipeDraft, RecipeError, key_of, parse_recipe, parts_of, problems_in
from localdistill.recipe.members import members_of
from localdistill.stages.checking import check_recipe

RECIPE = """name = "x"
[prompts]
files = ["p.jsonl"]
[engine."qwen2.5"]   # a name with a dot
use = "replay"
path = "absent.jsonl"
[traces."a.b"]
ask = "qwen2.5"
[traces."a.c"]
from = "a.b"
rewrite = "extract"
filter = [{ use = "verified" }]
[student]
model = "m"
[arm."v1.0"]
traces = "a.b"
format = "full_trace"
"""


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=5), min_size=1, max_size=4))
def test_a_key_says_its_parts(parts: list[str]) -> None:
    assert parts_of(key_of(*parts)) == parts
    if all(parts):
        table: object = tomllib.loads(f"{key_of(*parts)} = 1")
        for part in parts:
            assert isinstance(table, dict)
            table = table[part]
        assert table == 1, "TOML reads the same"


@pytest.mark.parametrize(("key", "parts"), [
    ("engine.r1.model", ["engine", "r1", "model"]), ('engine."qwen2.5".model', ["engine", "qwen2.5", "model"]),
    ("engine.'qwen2.5'", ["engine", "qwen2.5"]), ("grade.0.use", ["grade", "0", "use"]), ("", [""]), (".", ["", ""]),
    ('a."', ["a", '"']), ('a."b"c.d', ["a", '"b"c', "d"]),
])
def test_keys_that_people_type_are_read(key: str, parts: list[str]) -> None:
    assert parts_of(key) == parts


def test_it_is_set_and_read_on_the_command_line() -> None:
    recipe = parse_recipe(RECIPE, settings=['engine."qwen2.5".path="y"', 'traces."a.b".samples=3',
                                            'arm."v1.0".epochs=2'])
    assert recipe.engine("qwen2.5").options["path"] == "y" and recipe.asked[0].samples == 3
    assert recipe.arms[0].epochs == 2
    with pytest.raises(RecipeError, match=r"there is no engine 'qwen2'; did you mean 'qwen2\.5'") as refused:
        parse_recipe(RECIPE, settings=['engine.qwen2.5.path="y"'])
    assert "engine.qwen2=" in refused.value.hint


def test_what_is_wrong_with_it_is_told_at_a_key_that_the_draft_knows(tmp_path: Path) -> None:
    text = RECIPE.replace('path =', 'pahth =').replace('ask = "qwen2.5"', 'ask = "qwen2"')
    text = text.replace("verified", "verifid").replace('traces = "a.b"\nformat', 'traces = "a.d"\nformat')
    found = {problem.key: problem.text for problem in problems_in(text)}
    draft = RecipeDraft(tmp_path / "r.toml", text)
    assert set(found) == {'engine."qwen2.5".path', 'engine."qwen2.5".pahth', 'traces."a.b".ask',
                          'traces."a.c".filter.0.use', 'arm."v1.0".traces'}
    assert all(draft.value(key) is not None for key, said in found.items() if said != "is missing")
    whole = {problem.key for problem in check_recipe(parse_recipe(RECIPE), tmp_path)}
    assert 'engine."qwen2.5".path' in whole
    assert {one.key for one in members_of(parse_recipe(RECIPE))} >= {
        'engine."qwen2.5"', 'traces."a.c"', 'traces."a.c".filter.0', 'arm."v1.0"'}


def test_it_is_edited_added_and_taken_out(tmp_path: Path) -> None:
    draft = RecipeDraft(tmp_path / "r.toml", RECIPE)
    assert draft.value('engine."qwen2.5".path') == "absent.jsonl"
    draft.set('engine."qwen2.5".path', "there.jsonl")
    draft.set('traces."a.b".samples', 4)
    draft.remove('traces."a.c".filter.0')
    draft.add("engine", {"use": "replay", "path": "z"}, draft.free_name("engine", "qwen2.5"))
    draft.add("arm", {"traces": "a.c", "format": "original"}, "v1.1")
    said = tomllib.loads(draft.text)
    assert said["engine"] == {"qwen2.5": {"use": "replay", "path": "there.jsonl"},
                              "qwen2.5-2": {"use": "replay", "path": "z"}}
    assert said["traces"]["a.b"]["samples"] == 4 and said["traces"]["a.c"].get("filter", []) == []
    assert said["arm"]["v1.1"] == {"traces": "a.c", "format": "original"}
    assert "# a name with a dot" in draft.text and draft.problems() == []
    draft.remove('engine."qwen2.5-2"')
    draft.remove('arm."v1.1"')
    assert set(tomllib.loads(draft.text)["engine"]) == {"qwen2.5"} and "v1.1" not in draft.text
