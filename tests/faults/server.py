"""The fault server itself. In a thread of a test:

    with fault_server(Script(rules=(Rule(Step(status=503), times=3),))) as server:
        ask(server.url)                 # http://127.0.0.1:PORT/v1, for OpenAI and Anthropic form alike
        assert len(server.requests) == 4

As a process that outlives a client that is killed: `spawn_fault_server(script, folder)`, or by hand
`python -m tests.faults --port 0 --script script.json --record requests.jsonl`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import bodies
from tests.faults.batches import BatchDesk
from tests.faults.http import Asked, Connection, read_request
from tests.faults.script import AUTO, Chooser, Limit, Script, Step

_START_S = 20.0
_MOST_BUFFERED = 1 << 26
_KEY_HEADERS = ("authorization", "x-api-key", "api-key")


@dataclass
class Recorded:
    """One request, and what became of it."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: Any
    """Parsed JSON, None when it was none."""
    question: str
    """The last user message."""
    key: str
    """What came in the headers that carry keys; empty when none did."""
    at_s: float
    """Seconds on the monotonic clock, the same for all processes of a machine."""
    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """What a provider would charge for it: a reply that was cut costs as much as a whole one."""
    is_answered: bool = False
    """A whole reply that the server made itself was sent with status 200, and the client was still there."""


@dataclass
class _Window:
    start_s: float
    used: int = 0


