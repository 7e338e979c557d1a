"""The engine against a server on this machine that speaks as the real ones do, and fails as they do."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from localdistill.core.errors import EngineError, EngineUnavailable
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.engines.openai_compatible import OpenAICompatibleEngine, OpenAICompatibleOptions
from localdistill.engines.wire.waiting import backoff_s, retry_after_s

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]
KEY = "sk-canary-0123456789"


class Server:
    """A server whose handler a test sets. `bodies` are the requests that came in, `times` when they did."""

    def __init__(self) -> None:
        self.handler: Handler
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(20)

    def _run(self, started: threading.Event) -> None:
        async def start() -> None:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", self._handle)
            self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
            await self._runner.setup()
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
            started.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        return await self.handler(request, body)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    instance = Server()
    yield instance
    instance.close()


def completion(message: dict[str, Any], finish: str | None = "stop", usage: Any = None) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}], "usage": usage}


def always(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Handler:
    async def handle(request: web.Request, asked: dict[str, Any]) -> web.Response:
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers, content_type="text/html")
        return web.json_response(body, status=status, headers=headers)
    return handle


def first(count: int, bad: Handler, good: Handler) -> Handler:
    seen = 0

    async def handle(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        return await (bad if seen <= count else good)(request, asked)
    return handle


def engine_of(server: Server, **options: Any) -> OpenAICompatibleEngine:
    return OpenAICompatibleEngine(OpenAICompatibleOptions(
        **{"base_url": server.url, "model": "m", "backoff_s": 0.01, "retries": 3, "patience_s": 0.3, "finish_s": 0.2,
           "stream": False, **options}))


def requests_of(count: int, **settings: Any) -> list[Request]:
    return [Request(str(i), (Message("user", f"q{i}"),), Sampling(max_tokens=100), **settings) for i in range(count)]


def ask(server: Server, count: int = 1, **options: Any) -> list[Reply]:
    engine = engine_of(server, **options)
    try:
        return list(engine.answer(iter(requests_of(count)), silent, Cancel()))
    finally:
        engine.close()


@pytest.mark.parametrize(("message", "reasoning", "answer", "kind"), [
    ({"content": "a"}, "", "a", "none"),
    ({"content": "a", "reasoning_content": "r"}, "r", "a", "raw"),
    ({"content": "a", "reasoning": "r"}, "r", "a", "raw"),
    ({"content": "a", "reasoning": "r", "reasoning_content": "r"}, "r", "a", "raw"),
    ({"content": "<think>\nr\n</think>\n\na", "reasoning_content": "r"}, "r", "a", "raw"),
    ({"content": "<think>r</think>a"}, "r", "a", "raw"),
    ({"content": "r</think>a"}, "r", "a", "raw"),
    ({"content": "a", "thinking": "r"}, "r", "a", "raw"),
    ({"content": "a", "reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": "r"}]},
     "r", "a", "raw"),
    ({"content": "a", "reasoning_details": [{"type": "reasoning.summary", "summary": "r"}]}, "r", "a", "summary"),
    ({"content": "a", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, "", "a", "encrypted"),
    ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "r"}]}, {"type": "text", "text": "a"}]},
     "r", "a", "raw"),
])
def test_reasoning_is_found_wherever_it_is_and_counted_once(
        server: Server, message: dict[str, Any], reasoning: str, answer: str, kind: str) -> None:
    body = completion(message)
    server.handler = always(body)
    (reply,) = ask(server)
    assert (reply.reasoning, reply.answer, reply.trace_kind, reply.status) == (reasoning, answer, kind, "complete")
    assert json.loads(reply.raw) == body


@pytest.mark.parametrize(("message", "finish", "status"), [
    ({"content": "a"}, "length", "length"), ({"content": "a"}, "content_filter", "filtered"),
    ({"content": "", "reasoning_content": "r"}, "stop", "reasoning_only"), ({"content": None}, "stop", "empty"),
    ({"content": None, "refusal": "no"}, "stop", "refusal"), ({"content": "a"}, None, "truncated"),
])
def test_finish_reasons(server: Server, message: dict[str, Any], finish: str | None, status: str) -> None:
    server.handler = always(completion(message, finish))
    assert ask(server)[0].status == status


def test_a_missing_finish_reason_is_complete_only_when_the_count_proves_it(server: Server) -> None:
    server.handler = always(completion({"content": "a"}, None, {"prompt_tokens": 3, "completion_tokens": 5}))
    assert ask(server)[0].status == "complete"
    server.handler = always(completion({"content": "a"}, None, {"prompt_tokens": 3, "completion_tokens": 100}))
    assert ask(server)[0].status == "truncated"


def test_usage_and_cost(server: Server) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "completion_tokens_details": {"reasoning_tokens": 400},
             "prompt_tokens_details": {"cached_tokens": 900}}
    server.handler = always(completion({"content": "a"}, usage=usage))
    (reply,) = ask(server, usd_per_million_input=1.0, usd_per_million_output=2.0)
    used = reply.usage
    assert (used.prompt_tokens, used.completion_tokens, used.reasoning_tokens, used.cached_tokens, used.estimated) == (
        1000, 500, 400, 900, False)
    assert reply.cost_usd == pytest.approx(0.002)
    assert ask(server)[0].cost_usd is None


def test_usage_is_estimated_when_the_server_does_not_say(server: Server) -> None:
    server.handler = always(completion({"content": "a" * 40}))
    usage = ask(server)[0].usage
    assert usage.estimated and usage.completion_tokens == 10


def test_what_is_sent(server: Server) -> None:
    server.handler = always(completion({"content": "a"}))
    engine = engine_of(server, thinking_switch="chat_template_kwargs", extra={"provider": {"order": ["x"]}})
    sampling = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, top_k=5, seed=3, stop=("END",))
    request = Request("r", (Message("system", "s"), Message("user", "u")), sampling, sample_index=2, thinks=False)
    list(engine.answer([request], silent, Cancel()))
    engine.close()
    assert server.bodies == [{
        "model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "max_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ["END"], "seed": 5,
        "chat_template_kwargs": {"enable_thinking": False, "thinking": False}, "provider": {"order": ["x"]}}]
    assert "Authorization" not in server.headers[0]


def test_all_replies_come_and_no_more_than_asked_are_in_flight(server: Server) -> None:
    now = most = 0

    async def handle(request: web.Request, asked: dict[str, Any]) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1
        return web.json_response(completion({"content": asked["messages"][0]["content"]}))

    server.handler = handle
    replies = ask(server, count=40, concurrency=4)
    assert {r.request_id: r.answer for r in replies} == {str(i): f"q{i}" for i in range(40)}
    assert most == 4


def test_flapping_servers_are_asked_again(server: Server) -> None:
    server.handler = first(3, always({"error": {"message": "busy"}}, 500), always(completion({"content": "a"})))
    assert ask(server)[0].status == "complete"
    assert len(server.bodies) == 4


def test_retry_after_is_obeyed_and_is_not_a_try(server: Server) -> None:
    server.handler = first(2, always({}, 429, {"Retry-After": "0.3"}), always(completion({"content": "a"})))
    assert ask(server, retries=0)[0].status == "complete"
    waits = [b - a for a, b in zip(server.times, server.times[1:])]
    assert len(waits) == 2 and all(0.3 <= wait < 3 for wait in waits)


def test_a_limit_that_does_not_end_makes_the_engine_unavailable(server: Server) -> None:
    server.handler = always({"error": {"message": "quota"}}, 429)
    with pytest.raises(EngineUnavailable, match="quota"):
        ask(server)


def test_a_limit_told_within_streams_is_why_the_engine_is_unavailable(server: Server) -> None:
    started = json.dumps({"choices": [{"index": 0, "delta": {"content": "It"}}]})
    refused = json.dumps({"error": {"message": "no capacity", "code": 429}})

    async def handle(request: web.Request, asked: dict[str, Any]) -> web.Response:
        return web.Response(text=f"data: {started}\n\ndata: {refused}\n\n", content_type="text/event-stream")

    server.handler = handle
    with pytest.raises(EngineUnavailable, match="no capacity"):
        ask(server, retries=1000, patience_s=0.2)


def test_html_is_tried_again_and_then_kept_as_evidence(server: Server) -> None:
    server.handler = always("<html>gateway</html>")
    (reply,) = ask(server)
    assert reply.status == "error" and reply.raw == "<html>gateway</html>"
    assert len(server.bodies) == 4


def test_errors_of_one_request_do_not_stop_the_others(server: Server) -> None:
    async def handle(request: web.Request, asked: dict[str, Any]) -> web.Response:
        text = asked["messages"][0]["content"]
        if text == "q1":
            return web.json_response({"error": {"message": "too long"}}, status=400)
        if text == "q2":
            return web.json_response({"error": {"message": "overloaded", "code": 502}})
        return web.json_response(completion({"content": text}))

    server.handler = handle
    replies = {r.request_id: r for r in ask(server, count=6, concurrency=1, retries=2)}
    assert {i for i, r in replies.items() if r.status == "complete"} == {"0", "3", "4", "5"}
    assert "too long" in replies["1"].error and "overloaded" in replies["2"].error


@pytest.mark.parametrize("away", [{}, {"backoff_s": 5.0, "patience_s": 0.001}],
                         ids=["tried again in time", "what failed waits for its next try"])
def test_a_server_that_only_fails_is_unavailable_and_earlier_replies_stay(
        server: Server, away: dict[str, float]) -> None:
    good = always(completion({"content": "a"}))
    bad = always({}, 503)

    async def handle(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        return await (good if asked["messages"][0]["content"] in ("q0", "q1") else bad)(request, asked)

    server.handler = handle
    engine = engine_of(server, concurrency=1, retries=2, **away)
    replies = engine.answer(iter(requests_of(9)), silent, Cancel())
    assert [next(replies).status for _ in range(2)] == ["complete", "complete"]
    with pytest.raises(EngineUnavailable, match="503"):
        assert {reply.status for reply in replies} <= {"error"}


def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = OpenAICompatibleEngine(OpenAICompatibleOptions(
        base_url=f"http://127.0.0.1:{port}/v1", model="m", retries=2, backoff_s=0.01, patience_s=0.2))
    with pytest.raises(EngineUnavailable, match=str(port)) as error:
        list(engine.answer(requests_of(20), silent, Cancel()))
    assert error.value.exit_code == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_names_the_variable_and_never_the_key(
        server: Server, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    server.handler = always({"error": {"message": f"bad key {KEY}"}}, status)
    with pytest.raises(EngineError) as error:
        ask(server, api_key_env="TEACHER_KEY")
    assert "TEACHER_KEY" in str(error.value) and server.url in str(error.value)
    assert KEY not in str(error.value) + error.value.hint
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}" and len(server.bodies) == 1


def test_an_echoed_key_does_not_reach_the_raw_reply(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    server.handler = always(completion({"content": f"your key is {KEY}"}))
    (reply,) = ask(server, api_key_env="TEACHER_KEY")
    assert KEY not in repr(reply)


def test_redirects_are_not_followed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    server.handler = always({}, 307, {"Location": f"{server.url}/chat/completions"})
    with pytest.raises(EngineError, match="redirects"):
        ask(server, api_key_env="TEACHER_KEY")
    assert len(server.bodies) == 1


def test_a_missing_key_and_unsafe_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    engine = OpenAICompatibleEngine(OpenAICompatibleOptions(
        base_url="https://example.invalid/v1", model="m", api_key_env="TEACHER_KEY"))
    with pytest.raises(EngineError, match="TEACHER_KEY is not set"):
        list(engine.answer(requests_of(1), silent, Cancel()))
    for options in ({"base_url": "http://example.invalid/v1", "api_key_env": "K"}, {"base_url": "ftp://x/v1"},
                    {"base_url": "http://169.254.169.254/v1"}, {"base_url": "https://u:p@example.invalid/v1"}):
        with pytest.raises(ValidationError):
            OpenAICompatibleOptions(model="m", **options)


def test_cancel_ends_what_is_in_flight(server: Server) -> None:
    async def never(request: web.Request, asked: dict[str, Any]) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    server.handler = never
    engine = engine_of(server)
    begin = time.monotonic()
    assert list(engine.answer(iter(requests_of(3)), silent, Cancel(lambda: bool(server.bodies)))) == []
    engine.close()
    assert time.monotonic() - begin < 10


def sse(events: list[Any], done: bool = True, cut: bool = False) -> Handler:
    async def handle(request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        assert asked["stream"] is True
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
        if done:
            await response.write(b"data: [DONE]\n\n")
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response
    return handle


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields, "finish_reason": finish}]}


DELTAS = [delta(role="assistant"), delta(reasoning_content="r1 "), delta(reasoning_content="é"), delta(content="a1"),
          delta(content=" a2")]


def test_streams_show_reasoning_between_tags(server: Server) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 9}}
    server.handler = sse([*DELTAS, delta("stop"), usage])
    engine = engine_of(server)
    pieces = list(engine.stream(requests_of(1)[0], Cancel()))
    reply = engine.last_reply
    engine.close()
    assert "".join(pieces) == "<think>\nr1 é\n</think>\n\na1 a2" and len(pieces) == 6
    assert reply is not None and (reply.reasoning, reply.answer, reply.status) == ("r1 é", "a1 a2", "complete")
    assert reply.usage.completion_tokens == 9


@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_without_an_end_is_truncated(server: Server, cut: bool) -> None:
    server.handler = sse(DELTAS, done=False, cut=cut)
    engine = engine_of(server)
    assert "a2" in "".join(engine.stream(requests_of(1)[0], Cancel()))
    assert engine.last_reply is not None and engine.last_reply.status == "truncated"
    engine.close()


ENDLESS = [{"choices": [{"delta": fields, "finish_reason": end}], "usage": {"prompt_tokens": 2, "completion_tokens": n}}
           for n, (fields, end) in enumerate([({"reasoning_content": "r"}, ""), ({"content": "a1"}, " "),
                                              ({"content": " a2"}, "")], 1)]


def test_an_empty_finish_reason_ends_nothing(server: Server) -> None:
    def status(events: list[dict[str, Any]], done: bool) -> tuple[str, str]:
        server.handler = sse(events, done=done)
        (reply,) = ask(server, stream=True, retries=0)
        assert (reply.reasoning, reply.answer) == ("r", "a1 a2")
        return reply.status, reply.finish_reason

    assert status(ENDLESS, done=False) == ("truncated", "")
    assert status([*ENDLESS, delta("stop")], done=False) == ("complete", "stop")
    assert status([*ENDLESS, delta("stop"), delta("")], done=False) == ("complete", "stop")
    assert status(ENDLESS, done=True) == ("complete", ""), "the stream says that it is over, and the count proves it"


@pytest.mark.parametrize("reason", ["stop", "null"])
def test_a_reason_in_every_piece_ends_nothing_before_the_stream_says_that_it_is_over(
        server: Server, reason: str) -> None:
    events = [delta(reason, reasoning_content="r"), delta(reason, content="a1"), delta(reason, content=" a2")]
    server.handler = sse(events, done=False)
    (reply,) = ask(server, stream=True, retries=0)
    assert reply.status in ("truncated", "error") and reply.answer == "a1 a2" and reply.finish_reason == reason
    server.handler = sse([*events, delta("stop")], done=True)
    assert ask(server, stream=True, retries=0)[0].status == "complete"


@pytest.mark.parametrize(("finish", "status", "asked"), [
    ("abort", "truncated", 2), ("insufficient_system_resource", "truncated", 2), ("sensitive", "filtered", 1),
    ("SAFETY", "filtered", 1), ("STOP", "complete", 1), ("max_output_tokens", "length", 1), ("nova", "error", 1),
])
def test_reasons_of_other_servers(server: Server, finish: str, status: str, asked: int) -> None:
    server.handler = always(completion({"content": "a"}, finish))
    (reply,) = ask(server)
    assert (reply.status, reply.finish_reason, reply.answer, len(server.bodies)) == (status, finish, "a", asked)


def test_an_error_inside_a_stream_is_an_error(server: Server) -> None:
    server.handler = sse([DELTAS[1], {"error": {"message": "lost the GPU"}}])
    engine = engine_of(server)
    with pytest.raises(EngineError, match="lost the GPU"):
        list(engine.stream(requests_of(1)[0], Cancel()))
    engine.close()


def test_waiting_times() -> None:
    now = datetime.now(UTC)
    date = format_datetime(now + timedelta(seconds=30))
    assert retry_after_s({"Retry-After": "2"}) == 2
    assert retry_after_s({"retry-after-ms": "250", "Retry-After": "9"}) == 0.25
    assert retry_after_s({"Retry-After": date}, now) == pytest.approx(30, abs=1.5)
    assert [retry_after_s({"Retry-After": bad}) for bad in ("-1", "soon", "inf", "nan", "")] == [None] * 5
    assert retry_after_s({}) is None
    assert all(15 <= backoff_s(40, 0.5) <= 30 for _ in range(20)) and 0.25 <= backoff_s(0, 0.5) <= 0.5


def test_identity_names_host_and_model_and_what_changes_answers() -> None:
    plain = OpenAICompatibleEngine(OpenAICompatibleOptions(base_url="https://example.invalid/v1", model="m"))
    other = OpenAICompatibleEngine(OpenAICompatibleOptions(
        base_url="https://example.invalid/v1", model="m", extra={"effort": "high"}))
    assert plain.identity() == "example.invalid/m"
    assert other.identity().startswith("example.invalid/m+")
