"""Recipes: every problem at once, with the nearest key; settings; round trip; every shipped recipe loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill.core.errors import RecipeError
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
        (SMALL + '[[arm]]\nname = "a"\nformat = "original"', "[arm] needs a [student]"),
        (SMALL + '[student]\nmodel = "m"\n[[arm]]\nname = "base"\nformat = "original"', "may not be named 'base'"),
        (
            SMALL + '[student]\nmodel = "m"\n[[arm]]\nname = "a"\nformat = "original"\nrewrite = "s"',
            "arm[0].rewrite: there is no set named 's'",
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
    assert recipe.arms[0].parts[0].format == "full_trace"
    assert recipe.student is not None and recipe.student.max_tokens == 99
    assert recipe.seed == 7
    assert "there is no arm 'b'" in problems(text, ("arm.b.format=1",))
    assert "section.key=value" in problems(text, ("arm",))


WHOLE = SMALL + """
[student]
model = "m"
[[arm]]
name = "a"
format = "answer_only"
[train]
[evaluate]
[[evaluate.task]]
use = "pantry"
"""


@pytest.mark.parametrize(("more", "expected"), [
    ("engine_options = { batch_row = 4 }",
     "evaluate.engine_options.batch_row: unknown key; did you mean 'batch_rows'?"),
    ("engine_options = { batch_rows = 'many' }", "evaluate.engine_options.batch_rows: Input should be a valid"),
    ("engine_options = { dtype = 'bf16' }", "evaluate.engine_options.dtype: "),
    ("engine_options = { device = 'gpu' }", "evaluate.engine_options.device: "),
    ("engine_options = { model = 'other' }", "evaluate.engine_options.model: is filled in by the evaluation itself"),
    ("engine_options = { adapter = 'other' }", "evaluate.engine_options.adapter: is filled in"),
    ("[[evaluate.task]]\nuse = 'jsonl'\npath = 'x'\ngrader = 'exakt'",
     "evaluate.task[1].grader: there is no grader named 'exakt'; did you mean 'exact'?"),
    ("[[evaluate.task]]\nuse = 'jsonl'\npath = 'x'\nlayout = 'gsm9k'",
     "evaluate.task[1].layout: there is no layout named 'gsm9k'; did you mean 'gsm8k'?"),
    ("[[export.to]]\nuse = 'gguf'\nquants = ['Q8_0']\n[[export.to]]\nuse = 'ollama'\nquant = 'Q8_O'",
     "export.to[1].quant: no exporter before it writes Q8_O; did you mean 'Q8_0'?"),
    ("[[export.to]]\nuse = 'ollama'\nquant = 'Q8_0'\n[[export.to]]\nuse = 'gguf'",
     "export.to[0].quant: no exporter before it writes Q8_0"),
    ("[[rewrite]]\nname = 's'\nuse = 'summarize'", "rewrite[0].engine: 'summarize' needs an engine: name one"),
    ("[train.objective]\nuse = 'sft'\nlabel_smoothing = 1.0", "train.objective.label_smoothing: "),
])
def test_what_would_be_found_after_training_is_found_when_the_recipe_is_read(more: str, expected: str) -> None:
    head, tail = WHOLE.split("[[evaluate.task]]")
    assert expected in problems(head + (more if more.startswith("engine") else "") + "\n[[evaluate.task]]" + tail
                                + ("" if more.startswith("engine") else more))


@pytest.mark.parametrize("more", [
    "[[evaluate.task]]\noptions = 3", "[[export.to]]\noptions = { quants = 5 }", "[[rewrite]]\nuse = ['summarize']",
    "[prompts]\nfiles = ['p']\nlayout = ['gsm8k']", "[[export.to]]\nuse = 'gguf'\nquants = 3",
])
def test_values_of_a_wrong_shape_are_problems_too(more: str) -> None:
    assert "mine.toml: " in problems(WHOLE + more)


@pytest.mark.parametrize(("setting", "expected"), [
    ('train.targets="q_prox"', "train.targets: a student has no layers named 'q_prox'; did you mean 'q_proj'?"),
    ('train.targets="q_proj,all-linear"', "no layers named 'all-linear'"),
    ('train.device="gpu0"', "train.device: "),
])
def test_layers_and_devices_are_known_names(setting: str, expected: str) -> None:
    assert expected in problems(WHOLE, (setting,))
    recipe = parse_recipe(WHOLE, settings=('train.targets="q_proj, v_proj"', 'train.device="cuda:1"'))
    assert recipe.train is not None and recipe.train.options["device"] == "cuda:1"


def test_options_of_the_evaluation_keep_what_was_given_and_nothing_else() -> None:
    recipe = parse_recipe(WHOLE, settings=("evaluate.engine_options={ batch_rows = 4, dtype = 'float32' }",))
    assert recipe.evaluate is not None
    given = {"batch_rows": 4, "dtype": "float32"}
    assert recipe.evaluate.engine_options == given, "a default would hide how it trained"


@pytest.mark.parametrize("setting", ["arm.x=1", "arm.9=1", "arm.-1=1", "arm.²=1", "name.first=1", "name.a.b=1",
                                     "grade.0.use.x=1"])
def test_settings_that_lead_nowhere_are_one_clear_line(setting: str) -> None:
    assert f"--set {setting}: " in problems(WHOLE, (setting,))


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
