"""How providers lay out what a model said: chat completions and messages, whole and as events. Deterministic: the same
step and question give the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults.script import AUTO, Step

_PIECE = 9
_MODEL = "loopback"


@dataclass(frozen=True)
class Said:
    """What the model said to one question."""

    reasoning: str
    answer: str
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int


def question_of(body: Any) -> str:
    """Text of the last user message of a request in any form."""
    messages = body.get("messages") if isinstance(body, Mapping) else None
    for message in reversed(messages if isinstance(messages, list) else []):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, str):
                return content
            return "".join(part.get("text", "") for part in content or ())
    return ""


def said_to(question: str, step: Step, most: int | None = None) -> Said:
    """The texts of the step, or such that belong to the question, and an honest count of their tokens. most: what a
    model that keeps to its limit writes; texts of the step may be longer."""
    number = re.search(r"(\d+)\s*$", question)
    n = int(number[1]) if number else 0
    reasoning = f"{n} + {n} = {2 * n}." if number else f"I was asked: {question}"
    answer = f"The answer is {2 * n}." if number else f"My answer to {question}"
    if most is not None and _tokens(reasoning) + _tokens(answer) > most:
        reasoning, answer = reasoning[: 2 * most], answer[: 2 * most]
    reasoning = reasoning if step.reasoning is None else step.reasoning
    answer = answer if step.answer is None else step.answer
    thought, spoken = _tokens(reasoning), _tokens(answer)
    return Said(reasoning, answer, _tokens(question) + 3, thought + spoken + step.hidden_tokens,
                thought + step.hidden_tokens)


def _tokens(text: str) -> int:
    return -(-len(text) // 4)


def openai_body(said: Said, step: Step, number: int) -> bytes:
    """A whole chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": _content(said, step)}
    if step.reasoning_field:
        message[step.reasoning_field] = said.reasoning
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(step, "stop")}
    body = {"id": _id(step, "chatcmpl", number), "object": "chat.completion", "created": 1763700000, "model": _MODEL,
            "choices": [choice]}
    usage = openai_usage(said, step)
    return _json({**body, "usage": usage} if usage is not None else body)


def openai_events(said: Said, step: Step, number: int, with_usage: bool) -> list[bytes]:
    """The events of a streamed chat completion; the last one is [DONE]."""
    head = {"id": _id(step, "chatcmpl", number), "object": "chat.completion.chunk", "created": 1763700000,
            "model": _MODEL}

    def chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**head, "choices": [choice]})

    events = [chunk({"role": "assistant", "content": ""})]
    if step.reasoning_field:
        events += [chunk({step.reasoning_field: piece}) for piece in _pieces(said.reasoning)]
    events += [chunk({"content": piece}) for piece in _pieces(_content(said, step))]
    events.append(chunk({}, _finish(step, "stop")))
    usage = openai_usage(said, step)
    if with_usage and usage is not None:
        events.append(_event({**head, "choices": [], "usage": usage}))
    return [*events, b"data: [DONE]\n\n"]


def openai_usage(said: Said, step: Step) -> Any:
    """The usage object of the OpenAI form."""
    if step.usage != AUTO:
        return step.usage
    return {
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
        "total_tokens": said.prompt_tokens + said.completion_tokens,
        "completion_tokens_details": {"reasoning_tokens": said.reasoning_tokens},
    }


def anthropic_body(said: Said, step: Step, number: int) -> bytes:
    """A whole message."""
    return _json(anthropic_message(said, step, number))


def anthropic_message(said: Said, step: Step, number: int) -> dict[str, Any]:
    """A message object, as a body or as the result of a batch."""
    blocks: list[dict[str, Any]] = []
    if said.reasoning:
        blocks.append({"type": "thinking", "thinking": said.reasoning, "signature": "c2lnbmVk"})
    if said.answer:
        blocks.append({"type": "text", "text": said.answer})
    message = {"id": _id(step, "msg", number), "type": "message", "role": "assistant", "model": _MODEL,
               "content": blocks, "stop_reason": _finish(step, "end_turn"), "stop_sequence": None}
    usage = anthropic_usage(said, step)
    return {**message, "usage": usage} if usage is not None else message


def anthropic_usage(said: Said, step: Step) -> Any:
    """The usage object of the Anthropic form."""
    if step.usage != AUTO:
        return step.usage
    return {"input_tokens": said.prompt_tokens, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": said.completion_tokens}


def anthropic_events(said: Said, step: Step, number: int) -> list[bytes]:
    """The events of a streamed message; the last one is message_stop."""
    usage = anthropic_usage(said, step)
    start: dict[str, Any] = {"id": _id(step, "msg", number), "type": "message", "role": "assistant", "content": [],
                             "model": _MODEL, "stop_reason": None, "stop_sequence": None}
    if usage is not None:
        start["usage"] = {**usage, "output_tokens": 1} if isinstance(usage, Mapping) else usage
    events = [named("message_start", message=start), named("ping")]
    blocks = [("thinking", said.reasoning)] if said.reasoning else []
    blocks += [("text", said.answer)] if said.answer else []
    for index, (kind, text) in enumerate(blocks):
        block = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
        events.append(named("content_block_start", index=index, content_block=block))
        for piece in _pieces(text):
            events.append(named("content_block_delta", index=index, delta={"type": f"{kind}_delta", kind: piece}))
        if kind == "thinking":
            signature = {"type": "signature_delta", "signature": "c2lnbmVk"}
            events.append(named("content_block_delta", index=index, delta=signature))
        events.append(named("content_block_stop", index=index))
    delta = {"stop_reason": _finish(step, "end_turn"), "stop_sequence": None}
    last: dict[str, Any] = {"delta": delta}
    if usage is not None:
        last["usage"] = {"output_tokens": usage.get("output_tokens")} if isinstance(usage, Mapping) else usage
    return [*events, named("message_delta", **last), named("message_stop")]


def error_body(path: str, status: int, message: str) -> bytes:
    """An error object in the words of the asked form; the statuses of a server that is asked too much name a limit."""
    message = {429: f"Rate limit reached: {message}", 503: f"Overloaded: {message}", 529: f"Overloaded: {message}"}.get(
        status, message)
    if "/messages" in path:
        kinds = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
                 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
        return _json({"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}})
    return _json({"error": {"message": message, "type": "server_error", "param": None, "code": None}})


def error_event(path: str, message: str) -> bytes:
    """An error inside of a stream that began well."""
    if "/messages" in path:
        return named("error", error={"type": "overloaded_error", "message": message})
    return _event({"error": {"message": message, "type": "server_error", "code": 502}})


def named(kind: str, **fields: Any) -> bytes:
    """One event in the Anthropic form."""
    return f"event: {kind}\n".encode() + _event({"type": kind, **fields})


def _event(data: Any) -> bytes:
    return b"data: " + _json(data) + b"\n\n"


def _json(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _content(said: Said, step: Step) -> str:
    if step.reasoning_field or not said.reasoning:
        return said.answer
    return f"<think>\n{said.reasoning}\n</think>\n\n{said.answer}"


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]


def _finish(step: Step, usual: str) -> str | None:
    return usual if step.finish == AUTO else step.finish


def _id(step: Step, kind: str, number: int) -> str:
    return f"{kind}-{number}" if step.id == AUTO else step.id
