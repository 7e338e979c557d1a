"""Teachers of several kinds on loopback, for probes: each is a few fields that say how it behaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REASONING = "First I multiply 47 by 83, which makes 3901, and then I go on in the same way. " * 12
REASONING_TOKENS = 240


@dataclass
class PlayedTeacher:
    """How one teacher behaves. What it was asked stands in `bodies`."""

    field_name: str = "reasoning_content"
    """Field that carries the reasoning; empty: the text does, in the tags of `tags`."""
    tags: tuple[str, str] = ("<think>\n", "\n</think>\n\n")
    reasoning: str = REASONING
    billed: int | None = REASONING_TOKENS
    """Reasoning tokens in the usage; None leaves the details out, and the count into the new tokens."""
    details: list[dict[str, Any]] = field(default_factory=list)
    """`reasoning_details` of the message."""
    answer: str = "The result is\n5,024"
    obeys_switch: bool = True
    refuses: tuple[str, ...] = ()
    """Keys of a body that get 400; `thinking:disabled` is the switch in that position."""
    limit_error: str = ""
    """What a limit above 65,536 gets with 400; empty: it is taken."""
    headers: dict[str, str] = field(default_factory=dict)
    finish: str | None = "stop"
    usage: bool = True
    model: str = "played-1"
    fail: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next replies instead of an answer; used up one by one."""
    stalls: bool = False
    """Streams with a limit above 65,536 say a few words and then nothing."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    def refusal(self, body: dict[str, Any]) -> str:
        """What is wrong with a body; empty: nothing."""
        for key in self.refuses:
            name, _, value = key.partition(":")
            if name in body and (not value or body[name].get("type") == value):
                return f"Unsupported parameter: '{name}'"
        return self.limit_error if body["max_tokens"] > 65_536 else ""

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole chat completion."""
        off = self.obeys_switch and body.get("thinking", {}).get("type") == "disabled"
        reasoning, billed = ("", 0) if off else (self.reasoning, self.billed)
        answer, finish = ("ready" if "ready" in body["messages"][-1]["content"] else self.answer), self.finish
        if body["max_tokens"] == 32:
            answer, finish = "one\ntwo", finish and "length"
        message: dict[str, Any] = {"role": "assistant", "content": answer}
        if reasoning and self.field_name:
            message[self.field_name] = reasoning
        elif reasoning:
            message["content"] = f"{self.tags[0]}{reasoning}{self.tags[1]}{answer}"
        if self.details and not off:
            message["reasoning_details"] = self.details
        shown = REASONING_TOKENS if billed is None and not off else billed or 0
        usage: dict[str, Any] = {"prompt_tokens": 40, "completion_tokens": shown + 8}
        if billed is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": billed}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return {"model": self.model, "choices": [choice], **({"usage": usage} if self.usage else {})}


def as_events(body: dict[str, Any]) -> bytes:
    """A completion as a stream: the texts in two pieces, then the end, then the usage."""
    choice = body["choices"][0]
    message, chunks = choice["message"], [{}]
    for key, value in message.items():
        if isinstance(value, str) and key != "role":
            half = len(value) // 2
            chunks += [{key: value[:half]}, {key: value[half:]}]
        elif key != "role":
            chunks.append({key: value})
    head = {"model": body["model"]}
    rows = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in chunks]
    rows.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    if "usage" in body:
        rows.append({**head, "choices": [], "usage": body["usage"]})
    return b"".join(b"data: " + json.dumps(row).encode() + b"\n\n" for row in rows) + b"data: [DONE]\n\n"


def as_message(body: dict[str, Any], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """The same in the form of Anthropic, with other blocks in front of the text."""
    text = {"type": "text", "text": body["choices"][0]["message"]["content"]}
    return {"type": "message", "model": body["model"], "content": [*blocks, text], "stop_reason": "end_turn",
            "usage": {"input_tokens": 40, "output_tokens": body["usage"]["completion_tokens"]}}


@contextmanager
def played(teacher: PlayedTeacher, blocks: list[dict[str, Any]] | None = None) -> Iterator[PlayedTeacher]:
    """`teacher` at its `url`. With `blocks` it speaks Anthropic's form too."""

    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            teacher.bodies.append(body)
            if teacher.fail:
                status, headers = teacher.fail.pop(0)
                self._send(status, json.dumps({"error": {"message": f"status {status}"}}).encode(), headers)
                return
            if wrong := teacher.refusal(body):
                self._send(400, json.dumps({"error": {"message": wrong}}).encode(), {})
                return
            whole = teacher.completion(body)
            if self.path.endswith("/messages"):
                self._send(200, json.dumps(as_message(whole, blocks or [])).encode(), teacher.headers)
            elif body.get("stream") and teacher.stalls and body["max_tokens"] > 65_536:
                self._begin(200, {"Content-Type": "text/event-stream"})
                self.wfile.write(as_events(whole)[:250])
                over.wait(30)
            elif body.get("stream"):
                self._send(200, as_events(whole), {"Content-Type": "text/event-stream", **teacher.headers})
            else:
                self._send(200, json.dumps(whole).encode(), teacher.headers)

        def _begin(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self._begin(status, {**headers, "Content-Length": str(len(data))})
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield teacher
    finally:
        over.set()
        server.shutdown()
        server.server_close()
