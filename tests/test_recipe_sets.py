"""Recipes that name engines, sets and arms: what they resolve to, and every way in which names can fail, each in one
line."""

from __future__ import annotations

import pytest

from localdistill.core.errors import RecipeError
from localdistill.core.registry import Family
from localdistill.filters import FILTERS
from localdistill.formats import FORMATS
from localdistill.recipe import dump_recipe, parse_recipe, read_resolved, recipe_schema
from localdistill.recipe.engine_uses import engine_uses, writers_of
from localdistill.recipe.trace_sets import AskedSet, ImportedSet, RewrittenSet, SelectedSet, StoredSet
from localdistill.rewrites import REWRITES

HEAD = """name = "x"
[prompts]
files = ["p.jsonl"]
[engine]
r1 = { use = "replay", path = "r1" }
v3 = { use = "replay", path = "v3" }
"""
GRADED = '[[grade]]\nuse = "exact"\n'
STUDENT = '[student]\nmodel = "m"\n'


def recipe_of(sets: str, rest: str = "", head: str = HEAD) -> str:
    return f"{head}[traces]\n{sets}\n{GRADED}{rest}"


def problems(text: str, *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "mine.toml", settings)
    return [line.removeprefix("mine.toml: ") for line in caught.value.message.splitlines()]


def test_the_whole_of_the_design_is_read() -> None:
    text = recipe_of(
        'r1 = { ask = "r1", samples = 4, temperature = 0.6, suffix = { math = "Box it.", code = "One block." } }\n'
        'concise = { ask = "r1", suffix = "Briefly." }\nv3 = { ask = "v3", filter = [] }\n'
        'summary = { from = "r1", rewrite = "summarize", summarizer = "v3", max_tokens = 99 }\n'
        'files = { files = ["a.jsonl"], layout = "messages" }\nold = { stored = "score = 1" }\n'
        'kept = { selection = "mine" }\n',
        '[[filter]]\nuse = "verified"\n' + STUDENT + '[arm]\nplain = { traces = "r1", format = "original" }\n'
        '[arm.mix]\nepochs = 1.5\nstart = "plain"\nobjective = { use = "sft", label_smoothing = 0.1 }\n'
        'parts = [{ traces = ["r1", "v3"], format = "full_trace", share = 0.2 }, '
        '{ traces = "summary", format = "reasoning_then_answer", weight = 2 }]\n'
        '[arm.every]\ntraces = "r1"\nfilter = []\nformat = "answer_only"\n')
    recipe = parse_recipe(text, settings=["collect.max_tokens=300", "collect.seed=5"])
    kinds = {one.name: type(one) for one in recipe.sets}
    assert kinds == {"r1": AskedSet, "concise": AskedSet, "v3": AskedSet, "summary": RewrittenSet, "files": ImportedSet,
                     "old": StoredSet, "kept": SelectedSet}
    r1, concise = recipe.asked[:2]
    assert (r1.samples, r1.max_tokens, r1.seed) == (4, 300, 5) and concise.samples == 1 and concise.ask == ("r1",)
    assert r1.suffix == {"math": "Box it.", "code": "One block."}
    plain, mix, every = recipe.arms
    assert [part.traces for part in mix.parts] == [("r1", "v3"), ("summary",)] and mix.sets == ("r1", "v3", "summary")
    assert (mix.parts[0].share, mix.parts[1].weight, mix.start, mix.epochs) == (0.2, 2.0, "plain", 1.5)
    assert mix.objective is not None and mix.objective.options["label_smoothing"] == 0.1
    assert every.filters == () and plain.filters is None and plain.parts[0].member.use == "original"
    assert [len(recipe.filters_of(one)) for one in recipe.sets] == [1, 1, 0, 0, 1, 1, 0]
    assert writers_of(recipe, recipe.rewrites[0]) == {"summarizer": "v3"} and recipe.engines_of("summary") == ("r1",)
    assert [(use.role, use.engine.name) for use in engine_uses(recipe)] == [
        ("teacher r1", "r1"), ("teacher r1", "r1"), ("teacher v3", "v3"), ("rewrite summary", "v3")]
    assert read_resolved(dump_recipe(recipe)) == recipe


