"""Twenty thousand bodies that nobody would send on purpose: reading one never fails in a way that is not foreseen, and
one hostile reply never concerns another request."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from localdistill.engines.wire.anthropic_messages import Messages
from localdistill.engines.wire.attempt import OnPiece, _Events
from localdistill.engines.wire.chat_completions import ChatCompletions
from localdistill.engines.wire.collected import Malformed, reply_of
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.http import Refused, Slowed, Target, Transient
from tests.engines.test_wire_shapes import ALL, STREAMS, Shape
from tests.faults import Rule, Script, Step, fault_server
from tests.faults.asking import KINDS, ask, doubles, engine_for, is_right

STATUSES = {"complete", "length", "refusal", "filtered", "empty", "reasoning_only", "truncated", "looping", "error"}
DIALECTS: dict[str, Dialect] = {"openai_compatible": ChatCompletions(), "anthropic": Messages()}
WEIRD: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**40, 1.5, -0.0, float("inf"), "", "\x00", "\ud800", "x" * 5000, [], {}, [[]], [None],
    [{}], {"type": None}, {"type": "text"}, {"index": 10**30}, {"index": -1, "type": "thinking"}, {"text": {"text": 1}},
    {"message": "x"}, {"error": ""}, {"error": {"code": "9" * 30}}, ["a", 1, {"type": "text", "text": []}],
)


def events_of(shape: Shape) -> list[Any]:
    """The parsed events of a stream."""
    lines = shape.body.decode().splitlines()
    data = [line[5:].strip() for line in lines if line.startswith("data:")]
    return [json.loads(text) for text in data if text != "[DONE]"]


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    found: list[tuple[Any, Any]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        found.append((value, key))
        found += places(inner)
    return found


def spoil(value: Any, rng: random.Random) -> Any:
    """`value` with one to three parts replaced, removed, doubled or swapped."""
    box = [copy.deepcopy(value)]
    for _ in range(rng.randint(1, 3)):
        spots = places(box)
        holder, key = rng.choice(spots)
        match rng.randrange(4):
            case 0:
                holder[key] = copy.deepcopy(rng.choice(WEIRD))
            case 1:
                del holder[key]
                if not box:
                    return None
            case 2:
                holder[key] = [holder[key], copy.deepcopy(holder[key])]
            case _:
                other, place = rng.choice(spots)
                holder[key] = copy.deepcopy(other[place])
    return box[0]


def judge(dialect: Dialect, body: Any) -> None:
    """Read a body as an engine would."""
    if dialect.error_of(body) is not None:
        return
    try:
        collected = dialect.collect(body)
    except Malformed:
        return
    reply = reply_of(collected, "id", "", 1000, 0.1)
    assert reply.status in STATUSES and isinstance(reply.reasoning, str) and isinstance(reply.answer, str)
    usage = reply.usage
    assert min(usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens, usage.cached_tokens) >= 0


TEXTS = ("a", " and", 'a "quoted" word', "back\\slash", "line\nbreak",
         "Größe 数 🙂", "\ud83d", "\x00\x1f", "", "content", "0", "\u2028", "x" * 300)


def longer(events: list[Any], rng: random.Random) -> list[Any]:
    """The events of a stream, some of them several times in a row with other texts."""
    made: list[Any] = []
    for event in events:
        made.append(event)
        texts = [(holder, key) for holder, key in places([event]) if isinstance(holder[key], str)]
        for _ in range(rng.choice((0, 0, 3, 6)) if texts else 0):
            place, again = rng.randrange(len(texts)), copy.deepcopy(event)
            holder, key = [(h, k) for h, k in places([again]) if isinstance(h[k], str)][place]
            for _ in range(rng.randint(1, 4)):
                holder[key] = rng.choice(TEXTS)
                made.append(copy.deepcopy(again))
    return made


def heard(kind: str, pieces: list[bytes], on_piece: OnPiece | None) -> tuple[str, str]:
    """What a stream amounts to: its joined body, or what is raised."""
    events = _Events(Target("u", "", "", DIALECTS[kind]), on_piece)
    try:
        for piece in pieces:
            events.feed(piece)
            if events.over:
                break
        events.end()
        return "", events.answer({}).raw
    except (Malformed, Refused, Slowed, Transient) as problem:
        return type(problem).__name__, str(problem)


@pytest.mark.parametrize("kind", KINDS)
def test_events_that_differ_in_a_text_alone_are_joined_as_all_others_are(kind: str) -> None:
    rng = random.Random(13)
    streams = [events_of(shape) for shape in STREAMS if shape.engine == kind]
    for _ in range(1500):
        events = longer(rng.choice(streams), rng)
        if rng.random() < 0.3:
            events[place] = spoil(events[place := rng.randrange(len(events))], rng)
        ascii_only = rng.random() < 0.5
        data = b"".join(b"data: %b\n\n" % json.dumps(event, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
                        for event in events)
        if rng.random() < 0.2:
            at = rng.randrange(len(data))
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        cuts = sorted(rng.randrange(len(data)) for _ in range(8))
        pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        # Whoever watches gets every event read as JSON: that is the plain way.
        assert heard(kind, pieces, None) == heard(kind, pieces, lambda is_reasoning, text: None)


def test_a_text_that_is_also_the_name_of_a_field_is_no_pattern() -> None:
    deltas = [{"content": "content"}, {"reasoning": "content"}, {"content": "content"}]
    data = b"".join(b"data: %b\n" % json.dumps({"choices": [{"delta": delta}]}).encode() for delta in deltas)
    _, raw = heard("openai_compatible", [data], None)
    message = json.loads(raw)["choices"][0]["message"]
    assert message == {"content": "contentcontent", "reasoning": "content"}


@pytest.mark.parametrize("kind", KINDS)
def test_spoiled_bodies_are_read_or_refused(kind: str) -> None:
    rng = random.Random(11)
    bodies = [json.loads(shape.body) for shape in ALL if shape.engine == kind and not shape.stream]
    for _ in range(6000):
        judge(DIALECTS[kind], spoil(rng.choice(bodies), rng))


@pytest.mark.parametrize("kind", KINDS)
def test_spoiled_events_are_joined_or_refused(kind: str) -> None:
    rng = random.Random(12)
    streams = [events_of(shape) for shape in STREAMS if shape.engine == kind]
    for _ in range(5000):
        events = list(rng.choice(streams))
        for _ in range(rng.randint(1, 2)):
            place = rng.randrange(len(events))
            events[place] = spoil(events[place], rng)
        if rng.random() < 0.1:
            rng.shuffle(events)
        fold = DIALECTS[kind].fold()
        for event in events:
            if isinstance(event, dict):
                for is_reasoning, text in fold.take(event):
                    assert isinstance(is_reasoning, bool) and isinstance(text, str)
        body = fold.body()
        json.dumps(body)
        judge(DIALECTS[kind], body)


def scramble(data: bytes, rng: random.Random) -> bytes:
    """`data` with bits flipped, pieces cut out, put in or doubled."""
    spoiled = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(spoiled) + 1)
        end = min(len(spoiled), at + rng.randint(1, 40))
        match rng.randrange(4):
            case 0 if at < len(spoiled):
                spoiled[at] ^= 1 << rng.randrange(8)
            case 1:
                del spoiled[at:end]
            case 2:
                spoiled[at:at] = spoiled[at:end] * rng.randint(1, 3)
            case _:
                spoiled[at:at] = rng.choice((b"\x00", b"\xff", b"\n\n", b'"', b"{", b"]", b"data: ", b"[DONE]", b"\r"))
    return bytes(spoiled)


@pytest.mark.parametrize("kind", KINDS)
def test_scrambled_bytes_concern_their_own_request_only(kind: str) -> None:
    rng = random.Random(13)
    shapes = [shape for shape in ALL if shape.engine == kind]
    questions = doubles(300)
    rules = []
    for question in questions[::2]:
        shape = rng.choice(shapes)
        body = scramble(shape.body, rng).decode("latin-1")
        rules.append(Rule(Step(body=body, content_type=shape.content_type), question=question))
    with fault_server(Script(rules=tuple(rules))) as server:
        replies = {r.request_id: r for r in ask(engine_for(server.url, kind, retries=0, concurrency=8), questions)}
    assert set(replies) == set(questions) and {r.status for r in replies.values()} <= STATUSES
    assert all(is_right(replies[question]) for question in questions[1::2])
