"""Every format: pure, deterministic, prompt never trained, nothing lost or invented, and reasons where
it cannot serve."""

from __future__ import annotations

import dataclasses

import pytest

from localdistill.core.records import Candidate, Example, Message, Prompt, Skip, Span, Trace
from localdistill.formats import FORMATS
from localdistill.formats.base import Format

PROMPT = Prompt((Message("system", "Be brief."), Message("user", "What is 2 + 2?")), reference="4",
                original="It is <<2+2=4>>4.\n#### 4")
TRACE = Trace("t1", PROMPT.id, "e", "m", reasoning=" First I add.\nTwo and two. ",
              answer="<answer>\nIt is 4.\n</answer>", trace_kind="raw")
CHAT = Prompt((Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "What is 2 + 2?")), original="4")


def build(name: str, **options: object) -> Format:
    member = FORMATS.load(name)
    made: Format = member(member.Options.model_validate(options))
    return made


SINGLE = [name for name in FORMATS.names() if build(name).signs == {1} and build(name).grouping == "none"]
"""Formats that make an example of a trace by itself."""


def lay_out(name: str, prompt: Prompt = PROMPT, trace: Trace = TRACE, **options: object) -> Example:
    [result] = build(name, **options).lay_out(prompt, [Candidate(trace)], len)
    assert isinstance(result, Example), result
    return result


def reason(name: str, prompt: Prompt = PROMPT, **changes: object) -> str:
    trace = dataclasses.replace(TRACE, **changes)  # type: ignore[arg-type]
    [result] = build(name).lay_out(prompt, [Candidate(trace)], len)
    assert isinstance(result, Skip), result
    assert (result.prompt_id, result.trace_id) == (prompt.id, TRACE.id)
    return result.reason


@pytest.mark.parametrize("name", SINGLE)
def test_contract(name: str) -> None:
    member = FORMATS.load(name)
    assert member.name == name and member.version >= 1
    example = lay_out(name)
    assert example == lay_out(name)
    assert (example.prompt_id, example.trace_id, example.thinks) == (PROMPT.id, TRACE.id, build(name).thinks)
    assert (example.sign, example.group, example.epoch, example.weight) == (1, "", None, 1.0)
    *context, last = example.turns
    assert [(turn.role, turn.text) for turn in context] == [(m.role, m.content) for m in PROMPT.messages]
    assert all(span.weight == 0 and span.part == "prompt" for turn in context for span in turn.spans)
    assert last.role == "assistant" and any(span.weight > 0 for span in last.spans)
    assert all(span.text for span in last.spans) and last.text == last.text.strip()
    assert "<answer>" not in last.text


@pytest.mark.parametrize("name", SINGLE)
def test_only_the_last_assistant_turn_is_trained(name: str) -> None:
    *context, _ = lay_out(name, CHAT).turns
    assert [turn.role for turn in context] == ["user", "assistant", "user"]
    assert all(span.weight == 0 for turn in context for span in turn.spans)


@pytest.mark.parametrize("name", SINGLE)
def test_a_prompt_without_a_last_user_turn_cannot_serve(name: str) -> None:
    prompt = Prompt((Message("user", "Hi"), Message("assistant", "Hello")), original="x")
    assert "user turn" in reason(name, prompt)


@pytest.mark.parametrize("name", [name for name in SINGLE if name != "original"])
def test_answers_that_cannot_be_trained_on(name: str) -> None:
    assert reason(name, answer="  <answer> </answer> ") == "the answer is empty"
    assert reason(name, answer="a </think> b") == "the answer holds a think tag"
    assert reason(name, status="length") == "the reply is length"
    assert reason(name, tool_calls=({"id": "", "type": "function"},)) == "the answer calls a tool that has no name"


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"to": 2}'}}


@pytest.mark.parametrize("name", [name for name in SINGLE if name != "original"])
def test_calls_of_the_answer_are_trained_and_those_before_it_and_what_tools_answer_are_not(name: str) -> None:
    asked = Message("user", "2 + 2?", tools=({"type": "function", "function": {"name": "add"}},))
    used = (asked, Message("assistant", "", "I add.", (CALL,)), Message("tool", "4", call_id="c1"))
    for answer in ("", "I add again."):
        *context, last = lay_out(name, dataclasses.replace(PROMPT, messages=used), dataclasses.replace(
            TRACE, answer=answer, tool_calls=(CALL,))).turns
        assert [turn.message for turn in context] == list(used)
        assert all(span.weight == 0 for turn in context for span in turn.spans)
        assert last.spans[-1] == Span('[{"name": "add", "arguments": "{\\"to\\": 2}"}]', 1.0, "call")
        assert last.message.tool_calls == (CALL,) and ("again" in last.text) is bool(answer)
        assert not any(span.text.isspace() and span.part == "reasoning" and not answer for span in last.spans)


