"""Every shape in which a server is known to send reasoning, byte for byte, through the engines: what it said comes out
exactly once. And streams that break off at any byte: never taken for whole ones.

A shape is two files in `shapes/`: `NAME.body` holds the exact bytes, `NAME.json` says who sends them, how it is asked
and what must come out."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.events import Cancel
from localdistill.core.records import Reply
from tests.faults import FaultServer, Rule, Script, Step, bodies, fault_server
from tests.faults.asking import Engine, ask, engine_for, request_for
from tests.faults.script import AUTO

SHAPES = Path(__file__).parent / "shapes"


@dataclass(frozen=True)
class Shape:
    """One recorded way to answer."""

    name: str
    body: bytes
    engine: str
    options: dict[str, Any]
    stream: bool
    content_type: str
    expect: dict[str, Any]

    def step(self, body: bytes | None = None, **faults: Any) -> Step:
        return Step(body=(body or self.body).decode("latin-1"), content_type=self.content_type, **faults)


def read_shape(path: Path) -> Shape:
    about = json.loads(path.read_text("utf-8"))
    return Shape(path.stem, path.with_suffix(".body").read_bytes(), about["engine"], about["options"], about["stream"],
                 about["content_type"], about["expect"])


ALL = [read_shape(path) for path in sorted(SHAPES.glob("*.json"))]
STREAMS = [shape for shape in ALL if shape.stream]
named = pytest.mark.parametrize("shape", ALL, ids=lambda s: s.name)
streamed = pytest.mark.parametrize("shape", STREAMS, ids=lambda s: s.name)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as running:
        yield running


def asked(server: FaultServer, kind: str, **options: Any) -> Engine:
    """An engine that tries once."""
    return engine_for(server.url, kind, **{"retries": 0, "backoff_s": 0.001, **options})


def reply_to(engine: Engine) -> Reply:
    (reply,) = ask(engine, ["How many?"])
    return reply


def outcome(reply: Reply) -> dict[str, Any]:
    """What a shape says of a reply."""
    usage = dataclasses.asdict(reply.usage)
    counts = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
    return {
        "status": reply.status, "trace_kind": reply.trace_kind, "finish_reason": reply.finish_reason,
        "reasoning": reply.reasoning, "answer": reply.answer,
        "usage": None if usage["estimated"] else {name: usage[name] for name in counts},
    }


def test_the_corpus_is_whole() -> None:
    assert len(ALL) >= 16
    assert {path.stem for path in SHAPES.glob("[a-z]*")} == {shape.name for shape in ALL}
    assert {shape.stream for shape in ALL} == {True, False}
    kinds = {shape.expect["trace_kind"] for shape in ALL}
    assert kinds == {"raw", "summary", "encrypted", "none"}
    for path in SHAPES.glob("*.json"):
        about = json.loads(path.read_text("utf-8"))
        assert about["source"].startswith("https://") and about["about"] and about["provider"]


@named
def test_a_shape_gives_its_texts_once_and_byte_for_byte(server: FaultServer, shape: Shape) -> None:
    server.play(Script(default=shape.step()))
    reply = reply_to(asked(server, shape.engine, stream=shape.stream, **shape.options))
    assert outcome(reply) == shape.expect
    assert server.requests[-1].body.get("stream", False) is shape.stream
    if shape.stream:
        assert json.loads(reply.raw)["stream"] == "whole"
    else:
        assert reply.raw.encode() == shape.body


@streamed
def test_borders_of_packets_and_line_ends_change_nothing(server: FaultServer, shape: Shape) -> None:
    for body, size in ((shape.body, 7), (shape.body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), 0)):
        server.play(Script(default=shape.step(body, drip_bytes=size)))
        reply = reply_to(asked(server, shape.engine, **shape.options))
        assert outcome(reply) == shape.expect


@streamed
def test_what_is_shown_while_it_comes_is_shown_once(server: FaultServer, shape: Shape) -> None:
    server.play(Script(default=shape.step()))
    engine = asked(server, shape.engine, **shape.options)
    shown = "".join(engine.stream(request_for("How many?"), Cancel()))
    reply = engine.last_reply
    engine.close()
    assert reply is not None and outcome(reply) == shape.expect
    for text in (shape.expect["reasoning"], shape.expect["answer"]):
        if text and "legacy" not in shape.name:
            assert shown.count(text) == 1


@named
def test_a_server_that_ignores_how_it_was_asked_is_understood(server: FaultServer, shape: Shape) -> None:
    server.play(Script(default=shape.step()))
    reply = reply_to(asked(server, shape.engine, stream=not shape.stream, **shape.options))
    assert outcome(reply) == shape.expect


GOLDEN = {
    "openai_compatible": Step(id="golden", reasoning="Six and one\nis seven, é🙂.", answer="Seven {\"7\"}."),
    "anthropic": Step(id="golden", reasoning="Six and one\nis seven, é🙂.", answer="Seven {\"7\"}."),
}
ENDS = {"openai_compatible": b'"finish_reason":"stop"', "anthropic": b'"stop_reason":"end_turn"'}


def golden(server: FaultServer, kind: str) -> tuple[bytes, int]:
    """The bytes of the golden stream, and how many of them hold the terminal signal and all before it."""
    said = bodies.said_to("", GOLDEN[kind])
    events = (bodies.anthropic_events(said, GOLDEN[kind], 1) if kind == "anthropic"
              else bodies.openai_events(said, GOLDEN[kind], 1, with_usage=True))
    whole = b"".join(events)
    end = whole.index(b"\n", whole.index(ENDS[kind]))
    return whole, end


def sweep(server: FaultServer, kind: str, offsets: list[int], **faults: Any) -> dict[int, Reply]:
    """The reply to a stream that was cut at each offset; whole streams in between, as a server that only fails would
    be asked less and less often."""
    whole, _ = golden(server, kind)
    order = [*offsets, *([len(whole)] * (len(offsets) // 2))]
    random.Random(5).shuffle(order)
    server.play(Script(default=dataclasses.replace(GOLDEN[kind], cut_by_number=True, **faults)))
    engine = asked(server, kind, concurrency=16)
    questions = [f"{count} {offset}" for count, offset in enumerate(order)]
    replies = ask(engine, questions)
    assert len(replies) == len(questions) == len({reply.request_id for reply in replies})
    return {int(reply.request_id.split()[-1]): reply for reply in replies}


def check_cuts(server: FaultServer, kind: str, step: int, **faults: Any) -> None:
    whole, end = golden(server, kind)
    said = GOLDEN[kind]
    assert said.reasoning and said.answer
    for offset, reply in sweep(server, kind, list(range(0, len(whole), step)), **faults).items():
        if offset < end:
            assert reply.status in ("truncated", "error"), offset
            assert said.reasoning.startswith(reply.reasoning) and said.answer.startswith(reply.answer), offset
        elif faults.get("ending") != "reset":
            assert reply.status == "complete", f"paid for, finished, and lost at {offset}: {reply.error}"
        if offset == len(whole) or reply.status == "complete":
            assert (reply.status, reply.reasoning, reply.answer) == ("complete", said.reasoning, said.answer), offset


@pytest.mark.parametrize("kind", GOLDEN)
def test_a_stream_cut_at_any_byte_is_never_taken_for_whole(server: FaultServer, kind: str) -> None:
    check_cuts(server, kind, 1)


@pytest.mark.parametrize("kind", GOLDEN)
@pytest.mark.parametrize("ending", ["abrupt", "reset"])
def test_a_stream_that_breaks_is_never_taken_for_whole(server: FaultServer, kind: str, ending: str) -> None:
    check_cuts(server, kind, 11, ending=ending)


@pytest.mark.slow
@pytest.mark.parametrize("kind", GOLDEN)
@pytest.mark.parametrize(("ending", "framing"), [("abrupt", "auto"), ("reset", "auto"), ("clean", "close")])
def test_all_ways_to_break_at_all_bytes(server: FaultServer, kind: str, ending: str, framing: str) -> None:
    check_cuts(server, kind, 1, ending=ending, framing=framing)


@pytest.mark.parametrize("kind", GOLDEN)
def test_a_cut_stream_is_asked_for_again_and_comes_once(server: FaultServer, kind: str) -> None:
    _, end = golden(server, kind)
    offsets = list(range(0, end, 23))
    cut = dataclasses.replace(GOLDEN[kind], cut_by_number=True)
    again = dataclasses.replace(GOLDEN[kind], id=AUTO)  # a reply that comes twice under one name is refused
    server.play(Script(rules=(Rule(cut, times=1, per_question=True),), default=again))
    before = len(server.requests)
    replies = ask(asked(server, kind, retries=1), [f"cut {offset}" for offset in offsets])
    assert sorted(reply.request_id for reply in replies) == sorted(f"cut {offset}" for offset in offsets)
    assert {(r.status, r.reasoning, r.answer) for r in replies} == {
        ("complete", GOLDEN[kind].reasoning, GOLDEN[kind].answer)}
    assert len(server.requests) - before == 2 * len(offsets)
