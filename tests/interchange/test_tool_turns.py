"""Conversations with tools, in the forms that people exchange: what is called, answered and defined comes in, and goes
out again as it was where the target can hold it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.core.messages import Message, tools_of
from localdistill.core.records import Trace
from localdistill.interchange import LAYOUTS
from localdistill.interchange.base import Reasoning
from localdistill.interchange.files import looks_like, read_file
from localdistill.interchange.imported import Imported
from localdistill.interchange.losses import lost_between
from localdistill.templates.tool_calls import definitions_in, tool_call

TIDE = {"name": "tide", "description": "Height of the tide.", "parameters": {
    "type": "object", "properties": {"port": {"type": "string"}}}}
DEFINED = ({"type": "function", "function": TIDE},)
ASKED = {"role": "user", "content": "Is it high tide at Brest?"}
CALL = tool_call("tide", {"port": "Brest"}, "c7")
TALK = (Message("user", ASKED["content"], tools=DEFINED), Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", '{"m": 6.1}', call_id="c7"))


def read(tmp_path: Path, row: Mapping[str, Any], layout: str | None = None) -> Imported:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return next(read_file(tmp_path / "rows.jsonl", layout))[1]


def trace_of(item: Imported) -> Trace:
    assert item.trace is not None
    return item.trace


def plain(messages: Sequence[Message]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    return [(m.role, m.content, [(c["function"]["name"], c["function"]["arguments"]) for c in m.tool_calls])
            for m in messages]


WANTED = [("user", "Is it high tide at Brest?", []), ("assistant", "", [("tide", '{"port": "Brest"}')]),
          ("tool", '{"m": 6.1}', [])]
SAID = {"role": "assistant", "content": "Yes, 6.1 m."}
FUNCTION = {"name": "tide", "arguments": {"port": "Brest"}}
FORMS: dict[str, dict[str, Any]] = {
    "chat completions": {"messages": [
        ASKED, {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c7", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Brest"}'}}]},
        {"role": "tool", "tool_call_id": "c7", "content": '{"m": 6.1}'}, SAID], "tools": list(DEFINED)},
    "the older functions": {"messages": [
        ASKED, {"role": "assistant", "content": None, "function_call": FUNCTION},
        {"role": "function", "name": "tide", "content": '{"m": 6.1}'}, SAID], "functions": [TIDE]},
    "blocks": {"messages": [
        ASKED, {"role": "assistant", "content": [
            {"type": "tool_use", "id": "c7", "name": "tide", "input": {"port": "Brest"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c7", "content": '{"m": 6.1}'}]}, SAID],
        "tools": [{"name": "tide", "description": "Height of the tide.", "input_schema": TIDE["parameters"]}]},
    "typed parts": {"messages": [
        {"role": "user", "content": [{"type": "text", "value": ASKED["content"]}]},
        {"role": "assistant", "content": [{"type": "tool_call", "value": json.dumps(FUNCTION)}]},
        {"role": "tool", "content": [{"type": "text", "value": '{"m": 6.1}'}]},
        {"role": "assistant", "content": [{"type": "text", "value": "Yes, 6.1 m."}]}], "tools": json.dumps(DEFINED)},
    "ShareGPT": {"conversations": [
        {"from": "human", "value": ASKED["content"]}, {"from": "function_call", "value": json.dumps(FUNCTION)},
        {"from": "observation", "value": '{"m": 6.1}'}, {"from": "gpt", "value": "Yes, 6.1 m."}],
        "tools": json.dumps([TIDE])},
    "a result that is an object": {"conversations": [
        {"from": "human", "value": ASKED["content"]},
        {"from": "tool_call", "value": f"<tool_call>\n{json.dumps(FUNCTION)}\n</tool_call>"},
        {"from": "tool_response", "value": {"m": 6.1}}, {"from": "gpt", "value": "Yes, 6.1 m."}], "tools": [TIDE]},
}


@pytest.mark.parametrize("form", FORMS)
def test_calls_results_and_definitions_come_in_whatever_they_are_called(tmp_path: Path, form: str) -> None:
    item = read(tmp_path, FORMS[form])
    assert plain(item.prompt.messages) == WANTED and trace_of(item).answer == "Yes, 6.1 m."
    assert tools_of(item.prompt.messages) == DEFINED
    assert item.uses_tools and not trace_of(item).tool_calls


def test_a_conversation_that_ends_with_a_call_has_it_for_an_answer(tmp_path: Path) -> None:
    for form in ("chat completions", "ShareGPT", "typed parts", "blocks"):
        row = dict(FORMS[form])
        key = "conversations" if "conversations" in row else "messages"
        row[key] = row[key][:2]
        trace = trace_of(read(tmp_path, row))
        assert (trace.status, trace.answer) == ("complete", "") and trace.called == ('tide({"port": "Brest"})',)
        assert read(tmp_path, row).trace == trace


def test_what_is_said_and_thought_before_a_call_is_one_turn_with_it(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "<think>\neasy\n</think>\n\nI look."},
             {"from": "function_call", "value": json.dumps([FUNCTION, FUNCTION])}]
    trace = trace_of(read(tmp_path, {"conversations": turns}))
    assert (trace.reasoning, trace.answer, len(trace.tool_calls)) == ("easy", "I look.", 2)
    thought = {"from": "function_call", "value": f"<think>\neasy\n</think>\n\n{json.dumps(FUNCTION)}"}
    trace = trace_of(read(tmp_path, {"conversations": [turns[0], thought]}))
    assert (trace.reasoning, trace.answer, len(trace.tool_calls)) == ("easy", "", 1)


def test_reasoning_of_earlier_turns_that_stands_apart_is_kept(tmp_path: Path) -> None:
    talk = [ASKED, SAID | {"reasoning_content": "six metres"}, ASKED, SAID]
    item = read(tmp_path, {"messages": talk})
    assert [m.reasoning for m in item.prompt.messages] == ["", "six metres", ""]
    assert item.prompt.id != read(tmp_path, {"messages": [ASKED, SAID, ASKED, SAID]}).prompt.id


@pytest.mark.parametrize(("change", "why"), [
    ({"messages": [ASKED, {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}]},
     "a call of a tool names none"),
    ({"messages": [ASKED | {"tool_calls": [CALL]}, SAID]}, "not the assistant's calls tools"),
    ({"messages": [ASKED, {"role": "tool"}, SAID]}, "a tool turn has no text"),
    ({"messages": [ASKED, SAID], "tools": "see above"}, "'tools' holds no definitions"),
    ({"conversations": [{"from": "human", "value": "?"}, {"from": "function_call", "value": '{"name": '}]},
     "names none, or is no JSON"),
])
def test_what_cannot_be_read_of_tools_leaves_the_row_out_with_the_reason(
        tmp_path: Path, change: Mapping[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        read(tmp_path, change)


def test_definitions_come_in_one_form_without_what_tables_fill_in() -> None:
    filled = {"type": "function", "function": TIDE | {"strict": None, "parameters": {
        "type": "object", "properties": {"port": {"type": "string", "enum": None}, "other": None}}}}
    assert definitions_in([filled]) == DEFINED == definitions_in(json.dumps([TIDE])) == definitions_in(TIDE)
    assert definitions_in(["tide"]) == ({"type": "function", "function": {"name": "tide"}},)
    assert definitions_in("") == () and definitions_in("a hammer") is None and definitions_in([{"port": 1}]) is None


def test_a_benchmark_of_calls_comes_in_by_itself(tmp_path: Path) -> None:
    row = {"id": "p_3", "question": [[ASKED]], "function": [TIDE]}
    (tmp_path / "calls.jsonl").write_text(json.dumps(row) + "\n")
    likeness = looks_like(tmp_path / "calls.jsonl")
    assert (likeness.layout, likeness.is_guess) == ("columns", False)
    item = read(tmp_path, row)
    assert item.prompt.messages == (Message("user", ASKED["content"], tools=DEFINED),) and item.trace is None


WAYS: list[tuple[str, Reasoning]] = [("messages", "field"), ("messages", "tags"), ("sharegpt", "tags"),
                                     ("prompt_completion", "field")]


@pytest.mark.parametrize(("name", "way"), WAYS)
@pytest.mark.parametrize("ending", ["said", "called", "both"])
def test_what_is_written_of_tools_comes_in_again_as_it_was(tmp_path: Path, name: str, way: Reasoning,
                                                           ending: str) -> None:
    last: dict[str, Any] = {"role": "assistant", "content": "" if ending == "called" else "I look again.",
                            "reasoning_content": "too old"}
    if ending != "said":
        last["tool_calls"] = [CALL, tool_call("tide", {"port": "Ärmel"})]
    talk = [*FORMS["chat completions"]["messages"], ASKED, SAID | {"reasoning_content": "still"}, ASKED, last]
    item = read(tmp_path, {**FORMS["chat completions"], "messages": talk, "source": "s"})
    layout = LAYOUTS.load(name)()
    row = layout.write(item, way)
    again = layout.read(json.loads(json.dumps(row)), 1, trace_of(item).source)
    assert again.prompt == item.prompt and trace_of(again).tool_calls == trace_of(item).tool_calls
    assert lost_between(item, again) <= {"the reply as it came"}
    assert isinstance(row["tools"], str if name == "sharegpt" else list)


def test_a_layout_without_a_place_for_tools_refuses_the_row(tmp_path: Path) -> None:
    item = read(tmp_path, FORMS["chat completions"])
    with pytest.raises(InputError, match="no place for tools"):
        LAYOUTS.load("alpaca")().write(item, "tags")
