"""Recipes of older shapes: read as they were meant, warned of, and rewritten with their comments."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from localdistill import Problem, older_shape, problems_in, upgrade_recipe
from localdistill.cli.app import app
from localdistill.core.errors import RecipeError
from localdistill.recipe import parse_recipe, read_resolved
from localdistill.recipe.upgrading_text import upgraded_text

OLD = """# What it is for.
name = "old"

[prompts]
files = ["p.jsonl"]   # mine

[teacher]
use = "replay"
path = "r.jsonl"

[collect]
samples = 2
temperature = 0.7

[[grade]]
use = "exact"

# What is kept.
[select]
name = "mine"

[[select.filter]]     # the right ones
use = "verified"
min_score = 0.5

[[rewrite]]
name = "short"        # by rule
use = "extract"       # no model
max_tokens = 99
max_steps = 3

[[rewrite]]
name = "summary"
use = "summarize"
max_tokens = 77

[rewrite.engine]
use = "replay"
path = "writer.jsonl" # another one

[student]
model = "shipped:pantry/student"

[[arm]]
name = "a"            # the answer alone
format = "answer_only"

[[arm]]
name = "s"
format = "reasoning_then_answer"
rewrite = "summary"

[[arm]]
name = "other"
format = "answer_only"
selection = "theirs"  # saved before
"""


def test_an_older_recipe_means_what_it_meant() -> None:
    recipe = parse_recipe(OLD)
    assert {one.name: type(one).__name__ for one in recipe.sets} == {
        "teacher": "AskedSet", "short": "RewrittenSet", "summary": "RewrittenSet", "other-selection": "SelectedSet"}
    assert recipe.asked[0].samples == 2 and [one.use for one in recipe.filters] == ["verified"]
    short, summary = recipe.rewrites
    assert (short.from_, short.options) == (("teacher",), {"max_steps": 3})
    assert summary.options == {"summarizer": "summary-writer", "max_tokens": 77}
    assert recipe.engine("summary-writer").options["path"] == "writer.jsonl"
    assert {arm.name: arm.sets for arm in recipe.arms} == {"a": ("teacher",), "s": ("summary",),
                                                           "other": ("other-selection",)}


def test_the_text_keeps_comments_and_order_and_says_the_same() -> None:
    made = upgraded_text(OLD)
    assert made.older == ("[select]", "[[rewrite]]", "[[arm]]") and made.keeps_comments
    assert parse_recipe(made.text) == parse_recipe(OLD)
    assert upgraded_text(made.text).older == () and upgraded_text(made.text).text == made.text
    for comment in ("# What it is for.", "# mine", "# What is kept.", "# the right ones", "# no model", "# another one",
                    "# the answer alone"):
        assert comment in made.text, comment
    order = [line for line in made.text.splitlines() if line.startswith("[")]
    assert order == ["[prompts]", "[teacher]", "[collect]", "[[grade]]", "[[filter]]  # the right ones",
                     "[traces.short]", "[traces.summary]", "[engine.summary-writer]", "[student]",
                     "[arm.a]  # the answer alone", "[arm.s]", "[arm.other]", "[traces.other-selection]"]


@pytest.mark.parametrize(("text", "keeps"), [
    ('name = "x"\n[traces]\nfiles = [\n  "a.jsonl", # one\n]\nlimit = 3\n[[arm]]\nname = "a"\nformat = "original"\n'
     '[student]\nmodel = "m"\n', True),
    ('name = "x"\n[select]\nfrom = "kept"  # chosen before\n[student]\nmodel = "m"\n[[arm]]\n'
     'format = "original"\nname = "v1.5"\n', True),
    ('name = "x"\r\n[prompts]\r\nfiles = ["p"]\r\n[[teacher]]\r\nuse = "replay"\r\npath = "a"\r\n'
     '[[select.filter]]\r\nuse = "verified"\r\n', True),
    ('name = "x"\nselect = { filter = [{ use = "verified" }] } # inline\n[traces]\nfiles = ["a"]\n', False),
    ('name = "x"\n[traces]\nfiles = ["a"]\n[[rewrite]]\nname = "s"\nuse = "summarize"\n'
     'engine = { use = "replay", path = "w" }\n', True),
])
def test_other_old_shapes_say_the_same_in_todays(text: str, keeps: bool) -> None:
    made = upgraded_text(text)
    assert made.older and made.keeps_comments is keeps
    assert parse_recipe(made.text) == parse_recipe(text) and upgraded_text(made.text).older == ()


def test_problems_of_an_older_recipe_stand_where_its_file_has_them() -> None:
    wrong = (OLD.replace("min_score", "min_scor").replace("max_steps", "max_step").replace('"answer_only"', '"answr"')
             .replace('rewrite = "summary"', 'rewrite = "summry"').replace('name = "short" ', 'nam = "short"'))
    with pytest.raises(RecipeError) as caught:
        parse_recipe(wrong, "old.toml")
    for said in ("select.filter[0].min_scor: unknown key; did you mean 'min_score'?", "rewrite[0].name: is missing",
                 "rewrite[0].nam: unknown key", "rewrite[0].max_step: unknown key", "arm[0].format: there is no format",
                 "arm[1].rewrite: there is no set named 'summry'; did you mean 'summary'?"):
        assert f"old.toml: {said}" in caught.value.message, said


def test_an_older_shape_is_a_warning_and_the_command_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text(OLD)
    for name in ("p.jsonl", "r.jsonl", "writer.jsonl"):
        (tmp_path / name).write_text('{"question": "1 + 1?", "answer": "2"}\n')
    assert Problem("", older_shape(OLD), "warning") in problems_in(OLD) and "recipe upgrade" in older_shape(OLD)
    check = CliRunner().invoke(app, ["recipe", "check", str(path)])
    assert check.exit_code == 0 and "localdistill recipe upgrade" in check.stderr
    asked = CliRunner().invoke(app, ["recipe", "upgrade", str(path), "--check"])
    assert asked.exit_code == 1 and "[[rewrite]]" in asked.stdout and path.read_text() == OLD
    done = CliRunner().invoke(app, ["recipe", "upgrade", str(path), "--json"])
    said = json.loads(done.stdout)
    assert Path(said["old"]).read_text() == OLD and said["keeps_comments"] and said["upgraded"]
    assert older_shape(path.read_text()) == "" and parse_recipe(path.read_text()) == parse_recipe(OLD)
    assert "nothing to do" in CliRunner().invoke(app, ["recipe", "upgrade", str(path)]).stderr
    assert CliRunner().invoke(app, ["recipe", "upgrade", str(path), "--check"]).exit_code == 0
    assert len(list(tmp_path.glob("old.toml*"))) == 2
    with pytest.raises(RecipeError, match="not valid TOML"):
        (tmp_path / "bad.toml").write_text("name = ")
        upgrade_recipe(tmp_path / "bad.toml")


def test_what_older_runs_resolved_is_read() -> None:
    resolved = {
        "name": "old", "seed": 3, "prompts": {"files": ["p"], "layout": "auto", "limit": 0}, "traces": None,
        "teacher": [{"name": "", "use": "replay", "options": {"path": "r"}}],
        "collect": {"samples": 2, "temperature": 0.5},
        "grade": [{"use": "exact", "options": {}}],
        "select": {"name": "", "from": "", "filter": [{"use": "verified", "options": {"min_score": 1.0}}]},
        "rewrite": [{"name": "short", "use": "summarize", "options": {}, "engine": None, "max_tokens": 60},
                    {"name": "rule", "use": "extract", "options": {"max_steps": 4}, "max_tokens": 512,
                     "engine": {"use": "replay", "options": {"path": "unused"}}}],
        "arm": [{"name": "a", "format": "full_trace", "options": {"reasoning_weight": 0.5}, "rewrite": "short",
                 "selection": ""}],
        "student": {"model": "m", "max_tokens": 99}, "train": None, "evaluate": None, "export": None}
    recipe = read_resolved(json.dumps(resolved))
    assert (recipe.seed, recipe.asked[0].samples, recipe.asked[0].ask) == (3, 2, ("teacher",))
    assert recipe.rewrites[0].options == {"max_tokens": 60} and recipe.rewrites[1].options == {"max_steps": 4}
    assert recipe.arms[0].parts[0].options == {"reasoning_weight": 0.5} and recipe.arms[0].sets == ("short",)
    assert recipe.filters[0].options == {"min_score": 1.0} and len(recipe.engines) == 1


def test_what_looks_like_a_header_in_a_text_is_left_alone() -> None:
    text = OLD.replace('[collect]\n', '[collect]\nsystem = """\n[[arm]]\nname = "no"\n"""\n')
    made = upgraded_text(text)
    assert parse_recipe(made.text) == parse_recipe(text)
    assert tomllib.loads(made.text)["collect"]["system"] == '[[arm]]\nname = "no"\n'
