"""Rows: the weights follow the spans, the prompt is never trained, the stop token always is, nothing is ever cut."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.core.records import Example, ExampleTurn, Message, Skip, Span, content_id
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.training_rows import TokenizedRow, tokenize_example
from localdistill.templates import ChatTemplate
from tests.tiny_models import CHAT_TEMPLATE, OPENING_TEMPLATE, PLAIN_TEMPLATE, STRICT_TEMPLATE, edit_json, tiny_model

pytest.importorskip("torch")
QUESTION = "how many apples are left?"
THINKING = (Span("<think>\n", 1.0, "tag"), Span("12 - 5 = 7", 0.25, "reasoning"), Span("\n</think>\n\n", 1.0, "tag"),
            Span("The answer is 7.", 1.0, "answer"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "m", hidden=32)


def example(*spans: Span, thinks: bool = True) -> Example:
    asked = ExampleTurn("user", (Span(QUESTION, 0.0, "prompt"),))
    return Example("p1", "t1", (asked, ExampleTurn("assistant", spans)), thinks)


def made(folder: Path, value: Example, template: str = CHAT_TEMPLATE, max_tokens: int = 512) -> TokenizedRow | Skip:
    return tokenize_example(value, ChatTemplate(template, isolated=False), StudentTokenizer(folder), max_tokens)


def test_a_row_is_the_prompt_of_generation_then_the_target_then_the_stop_token(folder: Path) -> None:
    row = made(folder, example(*THINKING))
    assert isinstance(row, TokenizedRow)
    tokenizer, template = StudentTokenizer(folder), ChatTemplate(CHAT_TEMPLATE, isolated=False)
    asked = template.prompt((Message("user", QUESTION),), True)
    assert list(row.input_ids[:row.prompt_tokens]) == tokenizer.encode(asked)
    assert tokenizer.decode(row.input_ids) == asked + "".join(s.text for s in THINKING) + "<|im_end|>"
    assert set(row.weights[:row.prompt_tokens]) == {0.0}
    assert row.input_ids[-1] == 2 and row.weights[-1] == 1.0
    assert row.trained_tokens == len(row.input_ids) - row.prompt_tokens


def test_every_token_has_the_weight_of_the_span_it_starts_in(folder: Path) -> None:
    row = made(folder, example(*THINKING))
    assert isinstance(row, TokenizedRow)
    tokenizer = StudentTokenizer(folder)
    light = [token for token, weight in zip(row.input_ids, row.weights, strict=True) if weight == 0.25]
    assert tokenizer.decode(light) == "12 - 5 = 7"
    # " answer" is one token that starts in the second span, at its space.
    split = made(folder, example(Span("The", 0.0), Span(" answer is 7.", 1.0), thinks=False))
    assert isinstance(split, TokenizedRow)
    kept = [token for token, weight in zip(split.input_ids, split.weights, strict=True) if weight > 0]
    assert tokenizer.decode(kept) == " answer is 7.<|im_end|>"


def test_a_target_without_thinking_gets_the_closed_block_in_its_prompt(folder: Path) -> None:
    row = made(folder, example(Span("7"), thinks=False))
    assert isinstance(row, TokenizedRow)
    text = StudentTokenizer(folder).decode(row.input_ids)
    assert text.endswith("<think>\n\n</think>\n\n7<|im_end|>")


def test_a_tag_that_the_template_opens_is_not_written_twice(folder: Path) -> None:
    row = made(folder, example(*THINKING), OPENING_TEMPLATE)
    assert isinstance(row, TokenizedRow)
    text = StudentTokenizer(folder).decode(row.input_ids)
    assert text.count("<think>") == 1 and "<think>\n12 - 5" in text


def test_a_block_that_the_template_opens_is_closed_where_nothing_is_thought(folder: Path) -> None:
    row = made(folder, example(Span("7"), thinks=False), OPENING_TEMPLATE)
    assert isinstance(row, TokenizedRow)
    tokenizer = StudentTokenizer(folder)
    assert tokenizer.decode(row.input_ids).endswith("assistant\n<think>\n\n</think>\n\n7<|im_end|>")
    trained = [token for token, weight in zip(row.input_ids, row.weights, strict=True) if weight]
    assert tokenizer.decode(trained) == "\n</think>\n\n7<|im_end|>"
    unknown = made(folder, example(Span("7"), thinks=False),
                   OPENING_TEMPLATE.replace("<think>", "Here are my reasoning steps:"))
    assert isinstance(unknown, Skip) and "nobody knows how to close" in unknown.reason


@pytest.mark.parametrize(("opening", "closing"), [("<seed:think>", "</seed:think>"), ("[THINK]", "[/THINK]"),
                                                  ("<|START_THINKING|>", "<|END_THINKING|>")])
def test_the_block_that_a_template_opens_is_the_one_that_is_closed_whatever_it_is_called(
        folder: Path, opening: str, closing: str) -> None:
    template, tokenizer = OPENING_TEMPLATE.replace("<think>", opening), StudentTokenizer(folder)
    silent, thinking = (made(folder, one, template) for one in (example(Span("7"), thinks=False), example(*THINKING)))
    assert isinstance(silent, TokenizedRow) and isinstance(thinking, TokenizedRow)
    assert tokenizer.decode(silent.input_ids).endswith(f"{opening}\n\n{closing}\n\n7<|im_end|>")
    assert tokenizer.decode(thinking.input_ids).endswith(
        f"{opening}\n12 - 5 = 7\n{closing}\n\nThe answer is 7.<|im_end|>")


def test_channels_that_the_prompt_opens_are_closed_as_the_template_does(folder: Path) -> None:
    harmony = PLAIN_TEMPLATE.replace("{{ message['content'] }}", "{% if message.role == 'assistant' %}{% if message."
                                     "thinking %}<|channel|>analysis<|message|>{{ message.thinking }}<|end|>{% endif %}"
                                     "<|channel|>final<|message|>{% endif %}{{ message['content'] }}")
    opened = harmony + "{% if add_generation_prompt %}<|channel|>analysis<|message|>{% endif %}"
    tokenizer = StudentTokenizer(folder)
    for template in (harmony, opened):
        thinking = made(folder, example(*THINKING), template)
        assert isinstance(thinking, TokenizedRow)
        assert tokenizer.decode(thinking.input_ids).endswith(
            "assistant\n<|channel|>analysis<|message|>12 - 5 = 7<|end|><|channel|>final<|message|>"
            "The answer is 7.<|im_end|>")
    silent = made(folder, example(Span("7"), thinks=False), harmony)
    assert isinstance(silent, TokenizedRow)
    assert tokenizer.decode(silent.input_ids).endswith("assistant\n<|channel|>final<|message|>7<|im_end|>")
    assert silent.trained_tokens == len(silent.input_ids) - silent.prompt_tokens
    closed = made(folder, example(Span("7"), thinks=False), opened)
    assert isinstance(closed, TokenizedRow)
    assert tokenizer.decode(closed.input_ids).endswith(
        "analysis<|message|><|end|><|channel|>final<|message|>7<|im_end|>")


def test_reasoning_stands_in_the_marks_of_the_students_own_template(folder: Path) -> None:
    own = PLAIN_TEMPLATE.replace("{{ message['content'] }}", "{% if message.reasoning_content %}[THINK]"
                                 "{{ message.reasoning_content }}[/THINK]{% endif %}{{ message['content'] }}")
    assert own != PLAIN_TEMPLATE
    row = made(folder, example(*THINKING), own)
    assert isinstance(row, TokenizedRow)
    text = StudentTokenizer(folder).decode(row.input_ids)
    assert text.endswith("assistant\n[THINK]12 - 5 = 7[/THINK]The answer is 7.<|im_end|>")
    for template in (CHAT_TEMPLATE, own.replace("[THINK]", "<deep>").replace("[/THINK]", "</deep>")):
        assert ChatTemplate(template, isolated=False).thought_marks == ("<think>\n", "\n</think>\n\n")




def test_the_blanks_behind_an_opened_tag_are_the_templates_to_set(folder: Path) -> None:
    template = OPENING_TEMPLATE.replace("<think>\n", "<think>\n\n")
    assert template != OPENING_TEMPLATE
    row = made(folder, example(*THINKING), template)
    assert isinstance(row, TokenizedRow)
    assert "<think>\n\n12 - 5" in StudentTokenizer(folder).decode(row.input_ids)


@pytest.mark.parametrize(("value", "said"), [
    (example(Span("7", 0.0)), "no token"), (example(), "no token"),
    (example(Span("7<|im_end|>8")), "stop token before"),
    (Example("p1", "t1", (ExampleTurn("user", (Span("x"),)),), False), "assistant"),
])
def test_rows_that_teach_nothing_or_the_wrong_thing_are_skipped(folder: Path, value: Example, said: str) -> None:
    skipped = made(folder, value)
    assert isinstance(skipped, Skip) and said in skipped.reason
    assert (skipped.prompt_id, skipped.trace_id) == ("p1", "t1")


def test_a_row_that_is_too_long_is_skipped_whole(folder: Path) -> None:
    row = made(folder, example(*THINKING))
    assert isinstance(row, TokenizedRow)
    assert made(folder, example(*THINKING), max_tokens=len(row.input_ids)) == row
    skipped = made(folder, example(*THINKING), max_tokens=len(row.input_ids) - 1)
    assert isinstance(skipped, Skip) and "longer" in skipped.reason


def test_a_template_that_never_ends_a_turn_is_refused(folder: Path) -> None:
    endless = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    skipped = made(folder, example(Span("7")), endless)
    assert isinstance(skipped, Skip) and "without a stop token" in skipped.reason


SYSTEM = ExampleTurn("system", (Span("Answer in French.", 0.0, "prompt"),))


@pytest.mark.parametrize(("template", "said"), [
    (STRICT_TEMPLATE, "this student takes no instructions"),
    ("{% if messages|length > 2 %}{{ 1 / 0 }}{% endif %}" + CHAT_TEMPLATE, "ZeroDivisionError"),
    ("{% if messages|length > 2 %}{{ 'x' * 17000000 }}{% endif %}" + CHAT_TEMPLATE, "the limit is"),
    ("{% if messages|length > 2 %}{{ raise_exception('no\nway' ~ 'y' * 500) }}{% endif %}" + CHAT_TEMPLATE, "it: no"),
    ("{% if messages|length > 2 %}{{ raise_exception('') }}{% endif %}" + CHAT_TEMPLATE, "it: TemplateError"),
])
def test_a_row_that_the_template_refuses_is_skipped_with_its_reason(folder: Path, template: str, said: str) -> None:
    question = ExampleTurn("user", (Span(QUESTION, 0.0, "prompt"),))
    talk = (question, ExampleTurn("assistant", (Span("which?", 0.0, "prompt"),)), question)
    target = ExampleTurn("assistant", (Span("7"),))
    first = SYSTEM if template == STRICT_TEMPLATE else talk[0]
    refused = made(folder, Example("p1", "t1", (first, *talk[1:], target), False), template)
    assert isinstance(refused, Skip) and said in refused.reason, refused
    assert "refuses" in refused.reason and "\n" not in refused.reason and len(refused.reason) < 200
    assert isinstance(made(folder, example(Span("7"), thinks=False), template), TokenizedRow)


@pytest.mark.parametrize("template", ["{{ raise_exception('never') }}", "{% if %}"])
def test_a_template_that_renders_nothing_at_all_is_the_students_fault(folder: Path, template: str) -> None:
    with pytest.raises(ModelFileError, match="cannot render a question and its answer"):
        made(folder, example(Span("7")), template)


def test_the_last_token_of_a_row_ends_the_turn_whatever_is_stated_first(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "m", hidden=32)
    edit_json(student / "generation_config.json", eos_token_id=[0, 2])
    row = made(student, example(Span("7"), thinks=False))
    assert isinstance(row, TokenizedRow) and row.input_ids[-1] == 2 and row.weights[-1] == 1.0


def test_rows_are_named_by_their_content(folder: Path) -> None:
    first, again, other = (made(folder, example(Span(text))) for text in ("7", "7", "8"))
    assert isinstance(first, TokenizedRow) and isinstance(other, TokenizedRow)
    assert first == again and first.row_id != other.row_id


def test_what_an_example_says_of_itself_is_in_its_row_and_plain_rows_keep_the_ids_they_had(folder: Path) -> None:
    plain = example(Span("7"))
    row = made(folder, plain)
    assert isinstance(row, TokenizedRow)
    assert row.row_id == content_id("row", "p1", "t1", row.input_ids, row.weights)
    found = {row.row_id}
    changes: list[dict[str, Any]] = [{"sign": -1}, {"group": "g"}, {"group": "h"}, {"epoch": 0}, {"weight": 0.5}]
    for change in changes:
        other = made(folder, dataclasses.replace(plain, **change))
        assert isinstance(other, TokenizedRow)
        said = (other.sign, other.group, other.epoch, other.row_weight)
        assert said == tuple({"sign": 1, "group": "", "epoch": None, "weight": 1.0, **change}.values())
        found.add(other.row_id)
    assert len(found) == 6


def test_half_a_surrogate_pair_is_skipped_and_not_an_error(folder: Path) -> None:
    row = made(folder, example(Span("cut \ud83d emoji"), thinks=False))
    assert isinstance(row, Skip) and "surrogate" in row.reason