def test_the_short_form_is_an_engine_and_a_set_of_its_name() -> None:
    short = parse_recipe('name = "x"\n[prompts]\nfiles = ["p"]\n[teacher]\nname = "r1"\nuse = "replay"\npath = "r1"\n'
                         '[collect]\nsamples = 2\ntemperature = 1.0\n')
    long = parse_recipe('name = "x"\n[prompts]\nfiles = ["p"]\n[engine.r1]\nuse = "replay"\npath = "r1"\n'
                        '[traces.r1]\nask = "r1"\nsamples = 2\ntemperature = 1.0\n')
    assert short == long
    two = parse_recipe('name = "x"\n[prompts]\nfiles = ["p"]\n[[teacher]]\nuse = "replay"\npath = "a"\n[[teacher]]\n'
                       'name = "b"\nuse = "replay"\npath = "b"\n')
    assert [(one.name, one.ask) for one in two.asked] == [("teacher", ("teacher-1", "b"))]


@pytest.mark.parametrize(("sets", "rest", "said"), [
    ('a = { ask = "r2" }', "", "traces.a.ask: there is no engine named 'r2' (known: r1, v3)"),
    ('a = { ask = "r1", sampels = 2 }', "", "traces.a.sampels: unknown key; did you mean 'samples'?"),
    ('a = { files = ["x"], samples = 2 }', "", "traces.a.samples: unknown key"),
    ('a = { aks = "r1" }', "", "traces.a: says where its traces come from: ask = ENGINE, files = [...], stored = "
     "CONDITION, selection = NAME, or from = SET with rewrite ('aks': unknown key; did you mean 'ask'?)"),
    ('a = { ask = "r1", files = ["x"] }', "", "traces.a: says where its traces come from in more than one way: ask and "
     "files"),
    ('a = { from = "a", rewrite = "extract" }', "", "traces.a.from: is made from itself"),
    ('a = { from = "b", rewrite = "extract" }\nb = { from = "a", rewrite = "extract" }', "",
     "traces.a.from: goes in a circle: a from b from a"),
    ('a = { from = "b", rewrite = "summarize" }\nb = { from = "a", rewrite = "summarize" }', "",
     "traces.a.from: goes in a circle: a from b from a"),
    ('c = { from = "a", rewrite = "summarize" }\na = { from = "b", rewrite = "extract" }\n'
     'b = { from = "a", rewrite = "extract" }', "", "traces.a.from: goes in a circle: a from b from a"),
    ('a = { ask = "r1" }\nb = { from = "aa", rewrite = "extract" }', "",
     "traces.b.from: there is no set named 'aa'; did you mean 'a'?"),
    ('a = { ask = "r1" }\nb = { from = "a", rewrite = "extrakt" }', "",
     "traces.b.rewrite: there is no rewrite named 'extrakt'; did you mean 'extract'?"),
    ('a = { ask = "r1" }\nb = { from = "a", rewrite = "extract", max_step = 3 }', "",
     "traces.b.max_step: unknown key; did you mean 'max_steps'?"),
    ('a = { files = ["x"] }\nb = { from = "a", rewrite = "summarize" }', "",
     "traces.b.summarizer: 'summarize' needs an engine: name one of [engine] (r1, v3)"),
    ('a = { ask = "r1" }\nb = { from = "a", rewrite = "summarize", summarizer = "v4" }', "",
     "traces.b.summarizer: there is no engine named 'v4' (known: r1, v3)"),
    ('a = { ask = "r1", filter = [{ use = "verifyed" }] }', "",
     "traces.a.filter[0].use: there is no filter named 'verifyed'; did you mean 'verified'?"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { traces = "b", format = "original" }',
     "arm.x.traces: there is no set named 'b' (known: a)"),
    ('a = { ask = "r1" }\nb = { ask = "v3" }', STUDENT + '[arm]\nx = { format = "original" }',
     "arm.x.traces: says which set it trains on: a, b"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { format = "original", start = "y" }\ny = { format = "original", '
     'start = "x" }', "arm.x.start: goes in a circle: x from y from x"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { format = "original", start = "x" }',
     "arm.x.start: starts from itself"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nxy = { format = "original" }\nz = { format = "original", start = "xyz" }',
     "arm.z.start: there is no arm named 'xyz'; did you mean 'xy'?"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { parts = [{ format = "original", share = 1.5 }] }',
     "arm.x.parts.0.share: Input should be less than or equal to 1"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { parts = [{ format = "original", share = 0.7 }, '
     '{ format = "full_trace", share = 0.6 }] }', "arm.x.parts: the shares add up to 1.3, more than 1"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { parts = [{ format = "original", share = 0.7 }, '
     '{ format = "full_trace", share = 0.1 }] }',
     "arm.x.parts: the shares add up to 0.8, less than 1; a part without a share takes the rest"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { parts = [{ format = "original", share = 1.0 }, '
     '{ format = "full_trace" }] }',
     "arm.x.parts: the shares add up to 1, and nothing is left for the part without one"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { parts = [{ format = "original", separater = "x" }] }',
     "arm.x.parts[0].separater: unknown key"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nx = { parts = [{ format = "original" }], format = "original" }',
     "arm.x.format: unknown key"),
    ('a = { ask = "r1" }', STUDENT + '[arm]\nbest = { format = "original" }',
     "arm.best: an arm may not be named 'best'"),
    ('a = 3', "", "traces.a: is no table"),
    ('"A b" = { ask = "r1" }', "", 'traces."A b".name: String should match pattern'),
    ('a = { ask = [] }', "", "traces.a.ask: "),
])
def test_what_names_get_wrong_is_one_line_at_its_key(sets: str, rest: str, said: str) -> None:
    found = problems(recipe_of(sets, rest))
    assert [line for line in found if line.startswith(said)], found
    assert len(found) <= 2, found


@pytest.mark.parametrize(("text", "said"), [
    (HEAD + '[teacher]\nname = "r1"\nuse = "replay"\npath = "x"\n', "teacher.name: two engines are named 'r1'"),
    (HEAD + '[traces]\nteacher = { ask = "r1" }\n[teacher]\nuse = "replay"\npath = "x"\n',
     "traces.teacher: two sets are named 'teacher': [teacher] stands for one; give it another name"),
    ('name = "x"\n[traces]\na = { ask = "r1" }\n[engine]\nr1 = { use = "replay", path = "x" }\n',
     "the set 'a' needs [prompts] with files"),
    (HEAD + '[traces]\na = { ask = "r1" }\na = { ask = "v3" }\n',
     "not valid TOML: two sets, engines, arms or keys have one name: Cannot overwrite a value (at line 9"),
    (HEAD + '[traces.a]\nask = "r1"\n[traces.a]\nask = "v3"\n',
     "not valid TOML: two sets, engines, arms or keys have one name: Cannot declare ('traces', 'a') twice (at line 9"),
    ('name = "x"\nteacher = 3\n[traces]\na = { files = ["x"] }\n', "teacher: is no table"),
    ('name = "x"\n[engine]\nr1 = 3\n[traces]\na = { files = ["x"] }\n', "engine.r1: "),
    ('name = "x"\nengine = 3\n[traces]\na = { files = ["x"] }\n', "engine: has one table for each name: [engine.NAME]"),
    ('name = "x"\n[[engine]]\nuse = "replay"\n[traces]\na = { files = ["x"] }\n',
     "engine: has one table for each name"),
    ('name = "x"\n[prompts]\nholdout = { test = 0.1 }\n[engine]\nr = { use = "replay", path = "x" }\n[traces]\n'
     'a = { ask = "r" }\n', "the set 'a' needs [prompts] with files"),
    (HEAD.replace('"]', '"]\nholdout = { test = 1.0 }') + '[traces]\na = { ask = "r1" }\n',
     "prompts.holdout.test: Input should be less than 1"),
    (HEAD + '[traces]\na = { ask = "r1", until_verified = true }\n',
     "traces.a.until_verified: needs a [[grade]] that says which answers are right"),
])
def test_sections_that_do_not_fit_are_one_line(text: str, said: str) -> None:
    assert [line for line in problems(text) if line.startswith(said)], problems(text)


def test_every_problem_of_every_section_comes_at_once() -> None:
    found = problems(recipe_of('a = { ask = "r2", sampels = 1 }\nb = { from = "c", rewrite = "extract" }',
                               '[studnt]\nmodel = "m"\n[arm]\nx = { traces = "d", format = "originl" }\n[train]\n'
                               'rnk = 3\n[export]\narm = "y"\n'))
    for said in ("traces.a.sampels: unknown key", "traces.b.from: there is no set named 'c'",
                 "studnt: unknown key; did you mean 'student'?", "arm.x.format: there is no format named 'originl'",
                 "train.rnk: unknown key; did you mean 'rank'?", "export.arm: there is no arm named 'y'",
                 "[arm] needs a [student]", "[export] needs at least one [[export.to]]"):
        assert any(line.startswith(said) for line in found), (said, found)


@pytest.mark.parametrize(("setting", "path"), [
    ("traces.a.samples=3", "sets.0.samples"), ("arm.x.format='original'", "arms.0.parts.0.format"),
    ("arm.0.format='original'", "arms.0.parts.0.format"), ("engine.r1.path='y'", "engines.0.options.path"),
    ("teacher.r1.path='y'", "engines.0.options.path"),
    ("select.filter.verified.min_score=0.5", "filters.0.options.min_score"),
    ("filter.0.min_score=0.5", "filters.0.options.min_score"), ("rewrite.s.max_steps=3", "sets.1.options.max_steps"),
    ("rewrite.0.max_steps=3", "sets.1.options.max_steps"), ("traces.files=['z']", "sets.2.files"),
    ("arm.x.rewrite='s'", "arms.0.parts.0.traces"), ("collect.max_tokens=7", "sets.0.max_tokens"),
])
def test_settings_reach_what_they_name_also_by_the_paths_of_older_shapes(setting: str, path: str) -> None:
    text = recipe_of('a = { ask = "r1" }\ns = { from = "a", rewrite = "extract" }\nf = { files = ["g"] }',
                     f'[[filter]]\nuse = "verified"\n{STUDENT}[arm.x]\ntraces = "a"\nformat = "full_trace"\n')
    before, after = (value_at(parse_recipe(text, settings=own), path) for own in ([], [setting]))
    assert before != after


def value_at(value: object, path: str) -> object:
    for key in path.split("."):
        if isinstance(value, tuple):
            value = value[int(key)]
        else:
            value = value.get(key) if isinstance(value, dict) else getattr(value, key)
    return value


@pytest.mark.parametrize(("family", "own"), [
    (REWRITES, {"from", "filter"}),
    (FORMATS, {"traces", "share", "weight", "filter", "objective", "start", "epochs", "parts"}), (FILTERS, {"use"}),
], ids=lambda value: value.noun if isinstance(value, Family) else "")
def test_no_option_of_a_member_is_called_like_a_key_of_its_table(family: Family, own: set[str]) -> None:
    for name in family.names():
        assert not own & set(family.load(name).Options.model_fields), name


def test_the_schema_says_names_as_toml_has_them() -> None:
    schema = recipe_schema()
    assert schema["properties"]["engine"]["additionalProperties"] == {"$ref": "#/$defs/EngineSection"}
    assert "name" not in schema["$defs"]["ArmSection"]["properties"]
    assert {"teacher", "collect", "engine", "traces", "label", "filter"} <= set(schema["properties"])
    assert schema["x-places"]["traces.*"] == ["rewrite", "rewrite"] and schema["x-places"]["arm.*.parts"][1] == "format"
