"""read(write(x)) == x for everything that `messages`, `sharegpt` and `prompts` can hold, whatever the text."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill.core.records import Message, Prompt
from localdistill.interchange import LAYOUTS
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.rows import RowPlace, answer_of, imported_trace

SAYING = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "```\n", "\n\n", " ", "\x00", "é", "🙂", "a"]),
        max_size=8,
    ).map("".join),
)
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
def imported(draw: st.DrawFn, separate: bool) -> Imported:
    prompt = draw(prompts(source="file"))
    place = RowPlace("file", 1)
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
            },
        )
    )
    trace = imported_trace(prompt, answer, "file", draw(NAME), facts, place)
    verdict = draw(st.sampled_from([(None, ""), (True, "label"), (False, "label"), (True, "correct")]))
    return Imported(prompt, draw(st.just(()) | st.just((Answer(trace, *verdict),))))


def again(name: str, item: Imported) -> Imported:
    layout = LAYOUTS.load(name)()
    row = json.loads(json.dumps(layout.write(item)))
    result: Imported = layout.read(row, 1, "file")
    return result


@settings(max_examples=300, deadline=None)
@given(imported(separate=True))
def test_messages(item: Imported) -> None:
    assert again("messages", item) == item


@settings(max_examples=300, deadline=None)
@given(imported(separate=False))
def test_sharegpt(item: Imported) -> None:
    assert again("sharegpt", item) == item


@settings(max_examples=200, deadline=None)
@given(prompts(source="file"))
def test_prompts(prompt: Prompt) -> None:
    assert again("prompts", Imported(prompt)).prompt == prompt


def test_alpaca_keeps_what_its_table_says() -> None:
    prompt = Prompt(
        (Message("system", "s"), Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
        reference="lost",
        source="file",
    )
    trace = imported_trace(prompt, answer_of("<think>\nr\n</think>\n\nd"), "file", "lost", {}, RowPlace("file", 1))
    read = again("alpaca", Imported(prompt, (Answer(trace),)))
    assert read.prompt == Prompt(prompt.messages, source="file")
    assert read.trace is not None
    assert (read.trace.reasoning, read.trace.answer, read.trace.model) == ("r", "d", "")


def test_alpaca_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(Exception, match="one system turn"):
        LAYOUTS.load("alpaca")().write(Imported(Prompt((Message("user", "a"), Message("user", "b")))))
