"""What a layout writes, read again, is what it was, whatever the text, but for what the layout says that it loses."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill.core.errors import InputError
from localdistill.core.records import Message, Prompt, Trace, Usage
from localdistill.interchange import LAYOUTS, losses
from localdistill.interchange.base import Layout, Reasoning
from localdistill.interchange.files import read_file
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.losses import lost_between
from localdistill.interchange.row_files import writing_rows
from localdistill.interchange.rows import RowPlace, answer_of, imported_trace

WRITERS = [name for name in LAYOUTS.names() if LAYOUTS.load(name).writing is not None]
WAYS = [(name, reasoning) for name in WRITERS for reasoning in LAYOUTS.load(name).writing.reasoning or ("kept",)]
HOSTILE = ["<think>", "</think>", "<answer>", "</answer>", "```\n", "\n\n", " ", "\x00", "\x1b[2J", "é", "🙂", "a",
           "\u2028", "\x85", "\ufeff", "\ufdd0", "\u202e", "<|im_end|>", '"', "\\", "\\ud83d"]
SAYING = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(HOSTILE), max_size=8).map("".join))
QUESTION = SAYING.filter(lambda text: bool(text.strip()))
OPTIONAL = st.none() | SAYING
NAME = st.text(st.characters(categories=["L", "N"]), max_size=8)


@st.composite
def prompts(draw: st.DrawFn, source: str) -> Prompt:
    turns = [Message("system", text) for text in draw(st.lists(SAYING, max_size=1))]
    for asked, said in draw(st.lists(st.tuples(QUESTION, SAYING), max_size=2)):
        turns += [Message("user", asked), Message("assistant", said)]
    turns.append(Message("user", draw(QUESTION)))
    return Prompt(
        tuple(turns),
        draw(OPTIONAL),
        draw(OPTIONAL),
        draw(OPTIONAL),
        source,
        draw(NAME),
        draw(st.dictionaries(NAME, st.integers() | SAYING, max_size=2)),
    )


@st.composite
def traces(draw: st.DrawFn, prompt: Prompt, separate: bool) -> Trace:
    text = draw(SAYING)
    if draw(st.booleans()):
        answer = answer_of(text)
    elif separate:
        answer = answer_of(text, reasoning=draw(SAYING))
    else:
        answer = answer_of(text, stored=(draw(SAYING).strip(), draw(SAYING).strip()))
    facts: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "status": st.sampled_from(["complete", "length", "truncated"]),
                "trace_kind": st.sampled_from(["raw", "summary"]),
                "terms": st.sampled_from(["allowed:a", "unknown:b"]),
                "trace_source": st.sampled_from(["first.jsonl"]),
            },
        )
    )
    reason = draw(st.sampled_from([None, "stop", "length"]))
    return imported_trace(prompt, answer, "file", draw(NAME), facts, RowPlace("file", 1), reason)


@st.composite
def imported(draw: st.DrawFn, separate: bool) -> Imported:
    prompt = draw(prompts(source="file"))
    verdict = draw(st.sampled_from([(None, ""), (True, "correct"), (False, "correct")]))
    return Imported(prompt, draw(st.just(()) | st.just((Answer(draw(traces(prompt, separate)), *verdict),))))


@st.composite
def pairs(draw: st.DrawFn) -> Imported:
    prompt = draw(prompts(source="file"))
    right, wrong = (draw(traces(prompt, True).filter(lambda one: bool(one.answer or one.reasoning))) for _ in range(2))
    return Imported(prompt, (Answer(right, True, "chosen"), Answer(wrong, False, "rejected")))


def items_for(layout: type[Layout]) -> st.SearchStrategy[Imported]:
    assert layout.writing is not None
    if layout.writing.a_row == "pair":
        return pairs()
    return imported(separate=True) | imported(separate=False)


def again(name: str, item: Imported, reasoning: Reasoning = "kept") -> Imported:
    layout = LAYOUTS.load(name)()
    row = json.loads(json.dumps(layout.write(item, reasoning)))
    result: Imported = layout.read(row, 1, "file")
    return result


def has_answer(name: str, item: Imported) -> bool:
    """A row of prompt and completion has both."""
    return bool(item.answers) or name != "prompt_completion"


@pytest.mark.parametrize(("name", "reasoning"), WAYS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nothing_is_lost_that_the_layout_does_not_name(name: str, reasoning: Reasoning, data: st.DataObject) -> None:
    layout = LAYOUTS.load(name)
    item = data.draw(items_for(layout).filter(lambda one: has_answer(name, one)))
    assert lost_between(item, again(name, item, reasoning)) <= layout.writing.loses


@settings(max_examples=60, deadline=None)
@given(imported(separate=True))
def test_messages_keep_everything(item: Imported) -> None:
    assert again("messages", item) == item
    if item.answers:
        assert again("prompt_completion", item) == item


@settings(max_examples=60, deadline=None)
@given(imported(separate=False))
def test_sharegpt_keeps_everything_that_came_in_one_text(item: Imported) -> None:
    assert again("sharegpt", item) == item


@settings(max_examples=40, deadline=None)
@given(prompts(source="file"))
def test_prompts_keep_everything(prompt: Prompt) -> None:
    assert again("prompts", Imported(prompt)).prompt == prompt


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_files_keep_what_rows_keep(name: str, ending: str, tmp_path_factory: pytest.TempPathFactory,
                                   data: st.DataObject) -> None:
    layout = LAYOUTS.load(name)
    items = data.draw(st.lists(items_for(layout).filter(lambda one: has_answer(name, one)), min_size=1, max_size=4))
    path = tmp_path_factory.mktemp("out") / f"file{ending}"
    with writing_rows(path, ending, layout.writing.columns) as put:
        for item in items:
            assert not put(layout().write(item, layout.writing.reasoning[0] if layout.writing.reasoning else "kept"))
    read = [item for _, item in read_file(path, name)]
    assert len(read) == len(items)
    for item, other in zip(items, read, strict=True):
        assert lost_between(item, other) - {losses.SOURCE} <= layout.writing.loses


@pytest.mark.parametrize("name", WRITERS)
def test_what_a_layout_says_that_it_loses_is_lost(name: str) -> None:
    """So that nothing is called lost which is not: each name is found on a trace that has everything."""
    writing = LAYOUTS.load(name).writing
    prompt = Prompt((Message("system", "s"), Message("user", "q")), "r", "o", "t", "file", "mit", {"a": 1})
    one = Trace("b2:1", prompt.id, "e", "m", " thought ", "<think>\nno\n</think>\n\nyes", "length", "summary", "raw",
                "length", 3, {"top_p": 1}, Usage(1, 2), 0.1, 2.0, "b2:0", "extract@1", "other", "allowed:x",
                (Message("user", "asked"),), True)
    two = dataclasses.replace(one, answer="no", model="n")
    silent = dataclasses.replace(one, reasoning="", answer="", raw="")
    judged = (Answer(one, True, "correct"), Answer(two, False, "correct"))
    wholes = [judged] if writing.a_row == "pair" else [(judged[0],), (Answer(silent, True, "correct"),)]
    lost = {losses.FACTS, losses.HALVES}  # counted by who has facts, and by who writes the file
    plain = (Answer(dataclasses.replace(one, answer="yes")),) if writing.a_row != "pair" else wholes[0]
    odd = dataclasses.replace(prompt, messages=(Message("system", ""), Message("user", "q")))
    for asked, answers in ((prompt, wholes[0]), (prompt, wholes[-1]), (odd, plain)):
        for reasoning in writing.reasoning or ("kept",):
            item = Imported(asked, answers)
            lost |= lost_between(item, again(name, item, reasoning))
    assert lost == writing.loses | ({losses.FACTS, losses.HALVES} if writing.a_row == "prompt" else set())


def test_every_field_of_a_record_is_compared() -> None:
    """A field that nobody named is found by its own name."""
    prompt = Prompt((Message("user", "q"),))
    trace = Trace("b2:1", prompt.id, "e", "m", "r", "a")
    for field in dataclasses.fields(Trace):
        if field.name not in ("id", "prompt_id"):
            changed = dataclasses.replace(trace, **{field.name: object()}) if field.name not in (
                "reasoning", "answer") else dataclasses.replace(trace, **{field.name: "other"})
            found = lost_between(Imported(prompt, (Answer(trace),)), Imported(prompt, (Answer(changed),)))
            assert found, field.name


def test_halves_of_characters_become_replacement_characters_as_they_do_on_import(tmp_path: Path) -> None:
    for ending in (".jsonl", ".parquet"):
        path = tmp_path / f"file{ending}"
        with writing_rows(path, ending, {"question": "text"}) as put:
            assert [put({"question": text}) for text in ("a\ud83d", "b🙂", "\udc80")] == [True, False, True]
        assert [item.prompt.question for _, item in read_file(path)] == ["a\ufffd", "b🙂", "\ufffd"]


def test_a_row_of_five_million_characters_goes_out_and_comes_in(tmp_path: Path) -> None:
    prompt = Prompt((Message("user", "q"),), source="file.jsonl")
    trace = imported_trace(prompt, answer_of("a" * 1_000_000, "t\n" * 2_000_000), "file.jsonl", "m", {},
                           RowPlace("file.jsonl", 1))
    item = Imported(prompt, (Answer(trace),))
    for ending in (".jsonl.gz", ".parquet"):
        path = tmp_path / f"file{ending}"
        layout = LAYOUTS.load("messages")
        with writing_rows(path, ending, layout.writing.columns) as put:
            put(layout().write(item, "field"))
        assert [read for _, read in read_file(path, unfold=100_000)] == [item]


def test_alpaca_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(InputError, match="one system turn"):
        LAYOUTS.load("alpaca")().write(Imported(Prompt((Message("user", "a"), Message("user", "b")))))


def test_a_layout_that_is_only_read_says_so() -> None:
    readers = set(LAYOUTS.names()) - set(WRITERS)
    assert "gsm8k" in readers
    for name in readers:
        with pytest.raises(InputError, match="only read"):
            LAYOUTS.load(name)().write(Imported(Prompt((Message("user", "a"),))))
