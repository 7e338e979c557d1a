"""The form of a recipe as values: what is derived from the schema, and that every value reads back as it was."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill import display_safe, recipe_schema
from tests.helpers import REPO
from tui.recipe_fields import RecipeSection, sections_of, text_of, value_of
from tui.widgets.facts import fact_lines
from tui.widgets.toml_pane import is_editable, line_of

SCHEMA = recipe_schema()
LETTERS = st.characters(blacklist_categories=("Cs",))
PLAIN = st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(LETTERS))
DEEP = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text(LETTERS, max_size=5), inner, max_size=3), max_leaves=8)


def sections(data: dict[str, Any]) -> dict[str, RecipeSection]:
    return {section.key: section for section in sections_of(SCHEMA, data)}


def test_a_recipe_becomes_sections_with_the_options_of_its_members() -> None:
    found = sections(tomllib.loads((REPO / "recipes/pantry.toml").read_text()))
    assert found["traces.summary"].depth == 0 and not found["traces.summary"].addable
    rewritten = {field.name: field for field in found["traces.summary"].fields}
    assert rewritten["rewrite"].kind == "choice" and rewritten["summarizer"].help and "samples" not in rewritten
    teacher = {field.name: field for field in found["teacher.0"].fields}
    assert teacher["use"].kind == "choice" and "llama_cpp" in teacher["use"].choices
    assert teacher["parallel"].default == "16" and teacher["model"].value == "shipped:pantry/teacher.gguf"
    assert teacher["parallel"].help and "at least" in teacher["parallel"].help
    assert found["filter.0"].depth == 0 and found["filter"].addable
    assert not found["student"].addable and found["collect"].is_present
    assert [f.name for f in found["arm.original"].fields][:2] == ["traces", "format"]
    assert found["arm"].is_by_name and found["arm"].picked_by == "format"
    assert [kind for kind, _ in found["traces"].addable] == ["ask", "files", "stored", "selection", "from"]


def test_every_member_of_every_family_can_be_filled_in() -> None:
    members = SCHEMA["x-members"]
    for place, noun in (("teacher", "engine"), ("grade", "grader"), ("filter", "filter")):
        for member, options in members[noun].items():
            found = sections({place: [{"use": member}]})
            names = {field.name for field in found[f"{place}.0"].fields}
            assert set(options.get("properties", {})) <= names, (place, member)
    for place, noun, table in (("engine", "engine", {"use": ""}), ("traces", "rewrite", {"from": "a", "rewrite": ""}),
                               ("arm", "format", {"format": ""})):
        for member, options in members[noun].items():
            found = sections({place: {"mine": {**table, next(reversed(table)): member}}})
            names = {field.name for field in found[f"{place}.mine"].fields}
            assert set(options.get("properties", {})) <= names, (place, member)


def test_what_a_named_table_does_not_nest_is_a_field_and_what_it_nests_a_section() -> None:
    found = sections({"arm": {"a": {"format": "original"}, "b": {"parts": [{"format": "original"}], "filter": []}}})
    assert {"filter", "objective", "parts"} <= {field.name for field in found["arm.a"].fields}
    assert found["arm.b.parts.0"].depth == 1 and found["arm.b.filter"].addable
    assert "filter" not in {field.name for field in found["arm.b"].fields}


def test_an_unknown_key_gets_a_field_of_its_own() -> None:
    field = next(f for f in sections({"collect": {"sampels": 3}})["collect"].fields if f.name == "sampels")
    assert not field.is_known and field.value == 3


def test_odd_shapes_do_not_break_the_form() -> None:
    for data in ({"teacher": 3}, {"grade": "x"}, {"collect": []}, {"arm": [1, {}]}, {"train": {"use": 4}}):
        assert sections(data)


@settings(deadline=None)
@given(DEEP)
def test_a_value_reads_back_as_it_was(value: Any) -> None:
    for kind in ("text", "toml") if isinstance(value, str) else ("toml",):
        text = text_of(value, kind)  # type: ignore[arg-type]
        if value != "":
            assert value_of(text, kind) == value  # type: ignore[arg-type]
        assert display_safe(text) == text and "\n" not in text


def test_what_is_no_value_of_its_kind_stays_text() -> None:
    assert value_of("12", "number") == 12 and value_of("abc", "number") == "abc"
    assert value_of("true", "switch") is True and value_of("  ", "text") is None
    assert value_of("12", "text") == "12" and value_of("[1, 2", "toml") == "[1, 2"


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=200)), max_size=5), st.integers(20, 120))
def test_facts_wrap_below_themselves(rows: list[tuple[str, str]], width: int) -> None:
    pieces = fact_lines(rows, width)
    for kind, text in pieces:
        if kind == "text":
            assert all(row.startswith("  ") for row in text.split("\n")[1:])


def test_sections_are_found_in_the_text() -> None:
    text = "a = 1\n[collect]\n[[grade]]\nuse = 1\n [[ grade ]]\n[select]\n[[select.filter]]\n"
    assert [line_of(text, key) for key in ("", "collect", "grade.0", "grade.1", "select.filter.0", "train")] == [
        0, 1, 2, 4, 6, None]


@pytest.mark.parametrize(("text", "can"), [("a = 1\n", True), ("a = '\x1b[31m'", False), ("a = '\u202e'", False),
                                           ("x" * 5000, False)])
def test_only_what_a_terminal_shows_as_it_is_can_be_edited(text: str, can: bool) -> None:
    assert is_editable(text) is can
