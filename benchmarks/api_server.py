"""A chat-completions server for measuring clients: a process of its own that costs little, with a latency, a capacity,
failures and storms that are stated on its command line. It counts every question and says when the first one came.

    python -m benchmarks.api_server '{"latency_s": 0.05}'      # prints its port, ends when standard input closes
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from localdistill.safety.children import PIPE, start_module

WORD = "lorem ipsum dolor sit amet consectetur "


@dataclass(frozen=True)
class Behaviour:
    """What the server does with each question."""

    latency_s: float = 0.05
    """From a question's turn to the end of its answer."""
    answer_chars: int = 2048
    events: int = 64
    """Events of a streamed answer."""
    bursts: int = 8
    """Writes that the events come in, spread over the latency."""
    capacity: int = 0
    """Answers worked on at once; further questions wait in line without a word. 0: any number."""
    fail_share: float = 0.0
    """Share of the questions that end in HTTP 500, after the latency."""
    storms: tuple[tuple[float, float], ...] = ()
    """(begin, end) in seconds after the first question: meanwhile everything is HTTP 429 with `Retry-After: 1`."""
    seed: int = 7


@dataclass
class Seen:
    """What the server has seen since it was started or cleared."""

    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """Whole answers by question."""
    statuses: Counter[int] = field(default_factory=Counter)
    first_at: float = 0.0
    """Seconds since the epoch; 0 when nothing has come."""
    last_at: float = 0.0
    """When the last whole answer left."""
    in_flight: int = 0
    most_in_flight: int = 0


