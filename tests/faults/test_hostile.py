"""Bodies made to hurt: memory stays bounded, bytes come out as they went in, and one reply harms no other."""

from __future__ import annotations

import gzip

import pytest

from tests.faults import FaultServer, Rule, Script, Step, bodies
from tests.faults.asking import KINDS, ask, doubles, engine_for, is_right, one, peak_growth_mb

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.parametrize("step", [Step(gzip_mb=4000), Step(line_mb=100)], ids=["bomb", "line"])
@pytest.mark.parametrize("stream", [True, False])
def test_memory_is_bounded_whatever_comes(server: FaultServer, kind: str, step: Step, stream: bool) -> None:
    server.play(Script(rules=(Rule(step, question="Double 1"),)))
    grown, statuses = peak_growth_mb(kind, server.url, 3, stream=stream)
    assert sorted(statuses) == ["complete", "complete", "error"] and grown < 110


def test_many_bombs_at_once_are_bounded_too(server: FaultServer) -> None:
    server.play(Script(default=Step(gzip_mb=4000)))
    grown, statuses = peak_growth_mb("openai_compatible", server.url, 12, retries=0, stream=False)
    assert set(statuses) == {"error"} and grown < 400


@kinds
@pytest.mark.parametrize("stream", [True, False])
def test_compression_nobody_asked_for_is_undone_or_refused(server: FaultServer, kind: str, stream: bool) -> None:
    good = one(server, kind, stream=stream)
    body = server_body(server, kind, stream)
    packed = gzip.compress(body).decode("latin-1")
    content_type = "text/event-stream" if stream else "application/json"
    server.play(Script(default=Step(body=packed, headers={"Content-Encoding": "gzip"}, content_type=content_type)))
    reply = one(server, kind, stream=stream)
    assert is_right(reply) and reply.answer == good.answer
    server.play(Script(default=Step(body=packed[:40], headers={"Content-Encoding": "gzip"})))
    assert one(server, kind, stream=stream, retries=1).status in ("error", "truncated")
    server.play(Script(default=Step(body="?", headers={"Content-Encoding": "br"})))
    assert "br" in one(server, kind, stream=stream, retries=1).error


def server_body(server: FaultServer, kind: str, stream: bool) -> bytes:
    """What the server says to `Double 7`."""
    said = bodies.said_to("Double 7", Step())
    if kind == "anthropic":
        return b"".join(bodies.anthropic_events(said, Step(), 1)) if stream else bodies.anthropic_body(said, Step(), 1)
    return b"".join(bodies.openai_events(said, Step(), 1, True)) if stream else bodies.openai_body(said, Step(), 1)


@kinds
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("old", "new", "answer"), [
    (b"14.\"", b"14\xff\xc3.\"", "The answer is 14\udcff\udcc3."), (b"14.\"", b"14\\u0000.\"", "The answer is 14\x00."),
    (b"14.\"", b"14\\ud83d.\"", "The answer is 14\ud83d."), (b"14.\"", b"14\x1b[2J.\"", None),
], ids=["no-utf-8", "nul", "half-surrogate", "control"])
def test_odd_characters_are_kept_as_they_came(
        server: FaultServer, kind: str, stream: bool, old: bytes, new: bytes, answer: str | None) -> None:
    body = server_body(server, kind, stream).replace(b"The answe", b"The answe").replace(old, new)
    assert new in body
    server.play(Script(default=Step(body=body.decode("latin-1"),
                                    content_type="text/event-stream" if stream else "application/json")))
    reply = one(server, kind, stream=stream, retries=0)
    if answer is None:
        assert reply.status in ("error", "truncated")
        return
    assert reply.status == "complete" and reply.answer == answer
    if not stream:
        assert reply.raw.encode("utf-8", "surrogateescape") == body


def test_of_doubled_keys_the_last_counts_and_nothing_breaks(server: FaultServer) -> None:
    message = '{"content":"x","content":"The answer is 14.","reasoning":"7 + 7 = 14."}'
    choice = f'{{"message":{message},"finish_reason":"length","finish_reason":"stop"}}'
    body = f'{{"choices":[],"choices":[{choice}],"usage":1,"usage":{{"prompt_tokens":4,"completion_tokens":3}}}}'
    server.play(Script(default=Step(body=body)))
    reply = one(server, stream=False)
    assert is_right(reply) and reply.raw == body and reply.usage.completion_tokens == 3


@pytest.mark.parametrize("depth", [400, 900, 5000])
@kinds
def test_deep_nesting_concerns_one_request_only(server: FaultServer, kind: str, depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    event = {"openai_compatible": '{"choices":[{"index":0,"delta":%s,"finish_reason":null}]}',
             "anthropic": '{"type":"message_start","message":%s}'}[kind] % nested
    server.play(Script(rules=(Rule(Step(body=f"data: {event}\n\n", content_type="text/event-stream"),
                                   question="Double 1"),)))
    replies = ask(engine_for(server.url, kind, retries=1), doubles(5))
    assert len(replies) == 5 and sum(is_right(r) for r in replies) == 4


@kinds
@pytest.mark.parametrize("stream", [True, False])
def test_a_response_that_comes_twice_gives_one_reply_each(server: FaultServer, kind: str, stream: bool) -> None:
    server.play(Script(default=Step(twice=True)))
    replies = ask(engine_for(server.url, kind, concurrency=8, stream=stream, idle_s=0.5), doubles(100))
    assert sorted(r.request_id for r in replies) == sorted(doubles(100))
    assert all(is_right(r) for r in replies), "the second copy is never taken for the answer to the next question"


@kinds
def test_replies_with_one_id_are_all_kept(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(id="same")))
    replies = ask(engine_for(server.url, kind), doubles(20))
    assert len(replies) == 20 and all(is_right(r) for r in replies)
