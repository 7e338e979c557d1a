"""The engines against what servers are known to do wrong: no reply is lost, doubled or taken for more than it is, and
whatever cannot be answered says so in one clear line. Waiting, hostile bodies, money and whole runs have their own
files in `tests/faults/`."""

from __future__ import annotations

import json
import threading
import time

import pytest

from localdistill.core.errors import EngineError, EngineUnavailable
from localdistill.core.events import Cancel, Event, Warned, silent
from localdistill.core.records import Reply
from tests.faults import FaultServer, Outage, Rule, Script, Step, fault_server, refused_url
from tests.faults.asking import KINDS, ask, doubles, engine_for, first, is_right, one, request_for

kinds = pytest.mark.parametrize("kind", KINDS)
KEY = "sk-canary-0123456789"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("kind", "finish", "status"), [
    ("openai_compatible", "stop", "complete"), ("openai_compatible", "length", "length"),
    ("openai_compatible", "content_filter", "filtered"), ("openai_compatible", "refusal", "refusal"),
    ("anthropic", "end_turn", "complete"), ("anthropic", "stop_sequence", "complete"),
    ("anthropic", "max_tokens", "length"), ("anthropic", "model_context_window_exceeded", "length"),
    ("anthropic", "refusal", "refusal"), ("anthropic", "pause_turn", "truncated"),
])
def test_every_way_to_finish_has_its_status(
        server: FaultServer, kind: str, finish: str, status: str, stream: bool) -> None:
    server.play(Script(default=Step(finish=finish)))
    reply = one(server, kind, stream=stream, retries=0)
    assert (reply.status, reply.finish_reason) == (status, finish)
    assert (reply.reasoning, reply.answer) == ("7 + 7 = 14.", "The answer is 14.")


@kinds
@pytest.mark.parametrize("finish", ["a_new_reason", None])
def test_an_unknown_or_missing_reason_is_kept_and_never_complete(
        server: FaultServer, kind: str, finish: str | None) -> None:
    server.play(Script(default=Step(finish=finish, usage=None)))
    reply = one(server, kind)
    assert reply.status not in ("complete", "empty") and reply.finish_reason == (finish or "")
    assert reply.answer == "The answer is 14."


@kinds
@pytest.mark.parametrize("finish", ["a_new_reason", None])
def test_a_server_that_always_ends_oddly_is_not_paid_again_and_again(
        server: FaultServer, kind: str, finish: str | None) -> None:
    server.play(Script(default=Step(finish=finish, usage=None)))
    one(server, kind, retries=8, stream=False)
    assert len(server.requests) <= 2


@kinds
@pytest.mark.parametrize(("step", "status"), [
    (Step(answer=""), "reasoning_only"), (Step(answer="", reasoning=""), "empty"), (Step(answer=" \n "), None),
])
def test_what_holds_no_answer_is_said_so_and_asked_once(
        server: FaultServer, kind: str, step: Step, status: str | None) -> None:
    server.play(Script(default=step))
    assert one(server, kind).status == (status or "reasoning_only") and len(server.requests) == 1


@kinds
@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_failures_that_may_pass_are_tried_again(server: FaultServer, kind: str, status: int) -> None:
    server.play(first(Step(status=status), times=2))
    assert is_right(one(server, kind)) and len(server.requests) == 3


@kinds
@pytest.mark.parametrize("fault", [
    Step(error_after=0), Step(error_after=4), Step(cut=0), Step(cut=1), Step(cut=400), Step(cut=400, ending="reset"),
    Step(cut=400, ending="abrupt"), Step(body="<html>busy</html>", content_type="text/html"),
    Step(body="<html>busy</html>", content_type="text/html", status=502), Step(body=""), Step(body="null"),
    Step(body="[]"), Step(body='{"choices":[]}'), Step(body='{"choices":[{}],"content":{}}'), Step(body='"text"'),
    Step(body='{"error":{"message":"overloaded","code":529}}'), Step(body='{"error":"overloaded"}'),
    Step(body='{"type":"error","error":{"type":"overloaded_error","message":"x"}}'), Step(body="[" * 100_000),
    Step(body='{"choices":[{"message":{"content":' + "9" * 5000 + "}}]}"),
], ids=lambda step: f"{step.status}-{step.cut}-{step.ending}-{step.error_after}-{(step.body or '')[:24]}")
@pytest.mark.parametrize("stream", [True, False])
def test_a_broken_reply_is_asked_for_again_and_comes_once(
        server: FaultServer, kind: str, stream: bool, fault: Step) -> None:
    if fault.cut and not stream:
        fault = Step(cut=60, ending=fault.ending)
    server.play(first(fault, per_question=True))
    replies = ask(engine_for(server.url, kind, stream=stream), doubles(3))
    assert sorted(r.request_id for r in replies) == doubles(3) and all(is_right(r) for r in replies)
    assert set(server.asked.values()) == {2}


