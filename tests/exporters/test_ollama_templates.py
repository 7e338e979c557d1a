"""Ollama renders what was trained: texts that Go made of our templates are those of the chat template, byte by byte."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from localdistill.core.errors import TemplateRefused
from localdistill.core.messages import Message
from localdistill.exporters.ollama_parts.go_template import go_template
from localdistill.modelfiles.architectures import ARCHITECTURES
from localdistill.templates import ChatTemplate
from tests.exporters.ollama_go import CASES, STORED, TALKS, Case, digest, go, rendered_by_go
from tests.exporters.student_templates import BOS, OF_ARCHITECTURES, template_of

ODD = ("a", "7", " ", "\n", '"', "\\", "{{", "}}", "ü", "`", "\t", "0")
EVERY = pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)


@pytest.fixture(scope="module")
def stored() -> dict[str, dict[str, object]]:
    """What Go rendered."""
    found: dict[str, dict[str, object]] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


def trained(case: Case, talk: list[Message]) -> str | None:
    """The prompt that training and evaluation show, without what the file puts before every prompt."""
    try:
        return template_of(case.name).prompt(talk, case.way).removeprefix(BOS)
    except TemplateRefused:
        return None


def ours(case: Case, talk: list[Message]) -> str | None:
    try:
        return case.template.render(talk, case.way)
    except TemplateRefused:
        return None


@EVERY
def test_go_and_we_render_what_was_trained(case: Case, stored: dict[str, dict[str, object]]) -> None:
    found = stored[case.key]
    assert found["template"] == digest(case.template), "it changed: python -m tests.exporters.ollama_go renders anew"
    assert found["texts"] == [trained(case, talk) for talk in TALKS] == [ours(case, talk) for talk in TALKS]


def test_every_architecture_has_the_forms_of_its_models() -> None:
    assert {kind.model_type for kind in ARCHITECTURES.values()} == set(OF_ARCHITECTURES)
    assert {name for names in OF_ARCHITECTURES.values() for name in names} == {case.name for case in CASES}


def test_the_marks_that_ollama_finds_are_those_that_the_student_writes(stored: dict[str, dict[str, object]]) -> None:
    marks = {case.key: stored[case.key]["marks"] for case in CASES}
    assert marks["switched, thinks"] == marks["switched, both, told None"] == ["<think>", "</think>"]
    assert marks["kept_thoughts, thinks"] == ["[THINK]", "[/THINK]"]
    assert marks["switched, silent"] == ["", ""], "it counts as a model that cannot think"


@pytest.mark.slow
def test_go_renders_the_stored_texts_and_others(tmp_path: Path, stored: dict[str, dict[str, object]]) -> None:
    if go() is None:
        pytest.skip("Go is not installed: apt install golang-go")
    assert rendered_by_go(CASES, TALKS, tmp_path) == stored
    draw = random.Random(3)
    talks = [conversation(draw) for _ in range(40)]
    for case, found in zip(CASES, rendered_by_go(CASES, talks, tmp_path).values(), strict=True):
        assert found["texts"] == [trained(case, talk) for talk in talks], case.key


def conversation(draw: random.Random) -> list[Message]:
    """Turns of odd texts, with thoughts and a system message at times."""
    def text() -> str:
        return "".join(draw.choice(ODD) for _ in range(9)) + "."

    turns = [Message("system", text())] if draw.random() < 0.4 else []
    for _ in range(draw.randrange(3)):
        turns += [Message("user", text()), Message("assistant", text(), text() if draw.random() < 0.5 else "")]
    return [*turns, Message("user", text())]


@pytest.mark.parametrize("source", [
    "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "{% for m in messages %}[{{ m.role }}]{{ m.content | replace('a', 'b') }}{% endfor %}[assistant]",
    "{% for m in messages %}[{{ m.role }} {{ loop.index }}]{{ m.content }}{% endfor %}[assistant]",
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim('.') }}{% endfor %}[assistant]",
    "{{ messages[-1].content }}",
])
def test_a_template_that_is_no_form_of_turns_gets_none(source: str) -> None:
    assert go_template(ChatTemplate(source, isolated=False), True, "") is None


def test_what_the_file_puts_before_a_prompt_is_not_written_twice() -> None:
    ask = [Message("user", "?")]
    with_bos, without = (go_template(template_of("ruleless"), False, lead) for lead in ("", BOS))
    assert with_bos is not None and without is not None
    assert with_bos.render(ask) == BOS + without.render(ask) and not without.render(ask).startswith(BOS)
