"""Calls of tools that are written in a text."""

from __future__ import annotations

import pytest

from localdistill.templates.written_calls import written_calls

CALL = [("look_up", {"key": 1})]
TWO = [("look_up", {"key": 1}), ("shout", {"text": "a b", "loud": True})]


@pytest.mark.parametrize(("text", "calls"), [
    ('<tool_call>\n{"name": "look_up", "arguments": {"key": 1}}\n</tool_call>', CALL),
    ('I look.<tool_call>{"name": "look_up", "arguments": "{\\"key\\": 1}"}</tool_call>', CALL),
    ('<tool_call>{"name": "look_up", "arguments": {"key": 1}}</tool_call>\n'
     '<tool_call>{"name": "shout", "arguments": {"text": "a b", "loud": true}}</tool_call>', TWO),
    ('<tool_call>{"name": "look_up", "arguments": {"key": 1}}\n'
     '{"name": "shout", "arguments": {"text": "a b", "loud": true}}</tool_call>', TWO),
    ('[TOOL_CALLS][{"name": "look_up", "arguments": {"key": 1}, "id": "1"}]', CALL),
    ('[TOOL_CALLS]look_up[ARGS]{"key": 1}[TOOL_CALLS]shout[CALL_ID]7[ARGS]{"text": "a b", "loud": true}', TWO),
    ('<|python_tag|>{"name": "look_up", "parameters": {"key": 1}}', CALL),
    ('<function=look_up>{"key": 1}</function>', CALL),
    ("<tool_call>\n<function=look_up>\n<parameter=key>\n1\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n"
     "<function=shout>\n<parameter=text>\na b\n</parameter>\n<parameter=loud>\ntrue\n</parameter>\n</function>\n"
     "</tool_call>", TWO),
    ("<tool_call>look_up\n<arg_key>key</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", CALL),
    ('<invoke name="look_up"><parameter name="key">1</parameter></invoke>', CALL),
    ('<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look_up\n```json\n{"key": 1}\n```'
     '<｜tool▁call▁end｜><｜tool▁calls▁end｜>', CALL),
    ('<|tool_call_begin|>functions.look_up:0<|tool_call_argument_begin|>{"key": 1}<|tool_call_end|>', CALL),
    ('<|channel|>commentary to=functions.look_up <|constrain|>json<|message|>{"key": 1}', CALL),
    ('<|START_ACTION|>[\n {"tool_call_id": "0", "tool_name": "look_up", "parameters": {"key": 1}}\n]<|END_ACTION|>',
     CALL),
    ('<|tools_prefix|>[{"look_up": {"key": 1}}]<|tools_suffix|>', CALL),
    ('<|tool_call>call:look_up{key:1}<tool_call|>', CALL),
    ('<|tool_call>call:look_up{key:1}<tool_call|>'
     '<|tool_call>call:shout{loud:true,text:<|"|>a b<|"|>}<tool_call|>', TWO),
    ('<|tool_call>call:f{a:{b:[<|"|>x: {1}, "y"<|"|>,null],c:{}}}<tool_call|>',
     [("f", {"a": {"b": ['x: {1}, "y"', None], "c": {}}})]),
    ('<|tool_call>call:look_up{{"key": 1}}<tool_call|>', CALL),
    ('<|open|>tools<|sep|><|open|>call tool="look_up" index="1"<|sep|><|open|>argument key="key" type="number"<|sep|>1'
     '<|close|>argument<|sep|><|close|>call<|sep|><|open|>call tool="shout" index="2"<|sep|><|open|>argument key="text"'
     ' type="string"<|sep|>a b<|close|>argument<|sep|><|open|>argument key="loud" type="boolean"<|sep|>true<|close|>'
     'argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>', TWO),
    ('<|open|>call tool="f" index="1"<|sep|><|open|>argument key="x" type="string"<|sep|>1<|close|>argument<|sep|>'
     '<|close|>call<|sep|>', [("f", {"x": "1"})]),
    ('~<tool_call>\n~<invoke name="look_up">~<key>1~</key>~</invoke>\n~</tool_call>'.replace("~", "]<]minimax[>["),
     CALL),
    ('~<invoke name="f">~<a>~<item>x~</item>~<item>~<n>2~</n>~</item>~</a>~</invoke>'.replace("~", "]<]minimax[>["),
     [("f", {"a": ["x", {"n": 2}]})]),
    ('~<invoke name="f">~</a>~</invoke>'.replace("~", "]<]minimax[>["), [("f", {})]),
    ('[look_up(key=1), shout(text="a b", loud=True)]', TWO),
    ('<|tool_call_start|>[look_up(key=1)]<|tool_call_end|>', CALL),
    ("look_up(key=1)", CALL),
    ('{"name": "functions.look_up", "arguments": {"key": 1}}', [("functions.look_up", {"key": 1})]),
    ("```python\nlook_up(key=1)\n```", CALL),
    ('{"name": "look_up", "arguments": {"key": 1}}', CALL),
    ('```json\n[{"name": "look_up", "arguments": {"key": 1}}]\n```', CALL),
    ('{"tool_calls": 1}', []),
    ("The key is 1.", []),
    ('{"name": "Anna", "age": 3}', []),
    ("f(1)", []),
    ("print", []),
    ('<tool_call>{"name": "look_up", "argu', []),
    ("<|tool_call>call:f{a:b}<tool_call|>", []),
])
def test_calls_are_read_however_they_are_written(text: str, calls: list[tuple[str, object]]) -> None:
    assert [(call.name, dict(call.arguments)) for call in written_calls(text)] == calls


def test_what_a_definition_calls_a_text_stays_one() -> None:
    text = "<tool_call>look_up\n<arg_key>key</arg_key>\n<arg_value>1</arg_value>\n</tool_call>"
    [call] = written_calls(text, lambda tool, parameter: (tool, parameter) == ("look_up", "key"))
    assert call.arguments == {"key": "1"}


@pytest.mark.parametrize("part", [
    "[", "<tool_call>", '<invoke name="f">', "<|tool_call>call:f{", '<function name="f">', "<function=f><parameter=a>",
    '<|open|>call tool="f"<|sep|>', '<|open|>argument key="f"<|sep|>', "<arg_key>k</arg_key><arg_value>v</arg_value>"])
def test_beginnings_without_an_end_are_no_calls_however_many(part: str) -> None:
    assert written_calls(part * 2000) == []
    assert written_calls(f"<tool_call>f{part * 2000}") == []