OK_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@kinds
@pytest.mark.parametrize("wire", [
    "", "\x00\xff\x00", "SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 200", OK_HEAD, "HTTP/1.1 999 ?\r\n\r\n",
    "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n",
    OK_HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", OK_HEAD + "Content-Length: -5\r\n\r\n{}",
    OK_HEAD + "Content-Length: 9\r\nContent-Length: 2\r\n\r\n{}", OK_HEAD + "X-Long: " + "a" * 200_000 + "\r\n\r\n{}",
    OK_HEAD + "no colon here\r\n\r\n{}", OK_HEAD + "Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",
], ids=lambda wire: repr(wire[:24] + wire[-12:]))
def test_what_is_no_http_is_asked_for_again(server: FaultServer, kind: str, wire: str) -> None:
    server.play(first(Step(wire=wire), per_question=True))
    replies = ask(engine_for(server.url, kind, idle_s=1), doubles(3))
    assert sorted(r.request_id for r in replies) == doubles(3) and all(is_right(r) for r in replies)
    assert set(server.asked.values()) == {2}


@kinds
def test_connections_that_end_after_each_reply_lose_nothing(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(ending="abrupt", framing="length")))
    replies = ask(engine_for(server.url, kind, retries=0, concurrency=4), doubles(80))
    assert len(replies) == 80 and all(is_right(r) for r in replies)


@kinds
@pytest.mark.parametrize("body", [
    b"<html>gateway</html>", b"\xff\xfe\x00 no text", b'{"choices":[{"message":{"content":"\xff', b"{'single': 1}",
])
def test_what_nobody_can_read_comes_back_as_evidence(server: FaultServer, kind: str, body: bytes) -> None:
    server.play(Script(default=Step(body=body.decode("latin-1"))))
    reply = one(server, kind, retries=2, stream=False)
    assert reply.status == "error" and reply.error and reply.raw.encode("utf-8", "surrogateescape") == body
    assert len(server.requests) == 3


@kinds
def test_hopeless_requests_do_not_stop_the_others(server: FaultServer, kind: str) -> None:
    server.play(Script(rules=(
        Rule(Step(status=400), question="Double 1"), Rule(Step(status=413), question="Double 2"),
        Rule(Step(body="<html>"), question="Double 3"), Rule(Step(cut=300), question="Double 4"),
        Rule(Step(error_after=3), question="Double 5"))))
    replies = {r.request_id: r for r in ask(engine_for(server.url, kind), doubles(12))}
    assert len(replies) == 12 and sum(is_right(r) for r in replies.values()) == 7
    assert {replies[f"Double {n}"].status for n in (1, 2, 3, 5)} == {"error"}
    assert all(replies[f"Double {n}"].error for n in (1, 2, 3, 5)) and replies["Double 4"].status == "truncated"
    assert server.asked["Double 1"] == server.asked["Double 2"] == 1


@kinds
def test_a_stall_is_noticed_by_silence_and_a_slow_stream_is_not(server: FaultServer, kind: str) -> None:
    server.play(first(Step(cut=300, ending="stall")))
    assert is_right(one(server, kind, idle_s=0.2))
    server.play(first(Step(cut=0, ending="stall", framing="close")))
    assert is_right(one(server, kind, idle_s=0.2))
    server.play(Script(default=Step(drip_bytes=40, drip_s=0.02)))
    before = len(server.requests)
    assert is_right(one(server, kind, idle_s=0.3)) and len(server.requests) - before == 1


@kinds
def test_a_server_that_says_nothing_at_all_is_given_up_in_time(server: FaultServer, kind: str) -> None:
    server.play(first(Step(hold=True)))
    assert is_right(one(server, kind, idle_s=0.2))
    server.play(Script(default=Step(drip_bytes=1, drip_s=0.05)))
    begin = time.monotonic()
    assert one(server, kind, timeout_s=0.3, idle_s=60, retries=1).status in ("truncated", "error")
    assert time.monotonic() - begin < 30