@pytest.mark.parametrize("name", ["answer_only", "full_trace", "reasoning_then_answer"])
def test_every_turn_is_learned_behind_what_was_said_before_it_where_that_is_wanted(name: str) -> None:
    asked, told = Message("user", "2 + 2?"), Message("tool", "4")
    called = Message("assistant", "", "I add.", (CALL,))
    inline = Message("assistant", "<think>\nEasy.\n</think>\n\nIt is 4.")
    prompt = dataclasses.replace(PROMPT, messages=(asked, called, told, inline, asked))
    other = dataclasses.replace(TRACE, id="b2:other", answer="Four.")
    made = build(name, every_turn=True).lay_out(prompt, [Candidate(TRACE), Candidate(other)], len)
    examples = [one for one in made if isinstance(one, Example)]
    assert len(examples) == len(made) == 4 and {one.prompt_id for one in made} == {prompt.id}
    answers, (first, second) = examples[:2], examples[2:]
    assert [one.turns[:-1] for one in answers] == [answers[0].turns[:-1]] * 2
    assert [turn.message for turn in first.turns[:-1]] == [asked] and first.turns[-1].message.tool_calls == (CALL,)
    assert [turn.role for turn in second.turns[:-1]] == ["user", "assistant", "tool"]
    assert second.turns[-1].text.endswith("It is 4.") and ("Easy." in second.turns[-1].text) is (name != "answer_only")
    silent = dataclasses.replace(prompt, messages=(asked, Message("assistant", " "), asked))
    *_, left = build(name, every_turn=True).lay_out(silent, [Candidate(TRACE)], len)
    assert isinstance(left, Skip) and left.reason.startswith("an earlier turn: ")


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("mark", ["<|musing|>", "<deep_thought>", "[WONDER]", "<seed:think>"])
def test_marks_that_are_no_text_are_left_out_with_the_reason_unless_they_are_said_to_be_text(
        name: str, mark: str) -> None:
    prompt = dataclasses.replace(PROMPT, original=f"{mark}Two and two.")
    trace = dataclasses.replace(TRACE, answer=f"{mark}Two and two.")
    [left_out] = build(name).lay_out(prompt, [Candidate(trace)], len)
    assert isinstance(left_out, Skip) and ("think tag" in left_out.reason or mark in left_out.reason)
    assert mark in lay_out(name, prompt, trace, text_marks=[mark]).turns[-1].text


@pytest.mark.parametrize("name", ["full_trace", "reasoning_then_answer"])
def test_reasoning_in_marks_that_nobody_knows_is_left_out(name: str) -> None:
    assert "<|musing|>" in reason(name, reasoning="<|musing|>Two and two.")


@pytest.mark.parametrize("name", ["full_trace", "reasoning_then_answer"])
def test_reasoning_that_cannot_be_trained_on(name: str) -> None:
    assert reason(name, reasoning=" ") == "there is no reasoning"
    assert reason(name, trace_kind="encrypted") == "the reasoning is encrypted"
    assert reason(name, trace_kind="none") == "there is no reasoning"
    assert reason(name, reasoning="a <think> b") == "the reasoning holds a think tag"


@pytest.mark.parametrize("name", ["full_trace", "reasoning_then_answer"])
def test_a_providers_summary_is_trained_on_only_where_that_is_allowed(name: str) -> None:
    given = dataclasses.replace(TRACE, trace_kind="summary")
    assert reason(name, trace_kind="summary") == "the reasoning is a provider's summary, not the model's own words"
    allowed = lay_out(name, trace=given, allow_summaries=True)
    assert "First I add." in allowed.turns[-1].text
    for own in ({"rewrite": "summarize@1"}, {"parent_id": "t0"}):
        assert lay_out(name, trace=dataclasses.replace(given, **own)) == allowed  # type: ignore[arg-type]
    for kind in ("encrypted", "none"):
        hidden = dataclasses.replace(TRACE, trace_kind=kind)  # type: ignore[arg-type]
        [left_out] = build(name, allow_summaries=True).lay_out(PROMPT, [Candidate(hidden)], len)
        assert isinstance(left_out, Skip)


@pytest.mark.parametrize("kind", ["summary", "encrypted", "none"])
def test_formats_without_reasoning_do_not_care_what_it_was(kind: str) -> None:
    trace = dataclasses.replace(TRACE, trace_kind=kind)  # type: ignore[arg-type]
    assert lay_out("answer_only", trace=trace) == lay_out("answer_only")


def test_answer_only_is_the_answer() -> None:
    assert lay_out("answer_only").turns[-1].text == "It is 4."


def test_reasoning_then_answer_joins_with_a_blank_line() -> None:
    last = lay_out("reasoning_then_answer").turns[-1]
    assert last.text == "First I add.\nTwo and two.\n\nIt is 4."
    assert [span.part for span in last.spans] == ["reasoning", "reasoning", "answer"]
    other = lay_out("reasoning_then_answer", separator="\n---\n", reasoning_weight=0.25).turns[-1]
    assert "Two and two.\n---\nIt is 4." in other.text and [span.weight for span in other.spans] == [0.25, 0.25, 1.0]


def test_full_trace_thinks_in_tags() -> None:
    last = lay_out("full_trace", reasoning_weight=0.5).turns[-1]
    assert last.text == "<think>\nFirst I add.\nTwo and two.\n</think>\n\nIt is 4."
    assert [(span.part, span.weight) for span in last.spans] == [
        ("tag", 1.0), ("reasoning", 0.5), ("tag", 1.0), ("answer", 1.0)]


def test_original_takes_the_community_response() -> None:
    assert lay_out("original").turns[-1].text == "It is 4.\n#### 4"
    assert "<<2+2=4>>" in lay_out("original", drop_calculator_marks=False).turns[-1].text
    code = dataclasses.replace(PROMPT, original="cout << x >> y; a << 2 >> b")
    assert lay_out("original", code).turns[-1].text == "cout << x >> y; a << 2 >> b"
    assert reason("original", dataclasses.replace(PROMPT, original=None)) == "there is no original response"
    assert lay_out("original", trace=dataclasses.replace(TRACE, answer="", status="length")).turns[-1].text