class FaultServer:
    """Plays a script on 127.0.0.1 in a thread of its own."""

    def __init__(self, script: Script | None = None, port: int = 0,
                 on_request: Callable[[Recorded], None] | None = None) -> None:
        self.script = script or Script()
        self.requests: list[Recorded] = []
        """All requests, in the order in which they came."""
        self.connections = 0
        """Connections that were opened."""
        self.in_flight = self.most_in_flight = 0
        """Requests being worked on, waiting ones included: now, and at most."""
        self.port = port
        self.is_gone = False
        """Whoever asks is not heard: what a killed process would send after its end."""
        self.on_request = on_request
        self._chooser = Chooser(self.script)
        self._desk = BatchDesk(self.script.batch, self._reply_in_batch, bodies.question_of)
        self._window = _Window(time.monotonic())
        self._serving: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault server", daemon=True)

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> FaultServer:
        """Listen; returns once it does."""
        self._thread.start()
        assert self._ready.wait(_START_S), "the fault server did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def close(self) -> None:
        """Reset all connections and end the thread."""
        if self._thread.is_alive():
            self._call(self._shut)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """Address in front of `/chat/completions` and `/messages`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def play(self, script: Script) -> None:
        """Play another script from now on; what rules counted starts anew, handed-in batches stay."""
        async def swap() -> None:
            self.script, self._chooser = script, Chooser(script)
            self._desk._plan = script.batch

        self._call(swap)

    def release(self) -> None:
        """Let every request with `hold` go on, now and later."""
        async def go() -> None:
            self._gate.set()

        self._call(go)

    def go_down(self) -> None:
        """Nothing listens any more, open connections are reset."""
        self._call(self._down)

    def come_up(self) -> None:
        """Listen again at the same port."""
        self._call(self._listen)

    # -- what was seen ------------------------------------------------------------------------------------------------

    @property
    def asked(self) -> Counter[str]:
        """How often each question came."""
        return Counter(r.question for r in self.requests if r.question)

    @property
    def answered(self) -> Counter[str]:
        """How often each question got a whole reply with status 200."""
        return Counter(r.question for r in self.requests if r.is_answered and r.question)

    def billed_usd(self, input_per_million: float, output_per_million: float) -> float:
        """What a provider with these prices would charge for everything so far."""
        return sum(r.prompt_tokens * input_per_million + r.completion_tokens * output_per_million
                   for r in self.requests) / 1e6

    # -- inside -------------------------------------------------------------------------------------------------------

    def _call(self, work: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(work(), self._loop).result(_START_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._gate = asyncio.Event()
        self._places = asyncio.Semaphore(self.script.capacity) if self.script.capacity else contextlib.nullcontext()
        try:
            self._loop.run_until_complete(self._listen())
        except OSError as error:
            self._failure = error
            self._ready.set()
            return
        self._ready.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._desk.url = self.url
        self._listener = listener
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """asyncio's own server forgets connections that it was about to accept when it is closed; this one does not."""
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        self.connections += 1
        task = self._loop.create_task(self._serve(connection))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _down(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in self._serving - {asyncio.current_task()}:
            task.cancel()

    async def _shut(self) -> None:
        await self._down()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, raw: socket.socket) -> None:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=_MOST_BUFFERED, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, raw)
        except BaseException:
            raw.close()
            raise
        connection = Connection(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop))
        try:
            while (asked := await read_request(reader)) is not None and not self.is_gone:
                if not await self._answer(asked, connection):
                    break
            connection.close()
        except ConnectionError:
            connection.close()
        except asyncio.CancelledError:
            connection.reset()
            raise

    async def _answer(self, asked: Asked, connection: Connection) -> bool:
        """Answer one request. True when the connection goes on."""
        seen = self._record(asked)
        for outage in self.script.outages:
            if outage.after == seen.number:
                self._loop.call_later(outage.for_s, lambda: self._loop.create_task(self._listen()))
                await self._down()
                connection.reset()
                return False
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with self._places:
                if self.script.service_s:
                    await asyncio.sleep(self.script.service_s)
                return await self._reply(asked, seen, connection)
        finally:
            self.in_flight -= 1

    def _record(self, asked: Asked) -> Recorded:
        try:
            body = json.loads(asked.body) if asked.body else None
        except ValueError:
            body = None
        keys = " ".join(asked.headers[name] for name in _KEY_HEADERS if name in asked.headers)
        seen = Recorded(len(self.requests) + 1, asked.method, asked.path, dict(asked.headers), body,
                        bodies.question_of(body), keys, time.monotonic())
        self.requests.append(seen)
        return seen

    async def _reply(self, asked: Asked, seen: Recorded, connection: Connection) -> bool:
        over, limits = self._limited(self.script.limit)
        step = Step(status=429) if over else self._chooser.step(asked.path, seen.question)
        handled = None
        if step.status == 200:
            handled = self._desk.answer(asked.method, asked.path, asked.headers, asked.body)
        if handled is not None:
            step = dataclasses.replace(step, status=handled[0], body=handled[1].decode("latin-1"))
        elif asked.method != "POST" and step.status == 200:
            step = dataclasses.replace(step, status=404)
        if step.cut_by_number:
            step = dataclasses.replace(step, cut=int(seen.question.split()[-1]))
        is_stream = handled is None and step.status == 200 and bool((seen.body or {}).get("stream"))
        body = self._body(asked.path, seen, step, is_stream)
        seen.status = step.status
        if self.on_request is not None:
            self.on_request(seen)
        if step.delay_s:
            await asyncio.sleep(step.delay_s)
        if step.hold:
            await self._gate.wait()
        kind = step.content_type
        if kind == AUTO:
            kind = "text/event-stream" if is_stream else "application/json"
        headers = {"Content-Type": kind, **limits, **step.headers}
        if step.gzip_mb:
            headers["Content-Encoding"] = "gzip"
        is_whole = step.wire is None and step.cut is None and step.error_after is None and step.ending == "clean"
        seen.is_answered = is_whole and step.status == 200 and step.body is None
        try:
            return await connection.send(body, step, headers, is_stream)
        except ConnectionError:
            seen.is_answered = False
            raise

    def _body(self, path: str, seen: Recorded, step: Step, is_stream: bool) -> bytes:
        """The bytes of the reply; notes on `seen` what it costs."""
        most = seen.body.get("max_tokens") if isinstance(seen.body, dict) else None
        said = bodies.said_to(seen.question, step, most)
        if step.billed or (step.billed is None and step.body is None and step.status == 200):
            seen.prompt_tokens, seen.completion_tokens = said.prompt_tokens, said.completion_tokens
        if step.body is not None:
            return step.body.encode("latin-1")
        if step.status != 200:
            return bodies.error_body(path, step.status, f"the loopback server says {step.status}")
        is_message = "/messages" in path
        if not is_stream:
            if step.error_after is not None:
                return bodies.error_body(path, 502, "the loopback server lost the model")
            return (bodies.anthropic_body if is_message else bodies.openai_body)(said, step, seen.number)
        if is_message:
            events = bodies.anthropic_events(said, step, seen.number)
        else:
            options = seen.body.get("stream_options") or {}
            events = bodies.openai_events(said, step, seen.number, bool(options.get("include_usage")))
        if step.error_after is not None:
            events = [*events[: step.error_after], bodies.error_event(path, "the loopback server lost the model")]
        return b"".join(events)

    def _reply_in_batch(self, asked: Mapping[str, Any], path: str) -> tuple[Step, bytes]:
        """The step and body for one item of a batch; counted as a request of its own."""
        question = bodies.question_of(asked)
        step = self._chooser.step(path, question)
        seen = Recorded(len(self.requests) + 1, "BATCH", path, {}, dict(asked), question, "", time.monotonic(),
                        status=step.status)
        self.requests.append(seen)
        seen.is_answered = step.status == 200
        return step, self._body(path, seen, step, is_stream=False)

    def _limited(self, limit: Limit | None) -> tuple[bool, dict[str, str]]:
        """Whether the limit is reached, and the headers that say so."""
        if limit is None:
            return False, {}
        now = time.monotonic()
        if now - self._window.start_s >= limit.window_s:
            self._window = _Window(now)
        self._window.used += 1
        over, reset_s = self._window.used > limit.requests, self._window.start_s + limit.window_s - now
        headers = limit_headers(limit.headers, limit.requests, max(0, limit.requests - self._window.used), reset_s)
        if over and limit.says_retry_after:
            headers["Retry-After"] = f"{reset_s:.3f}"
        return over, headers