@kinds
def test_a_server_that_keeps_the_line_open_after_the_end_is_not_waited_for(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(cut=1_000_000, ending="stall")))
    begin = time.monotonic()
    assert is_right(one(server, kind, idle_s=60)) and time.monotonic() - begin < 30
    assert len(server.requests) == 1


@kinds
def test_a_server_that_flaps_loses_and_doubles_nothing(server: FaultServer, kind: str) -> None:
    questions, seen = doubles(60), list[Reply]()
    engine = engine_for(server.url, kind, concurrency=4)
    server.play(Script(service_s=0.002))
    for reply in engine.answer((request_for(q) for q in questions), silent, Cancel()):
        seen.append(reply)
        if len(seen) == 15:
            server.go_down()
            threading.Timer(0.3, server.come_up).start()
    engine.close()
    assert sorted(r.request_id for r in seen) == sorted(questions) and all(is_right(r) for r in seen)
    assert sum(server.asked.values()) <= 60 + 8


@kinds
def test_a_short_outage_with_many_in_flight_is_short(kind: str) -> None:
    with fault_server(Script(service_s=0.01, outages=(Outage(after=70, for_s=0.2),))) as server:
        begin = time.monotonic()
        replies = ask(engine_for(server.url, kind, concurrency=64, backoff_s=0.05), doubles(200))
        assert len(replies) == 200 and all(is_right(r) for r in replies)
        assert time.monotonic() - begin < 30


@kinds
def test_nobody_there_is_one_clear_line_and_resumable(kind: str) -> None:
    url = refused_url()
    with pytest.raises(EngineUnavailable) as error:
        ask(engine_for(url, kind, patience_s=0.2), doubles(30))
    assert error.value.exit_code == 3 and url in error.value.message and "\n" not in error.value.message
    assert error.value.hint


@kinds
def test_402_is_one_clear_line_and_what_came_stays(server: FaultServer, kind: str) -> None:
    server.play(Script(rules=(Rule(Step(status=402), after=10),)))
    engine = engine_for(server.url, kind, concurrency=2)
    got: list[Reply] = []
    with pytest.raises(EngineUnavailable, match="402") as error:
        for reply in engine.answer((request_for(q) for q in doubles(40)), silent, Cancel()):
            got.append(reply)
    assert error.value.exit_code == 3 and "\n" not in error.value.message and error.value.hint
    assert len(got) == 10 and all(is_right(r) for r in got) and len(server.requests) <= 12


@kinds
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_and_never_shown(
        server: FaultServer, kind: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    server.play(Script(default=Step(status=status, body=json.dumps({"error": {"message": f"bad key {KEY}"}}))))
    with pytest.raises(EngineError) as error:
        ask(engine_for(server.url, kind, api_key_env="TEACHER_KEY", concurrency=2), doubles(20))
    assert "TEACHER_KEY" in error.value.message and KEY not in repr(error.value) + error.value.hint
    assert KEY in server.requests[0].key and len(server.requests) <= 2


@kinds
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_takes_no_key_and_no_prompt_anywhere(
        server: FaultServer, kind: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with fault_server() as elsewhere:
        server.play(Script(default=Step(status=status, headers={"Location": f"{elsewhere.url}/{KEY}"})))
        with pytest.raises(EngineError, match="redirects") as error:
            ask(engine_for(server.url, kind, api_key_env="TEACHER_KEY"), doubles(2))
        assert elsewhere.connections == 0 and elsewhere.requests == []
        assert KEY not in str(error.value) + error.value.hint


@kinds
def test_a_key_in_a_reply_reaches_nobody(
        server: FaultServer, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    for step in (Step(answer=f"it is {KEY}."), Step(answer="", reasoning=f"{KEY}"), Step(body=f"<html>{KEY}"),
                 Step(status=400, body=json.dumps({"error": {"message": KEY}})), Step(status=500, body=KEY)):
        for stream in (True, False):
            server.play(Script(default=step))
            (reply,) = ask(engine_for(server.url, kind, api_key_env="TEACHER_KEY", retries=0, stream=stream), ["a b"])
            assert KEY not in repr(reply)


def test_a_pool_goes_on_without_the_ones_that_fail(server: FaultServer) -> None:
    with fault_server(Script(default=Step(status=401))) as refusing:
        places = [{"base_url": url} for url in (refused_url(), refusing.url, server.url)]
        said: list[Event] = []
        replies = ask(engine_for("", endpoints=places), doubles(40), said.append)
        assert len(replies) == 40 and all(is_right(r) for r in replies)
        assert any(isinstance(e, Warned) and refusing.url in e.text for e in said)
