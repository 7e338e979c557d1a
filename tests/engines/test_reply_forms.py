"""What a reply is, and where its parts stand, whatever its header says and however its server calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from localdistill.core.records import Reply, TraceKind
from localdistill.engines.openai_compatible import OpenAICompatibleOptions
from localdistill.engines.wire.forms import form_of
from localdistill.templates import status_of_end
from tests.engines.test_wire_shapes import asked, reply_to
from tests.faults import FaultServer, Script, Step, fault_server

THOUGHT, SAID = "Nine less two is 7.", "Seven plums stay."
STREAM, JSON = "text/event-stream", "application/json"


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


def chunk(delta: dict[str, Any], finish: str | None = None, **beside: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            **beside}


CHUNKS = [chunk({"reasoning_content": THOUGHT}), chunk({"content": SAID}), chunk({}, "stop")]


def lines(*events: dict[str, Any] | str) -> str:
    """Events as data lines, each with a blank line behind it; texts stand as they are."""
    return "".join(event if isinstance(event, str) else f"data: {json.dumps(event)}\n\n" for event in events)


def whole(message: dict[str, Any], finish: str = "stop", **beside: Any) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}], **beside})


def reply(server: FaultServer, body: str, content_type: str = JSON, kind: str = "openai_compatible",
          **options: Any) -> Reply:
    server.play(Script(default=Step(body=body.encode().decode("latin-1"), content_type=content_type)))
    return reply_to(asked(server, kind, **options))


def is_right(found: Reply) -> bool:
    return (found.status, found.reasoning, found.answer) == ("complete", THOUGHT, SAID)


@pytest.mark.parametrize("content_type", [STREAM, JSON, "text/plain; charset=utf-8", "text/readystream", ""])
@pytest.mark.parametrize("before", ["", "\ufeff", "\n\n", ": hello\n\n", "event: x\n", "retry: 10\n\n", "id: 1\n"])
def test_a_stream_is_known_by_how_it_begins(server: FaultServer, content_type: str, before: str) -> None:
    assert is_right(reply(server, before + lines(*CHUNKS, "data: [DONE]\n\n"), content_type))


@pytest.mark.parametrize("content_type", [STREAM, JSON, "text/html"])
def test_a_whole_body_is_known_by_how_it_begins(server: FaultServer, content_type: str) -> None:
    body = whole({"reasoning_content": THOUGHT, "content": SAID})
    assert is_right(reply(server, f"\n {body}\n", content_type))
    assert is_right(reply(server, json.dumps(json.loads(body), indent=2), content_type))


def test_pieces_of_a_stream_that_stand_in_lines_by_themselves_are_joined(server: FaultServer) -> None:
    found = reply(server, "\n".join(map(json.dumps, CHUNKS)), "application/x-ndjson")
    assert is_right(found) and json.loads(found.raw)["stream"] == "whole"
    cut = reply(server, "\n".join(map(json.dumps, CHUNKS[:2])), "application/x-ndjson")
    assert cut.status == "truncated"


def test_the_beginning_is_looked_at_until_it_is_clear() -> None:
    assert [form_of(text) for text in (b"", b"\n", b"da", b"\xef\xbb\xbfev")] == [None] * 4
    assert form_of(b"data") is None and form_of(b"data:") == "stream" and form_of(b" [") == "body"
    assert form_of(b"<html>") == form_of(b"dato") == form_of(b"\n" * 300) == "unclear"


@pytest.mark.parametrize("noise", [
    "data: : ROUTER PROCESSING\n\n", "data: ping\n\n", "data: [keep-alive]\n\n", "event: heartbeat\ndata: 17\n\n",
    ": nothing\n\n", "data:\n\n", "data: null\n\n", "data: {}\n\n", "id: 4\nretry: 5\n\n",
])
def test_what_only_keeps_a_stream_alive_is_no_damage(server: FaultServer, noise: str) -> None:
    for place in range(len(CHUNKS) + 1):
        assert is_right(reply(server, lines(*CHUNKS[:place], noise, *CHUNKS[place:]), STREAM))


@pytest.mark.parametrize("noise", ["data: {\"choices\": [{\n\n", "data: plums\n\n", "data: 17\n\n"])
def test_what_may_have_been_words_is_damage(server: FaultServer, noise: str) -> None:
    found = reply(server, lines(*CHUNKS[:2], noise, *CHUNKS[2:]), STREAM)
    assert found.status == "error" and "damaged" in found.error


def test_an_event_may_have_several_lines_of_data(server: FaultServer) -> None:
    spread = ["".join(f"data: {line}\n" for line in json.dumps(one, indent=1).splitlines()) + "\n" for one in CHUNKS]
    assert is_right(reply(server, "".join(spread), STREAM))


@pytest.mark.parametrize("message", [
    {"content": SAID, "thinking_content": THOUGHT}, {"content": SAID, "reasoning_text": THOUGHT},
    {"content": SAID, "reasoning_details": [{"text": THOUGHT}]},
    {"content": SAID, "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": "s"}]},
    {"content": SAID, "reasoning": {"content": THOUGHT}},
    {"content": [{"type": "text", "text": THOUGHT, "thought": True}, {"type": "text", "text": SAID}]},
    {"content": [{"type": "reasoning", "text": THOUGHT}, SAID]},
    {"content": f"</think>\n\n{SAID}", "reasoning": THOUGHT},
    {"content": f"<think>{THOUGHT}</think></think>{SAID}"},
    {"content": f"{THOUGHT}</think>\n\n{SAID}", "reasoning_content": THOUGHT},
    {"content": SAID, "reasoningContent": THOUGHT}, {"content": SAID, "chain_of_thought": THOUGHT},
    {"content": SAID, "provider_specific_fields": {"reasoning_content": THOUGHT}},
    {"content": [{"type": "think", "think": THOUGHT}, {"type": "text", "text": SAID}]},
    {"content": f"<scratchpad>{THOUGHT}</scratchpad>{SAID}"},
])
def test_reasoning_is_found_under_every_usual_name(server: FaultServer, message: dict[str, Any]) -> None:
    assert is_right(reply(server, whole(message)))
    streamed = lines(*(chunk({name: value}) for name, value in message.items()), chunk({}, "stop"))
    assert is_right(reply(server, streamed, STREAM))


def test_a_server_s_own_field_of_reasoning_can_be_named(server: FaultServer) -> None:
    deltas = [{"inner": {"voice": text}} for text in (THOUGHT[:5], THOUGHT[5:])]
    body = lines(*map(chunk, deltas), chunk({"content": SAID}, "stop"))
    assert reply(server, body, STREAM).reasoning == ""
    assert is_right(reply(server, body, STREAM, reasoning_fields=["inner.voice"]))
    with pytest.raises(ValidationError, match="cannot be a field of reasoning"):
        OpenAICompatibleOptions(base_url="http://localhost", model="m", reasoning_fields=("content",))


@pytest.mark.parametrize(("reasoning", "kind"), [
    ({"reasoning": {"summary": THOUGHT}}, "summary"), ({"reasoning": {"text": THOUGHT}}, "raw"),
    ({"reasoning": [{"type": "summary_text", "text": THOUGHT}]}, "summary"),
    ({"reasoning_details": [{"type": "reasoning.summary", "summary": THOUGHT}]}, "summary"),
])
def test_a_summary_is_known_by_its_name(server: FaultServer, reasoning: dict[str, Any], kind: TraceKind) -> None:
    found = reply(server, whole({"content": SAID, **reasoning}))
    assert is_right(found) and found.trace_kind == kind


def test_a_part_that_is_no_text_is_no_answer(server: FaultServer) -> None:
    found = reply(server, whole({"content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": SAID}]}))
    assert found.status == "error" and "'image_url'" in found.error and "image_url" in found.raw


COUNTS = {"prompt_tokens": 19, "completion_tokens": 13}


@pytest.mark.parametrize("ends", [
    [chunk({}, "stop", usage=COUNTS)],
    [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": COUNTS}]}],
    [chunk({}, "stop", x_groq={"id": "r", "usage": COUNTS})],
    [chunk({}, "stop", timings={"prompt_n": 12, "cache_n": 7, "predicted_n": 13, "predicted_ms": 2.5})],
    [chunk({}, "stop"), {"choices": [], "usage": COUNTS}],
    [chunk({}, usage={"prompt_tokens": 19, "completion_tokens": 2}), chunk({}, "stop", usage=COUNTS)],
    [chunk({}, usage=COUNTS), chunk({}, "stop", usage={"prompt_tokens": 0, "completion_tokens": 0})],
    [chunk({}, usage={"prompt_tokens": 19, "completion_tokens": 0}),
     chunk({}, "stop", usage={"completion_tokens": 13})],
    [chunk({}, "stop", usageMetadata={"promptTokenCount": 19, "candidatesTokenCount": 9, "thoughtsTokenCount": 4,
                                      "totalTokenCount": 32})],
    [chunk({}, "stop", usage={"input_tokens": 19, "output_tokens": 13})],
    [chunk({}, "stop", usage={"promptTokens": 19, "completionTokens": 13})],
    [chunk({}, "stop", usage_metadata={"prompt_token_count": 19, "candidates_token_count": 13})],
    [chunk({}, "stop", metrics=COUNTS)], [chunk({}, "stop", response={"usage": COUNTS})],
    [chunk({}, "stop", usage={"prompt_tokens": "19", "completion_tokens": 13.0})],
    [chunk({}, "stop", usage={"prompt_tokens": 0, "completion_tokens": 0}, x_groq={"usage": COUNTS})],
])
def test_token_counts_are_found_wherever_they_stand(server: FaultServer, ends: list[dict[str, Any]]) -> None:
    found = reply(server, lines(*CHUNKS[:2], *ends), STREAM)
    assert is_right(found)
    usage = found.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (19, 13, False)


@pytest.mark.parametrize(("reason", "status"), [
    ("STOP", "complete"), ("end-turn", "complete"), ("FINISH_REASON_STOP", "complete"), ("endTurn", "complete"),
    ("MAX_TOKENS", "length"), ("maxTokens", "length"), ("output_limit_reached", "length"),
    ("context window full", "length"), ("SAFETY", "filtered"), ("content policy violation", "filtered"),
    ("image_safety", "filtered"), ("server shutdown", "truncated"), ("upstream_error", "truncated"),
    ("rate_limit_exceeded", "truncated"), ("repetition_truncation", "looping"), ("nova", None), ("stopped?", None),
    ("incomplete", "truncated"), ("FinishReason.STOP", "complete"), ("insufficient_quota", "truncated"),
])
def test_unusual_finish_reasons_have_a_class(reason: str, status: str | None) -> None:
    assert status_of_end(reason) == status


def test_an_error_inside_a_choice_says_what_it_is(server: FaultServer) -> None:
    body = json.loads(whole({"content": "Seven"}, "error"))
    body["choices"][0]["error"] = {"code": 502, "message": "the upstream went away"}
    assert "the upstream went away" in reply(server, json.dumps(body)).error


def messages(thinking: dict[str, Any]) -> str:
    blocks = [{"type": "thinking", **thinking}, {"type": "text", "text": SAID}]
    return json.dumps({"type": "message", "role": "assistant", "content": blocks, "stop_reason": "end_turn",
                       "usage": {"input_tokens": 9, "output_tokens": 21}})


@pytest.mark.parametrize(("thinking", "kind"), [
    ({"thinking": THOUGHT}, "raw"), ({"thinking": THOUGHT, "signature": ""}, "raw"),
    ({"thinking": THOUGHT, "signature": "EqQB"}, "summary"),
])
def test_thinking_of_one_s_own_server_is_raw_unless_it_is_signed(
        server: FaultServer, thinking: dict[str, Any], kind: TraceKind) -> None:
    found = reply(server, messages(thinking), kind="anthropic")
    assert is_right(found) and found.trace_kind == kind


def test_counts_of_a_message_only_grow(server: FaultServer) -> None:
    first, last = {"input_tokens": 9, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 8}
    events = [
        {"type": "message_start", "message": {"id": "m", "content": [], "usage": first}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": SAID}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last},
        {"type": "message_stop"},
    ]
    found = reply(server, lines(*events), JSON, kind="anthropic")
    assert (found.status, found.answer) == ("complete", SAID)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (9, 8)


CALL = {"id": "c1", "type": "function", "function": {"name": "count", "arguments": '{"of": "plums"}'}}
OTHER = {"id": "c2", "type": "function", "function": {"name": "weigh", "arguments": "{}"}}


def part(call: dict[str, Any], **delta: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{**call, **delta}]})


@pytest.mark.parametrize("events", [
    [chunk({"tool_calls": [CALL, OTHER]})],
    [part(CALL, index=0), part(OTHER, index=1)],
    [part(CALL, index=0), part(OTHER, index=0)],
    [part(CALL), part(OTHER)],
    [part({"id": "c1", "type": "function", "function": {"name": "count", "arguments": ""}}, index=0),
     *(part({"index": 0, "function": {"arguments": text}}) for text in ('{"of": ', '"plums"}')),
     part({"index": 0, "id": "", "function": {"name": "", "arguments": ""}}), part(OTHER, index=1)],
])
def test_calls_of_tools_are_kept(server: FaultServer, events: list[dict[str, Any]]) -> None:
    body = lines(chunk({"reasoning": THOUGHT}), *events, chunk({}, "tool_calls"))
    found = reply(server, body, STREAM)
    assert (found.status, found.reasoning, found.answer) == ("complete", THOUGHT, "")
    assert found.tool_calls == (CALL, OTHER)


@pytest.mark.parametrize("message", [
    {"tool_calls": [CALL]}, {"tool_calls": [{"id": "c1", "name": "count", "arguments": {"of": "plums"}}]},
    {"content": [{"type": "tool_use", "id": "c1", "name": "count", "input": {"of": "plums"}}]},
])
def test_calls_have_one_form(server: FaultServer, message: dict[str, Any]) -> None:
    assert reply(server, whole({"content": None, **message}, "tool_calls")).tool_calls == (CALL,)


def test_a_call_without_a_name_is_no_answer(server: FaultServer) -> None:
    found = reply(server, whole({"content": SAID, "tool_calls": [{"id": "c1", "function": {"arguments": "{}"}}]}))
    assert found.status == "error" and "without a name" in found.error


def test_calls_of_a_message_come_in_pieces_too(server: FaultServer) -> None:
    events = [
        {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 9}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "I count."}},
        {"type": "content_block_start", "index": 1,
         "content_block": {"type": "tool_use", "id": "c1", "name": "count", "input": {}}},
        *({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": text}}
          for text in ('{"of": ', '"plums"}')),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 8}},
        {"type": "message_stop"},
    ]
    found = reply(server, lines(*events), STREAM, kind="anthropic")
    assert (found.status, found.answer, found.tool_calls) == ("complete", "I count.", (CALL,))
