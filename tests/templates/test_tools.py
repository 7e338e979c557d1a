"""Tools in chat templates: each is told of calls, results and definitions as it expects, and one that would leave any
of them out is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from localdistill.core.errors import TemplateRefused
from localdistill.core.messages import Message
from localdistill.templates import ChatTemplate
from localdistill.templates.sandbox import KEPT_DATE
from localdistill.templates.tool_calls import tool_call

WEATHER = {"type": "function", "function": {"name": "weather", "description": "Weather of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}}
TALK = (Message("user", "Rain in Oslo?", tools=(WEATHER,)),
        Message("assistant", "", "I look.", (tool_call("weather", {"city": "Oslo"}, "call_1"),)),
        Message("tool", "dry", call_id="call_1"), Message("assistant", "No rain."))

BODY = """\
{%- if tools %}[tools {% for tool in tools %}{{ tool | tojson }}{% endfor %}]{% endif %}
{%- for m in messages %}
{{- '<' ~ m.role ~ '>' }}
{%- if m.reasoning_content %}{{ '(' ~ m.reasoning_content ~ ')' }}{% endif %}
{{- m.content }}
{%- for call in m.tool_calls or [] %}{{ CALL }}{% endfor %}
{{- '</' ~ m.role ~ '>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"""
AS_OBJECT = "'[call ' ~ call.function.name ~ ' ' ~ (call.function.arguments | tojson) ~ ']'"
AS_TEXT = "'[call ' ~ call.function.name ~ ' ' ~ call.function.arguments ~ ']'"


def written(call: str, body: str = BODY) -> ChatTemplate:
    return ChatTemplate(body.replace("CALL", call), isolated=False)


@pytest.mark.parametrize("call", [AS_OBJECT, AS_TEXT])
def test_arguments_are_an_object_or_a_text_as_the_template_writes_json_of_them(call: str) -> None:
    text = written(call).render(TALK)
    assert text.startswith('[tools {"type": "function", "function": {"name": "weather"')
    assert text.endswith('<user>Rain in Oslo?</user><assistant>(I look.)[call weather {"city": "Oslo"}]</assistant>'
                         "<tool>dry</tool><assistant>No rain.</assistant>")


def test_arguments_that_are_no_json_stay_the_text_that_the_model_wrote() -> None:
    odd = dataclasses.replace(TALK[1], tool_calls=(tool_call("weather", "Oslo!"),))
    assert "[call weather \"Oslo!\"]" in written(AS_OBJECT).render((TALK[0], odd))


def test_ids_of_calls_are_of_the_kind_that_the_template_takes_and_results_keep_to_them() -> None:
    picky = ("raise_exception('ids have 9 letters') if call.id | length != 9 else "
             "'[call ' ~ call.function.name ~ (call.function.arguments | tojson) ~ '#' ~ call.id ~ ']'")
    answers = BODY.replace("{{- m.content }}", "{{- m.content ~ ('#' ~ m.tool_call_id if m.tool_call_id else '') }}")
    text = written(picky, answers).render(TALK)
    assert "#call00000]" in text and "<tool>dry#call00000</tool>" in text
    named = "'[call ' ~ call.id ~ (call.function.arguments | tojson) ~ ']'"
    assert "[call functions.weather:0{" in written(named, answers).render(TALK)
    plain = "'[call ' ~ call.function.name ~ (call.function.arguments | tojson) ~ '#' ~ call.id ~ ']'"
    assert "#call_1]" in written(plain, answers).render(TALK)


def test_results_without_an_id_answer_the_calls_in_their_order() -> None:
    calls = (tool_call("weather", {"city": "Oslo"}), tool_call("weather", {"city": "Rome"}))
    talk = (TALK[0], Message("assistant", "", tool_calls=calls), Message("tool", "dry"), Message("tool", "wet"))
    body = BODY.replace("{{- m.content }}", "{{- m.content ~ (m.name ~ m.tool_call_id if m.role == 'tool' else '') }}")
    assert "<tool>dryweathercall00000</tool><tool>wetweathercall00001</tool>" in written(AS_OBJECT, body).render(talk)


REFUSED = [
    (BODY.replace("{%- if tools %}", "{%- if false %}"), TALK[:1], "leaves out which tools there are"),
    (BODY.replace("{{ CALL }}", ""), TALK, "leaves out what is called"),
    (BODY.replace("{{- m.content }}", "{{- m.content if m.role != 'tool' }}"), TALK, "leaves out what tools answer"),
    (BODY.replace("{%- for m in messages %}", "{%- for m in messages %}{% if m.role == 'tool' %}"
                  "{{ raise_exception('no tools here') }}{% endif %}"), TALK, "refuses calls of tools .no tools here"),
    (BODY.replace("CALL", "call.function.arguments ~ call.function.name | string | tojson"), TALK[1:], ""),
]


@pytest.mark.parametrize(("body", "talk", "why"), REFUSED)
def test_a_template_that_would_leave_something_of_tools_out_is_refused_with_the_reason(
        body: str, talk: Sequence[Message], why: str) -> None:
    template = written(AS_OBJECT, body)
    if not why:  # arguments are written as text, so it is told them as text
        assert template.render(talk)
        return
    with pytest.raises(TemplateRefused, match=why):
        template.render(talk)
    assert template.render([Message("user", "Hi"), Message("assistant", "Hi")])  # without tools it serves


def test_a_template_that_goes_through_the_tools_gets_an_empty_list_where_there_are_none() -> None:
    template = ChatTemplate("{% for tool in tools %}{{ tool.function.name }}{% endfor %}{{ messages[0].content }}")
    assert template.render([Message("user", "Hi")]) == "Hi"
    assert template.render([Message("user", "Hi", tools=(WEATHER,))]) == "weatherHi"


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_stands_under_the_name_that_the_template_reads(name: str) -> None:
    template = written(AS_OBJECT, BODY.replace("reasoning_content", name))
    assert template.reasoning_name == name and "(I look.)" in template.render(TALK)


def test_reasoning_is_a_part_of_the_content_where_the_template_looks_for_parts() -> None:
    body = """{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}
{%- for part in m.content %}{% if part.type == 'thinking' %}[THINK]{{ part.thinking }}[/THINK]
{%- else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}</{{ m.role }}>{% endfor %}
{%- if add_generation_prompt %}<assistant>{% endif %}"""
    template = ChatTemplate(body, isolated=False)
    assert template.render([Message("assistant", "2", "easy")]) == "<assistant>[THINK]easy[/THINK]2</assistant>"
    assert template.thought_marks == ("[THINK]", "[/THINK]")
    plain = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", isolated=False)
    assert plain.reasoning_name == "reasoning_content"  # parts that are printed as they are, are not read


def test_thinking_of_turns_before_the_last_question_is_told_apart_and_that_of_the_last_turn_stays() -> None:
    tagged = Message("assistant", "<think>\nold\n</think>\n\nHello")
    talk = [Message("user", "Hi"), tagged, Message("user", "And?"), tagged]
    drops = ChatTemplate("{% for m in messages %}<{{ m.content }}>{% endfor %}", isolated=False)
    assert drops.render(talk) == "<Hi><Hello><And?><<think>\nold\n</think>\n\nHello>"
    keeps = written(AS_OBJECT)
    assert "<assistant>(old)Hello</assistant><user>And?</user>" in keeps.render(talk)
    code = Message("assistant", "Write `</think>` to end it.")
    assert "`</think>`" in drops.render([Message("user", "Hi"), code, Message("user", "And?")])


def test_a_template_is_told_the_same_date_on_every_day() -> None:
    for isolated in (True, False):
        template = ChatTemplate("{{ strftime_now('%Y-%m-%d') }}", isolated=isolated)
        assert template.render([Message("user", "?")]) == KEPT_DATE.strftime("%Y-%m-%d")


HARMONY = """{% for m in messages %}{% if m.role == 'assistant' %}
{%- if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}
{%- if m.tool_calls %}<|start|>assistant to=functions.{{ m.tool_calls[0].function.name }}<|channel|>commentary
{{- '<|message|>' ~ (m.tool_calls[0].function.arguments | tojson) }}<|return|>
{%- else %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>{% endif %}
{%- else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}
{%- if add_generation_prompt %}<|start|>assistant{% endif %}"""


def test_channels_are_marks_too_and_what_leads_to_an_answer_is_known() -> None:
    template = ChatTemplate(HARMONY, isolated=False)
    assert template.thought_marks == ("<|channel|>analysis<|message|>",
                                      "<|end|><|start|>assistant<|channel|>final<|message|>")
    asked = [Message("user", "?")]
    assert template.answer_lead(asked, False) == "<|channel|>final<|message|>"
    assert written(AS_OBJECT).answer_lead(asked, False) == ""
    called = template.called_turn(asked, (tool_call("weather", {"city": "Oslo"}),), True, True, False)
    assert (called.before, called.between) == ("<|channel|>analysis<|message|>", "")
    assert called.behind == ('<|end|><|start|>assistant to=functions.weather<|channel|>commentary<|message|>'
                             '{"city": "Oslo"}<|return|>')