class State:
    """Shared by all connections."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.waiting: deque[Connection] = deque()
        self.working = 0
        text = (WORD * (behaviour.answer_chars // len(WORD) + 1))[: behaviour.answer_chars]
        self.body = json.dumps({
            "id": NAME, "object": "chat.completion", "created": 1, "model": "mock",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": USAGE}).encode()
        self.bursts = list(_bursts(text, behaviour))
        self.clear()

    def clear(self) -> None:
        """Forget what was seen; storms begin anew with the next question."""
        self.seen = Seen()
        self.names = itertools.count()
        self.random = random.Random(self.behaviour.seed)

    def name(self) -> bytes:
        """A fresh name for a reply."""
        return b"chatcmpl-%010d" % next(self.names)

    def in_storm(self) -> bool:
        """Whether everything is refused now."""
        since = time.time() - self.seen.first_at
        return any(begin <= since < end for begin, end in self.behaviour.storms)


NAME = "chatcmpl-0000000000"
"""Stands for the name of a reply; each gets its own, as everywhere."""
USAGE = {"prompt_tokens": 20, "completion_tokens": 512, "total_tokens": 532}
_STREAM_HEAD = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n")
_REASONS = {200: b"OK", 429: b"Too Many Requests", 500: b"Internal Server Error"}


def _bursts(text: str, behaviour: Behaviour) -> Iterator[bytes]:
    """The answer as server-sent events, each in a chunk of its own, grouped into writes."""
    size = -(-len(text) // behaviour.events)
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    common = {"id": NAME, "object": "chat.completion.chunk", "created": 1, "model": "mock"}
    events: list[dict[str, Any]] = [
        {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append({**common, "choices": [], "usage": USAGE})
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%s\r\n" % (len(line), line) for line in lines]
    per_write = -(-len(chunks) // behaviour.bursts)
    for at in range(0, len(chunks), per_write):
        is_last = at + per_write >= len(chunks)
        yield b"".join(chunks[at : at + per_write]) + (b"0\r\n\r\n" if is_last else b"")


class Connection(asyncio.Protocol):
    """One keep-alive connection, one question at a time."""

    def __init__(self, state: State) -> None:
        self.state, self.rest, self.question, self.streams, self.name = state, b"", "", False, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.rest += data
        head, found, behind = self.rest.partition(b"\r\n\r\n")
        if not found:
            return
        lowered = head.lower()
        at = lowered.find(b"content-length:")
        length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(behind) < length:
            return
        body, self.rest = behind[:length], behind[length:]
        if head.startswith(b"GET"):
            self._tell(head.split(b" ", 2)[1])
        else:
            self._take(json.loads(body))

    def _tell(self, path: bytes) -> None:
        """The counts, which `/clear` also forgets."""
        self._send(200, json.dumps(vars(self.state.seen)).encode())
        if path == b"/clear":
            self.state.clear()

    def _take(self, body: dict[str, Any]) -> None:
        state, seen = self.state, self.state.seen
        if not body["messages"]:  # a client that only looks at the headers
            self._send(200, state.body)
            return
        content = body["messages"][-1]["content"]
        self.question = content if isinstance(content, str) else content[0]["text"]
        self.streams = bool(body.get("stream"))
        seen.first_at = seen.first_at or time.time()
        seen.asked[self.question] += 1
        if state.in_storm():
            seen.statuses[429] += 1
            self._send(429, b'{"error": {"message": "slow down"}}', b"Retry-After: 1\r\n")
            return
        seen.in_flight += 1
        seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
        if state.behaviour.capacity and state.working >= state.behaviour.capacity:
            state.waiting.append(self)
        else:
            self._work()

    def _work(self) -> None:
        self.state.working += 1
        behaviour = self.state.behaviour
        loop = asyncio.get_running_loop()
        if self.state.random.random() < behaviour.fail_share:
            loop.call_later(behaviour.latency_s, self._end, 500)
        elif self.streams:
            self._burst(0, loop, loop.time())
        else:
            loop.call_later(behaviour.latency_s, self._end, 200)

    def _burst(self, number: int, loop: asyncio.AbstractEventLoop, began: float) -> None:
        """Write the next part of a stream."""
        bursts = self.state.bursts
        if number == 0:
            self.name = self.state.name()
        elif not self.transport.is_closing():
            burst = bursts[number - 1].replace(NAME.encode(), self.name)
            self.transport.write((_STREAM_HEAD if number == 1 else b"") + burst)
        if number == len(bursts):
            self._end(0)
            return
        due = began + self.state.behaviour.latency_s * (number + 1) / len(bursts)
        loop.call_at(due, self._burst, number + 1, loop, began)

    def _end(self, status: int) -> None:
        """The work on the question is over; status 0: the answer has been streamed."""
        state, seen = self.state, self.state.seen
        state.working -= 1
        seen.in_flight -= 1
        seen.statuses[status or 200] += 1
        if status != 500 and not self.transport.is_closing():
            seen.answered[self.question] += 1
            seen.last_at = time.time()
        if status:
            good = state.body.replace(NAME.encode(), state.name(), 1)
            self._send(status, good if status == 200 else b'{"error": {"message": "out of order"}}')
        if state.waiting:
            state.waiting.popleft()._work()

    def _send(self, status: int, body: bytes, more: bytes = b"") -> None:
        if self.transport.is_closing():
            return
        self.transport.write(b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s"
                             % (status, _REASONS[status], more, len(body), body))


class Served:
    """A running server as the benchmark sees it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/v1"

    def seen(self, clear: bool = False) -> Seen:
        """The counts so far; `clear` forgets them at the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/clear" if clear else "/seen")
            data = json.loads(connection.getresponse().read())
        return Seen(**{**data, "asked": Counter(data["asked"]), "answered": Counter(data["answered"]),
                       "statuses": Counter({int(k): v for k, v in data["statuses"].items()})})


@contextmanager
def served(behaviour: Behaviour) -> Iterator[Served]:
    """A server in a process of its own."""
    process = start_module("benchmarks.api_server", json.dumps(asdict(behaviour)), stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Served(int(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


async def _serve(behaviour: Behaviour) -> None:
    state, loop = State(behaviour), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=2048)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Behaviour(**json.loads(sys.argv[1]))))