def limit_headers(whose: str, most: int, left: int, reset_s: float) -> dict[str, str]:
    """Rate limit headers for requests, as OpenAI (durations) or Anthropic (points in time) write them."""
    if whose == "openai":
        return {"x-ratelimit-limit-requests": str(most), "x-ratelimit-remaining-requests": str(left),
                "x-ratelimit-reset-requests": duration(reset_s)}
    if whose == "anthropic":
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + reset_s + 1))
        return {"anthropic-ratelimit-requests-limit": str(most), "anthropic-ratelimit-requests-remaining": str(left),
                "anthropic-ratelimit-requests-reset": when}
    return {}


def duration(seconds: float) -> str:
    """`20ms`, `1.5s`, `6m0s`, `1h2m3s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:g}s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}h{rest // 60}m{rest % 60}s" if hours else f"{rest // 60}m{rest % 60}s"


@contextmanager
def fault_server(script: Script | None = None) -> Iterator[FaultServer]:
    """A server in a thread that plays `script`."""
    server = FaultServer(script).start()
    try:
        yield server
    finally:
        server.close()


def refused_url() -> str:
    """An address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/v1"


@dataclass
class ServerProcess:
    """A fault server in a process of its own."""

    url: str
    process: subprocess.Popen[str]
    record: Path

    def requests(self) -> list[dict[str, Any]]:
        """The fields of `Recorded` for every request so far."""
        return [json.loads(line) for line in self.record.read_text().splitlines() if line.endswith("}")]

    def asked(self) -> Counter[str]:
        """How often each question came."""
        return Counter(row["question"] for row in self.requests() if row["question"])


@contextmanager
def spawn_fault_server(script: Script, folder: Path, port: int = 0) -> Iterator[ServerProcess]:
    """A server in a process of its own, for tests that kill the client; its files lie in `folder`."""
    (folder / "script.json").write_text(script.dump())
    record = folder / "requests.jsonl"
    record.touch()
    command = [sys.executable, "-m", "tests.faults", "--port", str(port), "--script",
               str(folder / "script.json"), "--record", str(record)]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        yield ServerProcess(json.loads(process.stdout.readline())["url"], process, record)
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Serve until standard input ends; the first line of standard output is `{"url": ...}`."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    script = Script.load(arguments.script.read_text()) if arguments.script else Script()
    with open(arguments.record or "/dev/null", "a", buffering=1) as record:
        def write(seen: Recorded) -> None:
            record.write(json.dumps({**dataclasses.asdict(seen)}) + "\n")

        server = FaultServer(script, arguments.port, write).start()
        sys.stdout.write(json.dumps({"url": server.url}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        server.close()
