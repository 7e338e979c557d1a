"""The fault server does what its scripts say: a fault that is not played proves nothing."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults import (
    BatchPlan,
    FaultServer,
    Limit,
    Outage,
    Rule,
    Script,
    Step,
    fault_server,
    refused_url,
    spawn_fault_server,
)
from tests.faults.server import duration, limit_headers
from tests.helpers import wait_for

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def call(url: str, path: str, body: Any = None, method: str = "POST",
         headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own: status, headers, body. What was read before a failure is lost."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def ask(server: FaultServer, question: str = "Double 7", path: str = CHAT, **fields: Any) -> bytes:
    body = {"messages": [{"role": "user", "content": question}], **fields}
    return call(server.url, path, body)[2]


def raw(server: FaultServer, question: str = "Double 7", path: str = CHAT, **fields: Any) -> tuple[bytes, str]:
    """All bytes of the answer as they were on the wire, and how the connection ended: `fin` or `reset`."""
    body = json.dumps({"messages": [{"role": "user", "content": question}], **fields}).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
        wire.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        got = b""
        try:
            while data := wire.recv(65536):
                got += data
        except ConnectionResetError:
            return got, "reset"
    return got, "fin"


def test_both_forms_whole_and_as_events() -> None:
    with fault_server() as server:
        whole = json.loads(ask(server))
        assert whole["choices"][0]["message"] == {
            "role": "assistant", "content": "The answer is 14.", "reasoning_content": "7 + 7 = 14."}
        events = ask(server, stream=True, stream_options={"include_usage": True}).decode().split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""] and '"usage":{"prompt_tokens":5' in events[-3]
        deltas = [json.loads(e[6:])["choices"][0]["delta"] for e in events[:-3]]
        assert "".join(d.get("content", "") for d in deltas) == "The answer is 14."
        assert "usage" not in ask(server, stream=True).decode()
        message = json.loads(ask(server, path=MESSAGES))
        assert [b["type"] for b in message["content"]] == ["thinking", "text"] and message["stop_reason"] == "end_turn"
        stream = ask(server, path=MESSAGES, stream=True).decode()
        assert stream.startswith("event: message_start\n") and stream.endswith('{"type":"message_stop"}\n\n')
        assert server.asked == server.answered == {"Double 7": 5}
        assert call(server.url, "/v1/unknown", method="GET")[0] == 404


def test_rules_are_counted_in_all_and_by_question() -> None:
    script = Script(rules=(
        Rule(Step(status=503), question="a", times=2), Rule(Step(status=500), path="/messages", after=1, times=1),
        Rule(Step(status=429), question="b.*", times=1, per_question=True)))
    for played in (script, Script.load(script.dump())):
        with fault_server(played) as server:
            for question, path, status in (
                ("a", CHAT, 503), ("a", CHAT, 503), ("a", CHAT, 200), ("b1", CHAT, 429), ("b2", CHAT, 429),
                ("b1", CHAT, 200), ("c", MESSAGES, 200), ("c", MESSAGES, 500), ("c", MESSAGES, 200),
            ):
                body = {"messages": [{"role": "user", "content": question}]}
                assert call(server.url, path, body)[0] == status, question


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_stream_is_cut_at_the_byte_and_ends_as_told(path: str) -> None:
    with fault_server() as server:
        server.play(Script(default=Step(id="one")))
        whole = ask(server, path=path, stream=True)
        cut = len(whole) // 2
        for ending, framing, closing in (
            ("clean", "auto", None), ("abrupt", "auto", "fin"), ("abrupt", "close", "fin"),
            ("reset", "auto", "reset"), ("reset", "close", "reset"),
        ):
            server.play(Script(default=Step(id="one", cut=cut, ending=ending, framing=framing)))  # type: ignore[arg-type]
            if closing is None:
                assert ask(server, path=path, stream=True) == whole[:cut]
                continue
            got, ended = raw(server, path=path, stream=True)
            assert ended == closing
            sent = got.split(b"\r\n\r\n", 1)[1]
            framed = b"%x\r\n%b\r\n" % (cut, whole[:cut]) if framing == "auto" else whole[:cut]
            assert sent in (framed, b"") if ended == "reset" else sent == framed


def test_a_cut_whole_body_keeps_the_promised_length() -> None:
    with fault_server(Script(default=Step(cut=10))) as server, pytest.raises(http.client.IncompleteRead) as error:
        ask(server)
    assert len(error.value.partial) == 10


def test_a_stall_holds_the_connection_until_the_client_leaves() -> None:
    with fault_server(Script(default=Step(cut=5, ending="stall"))) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as wire:
            body = b'{"messages":[]}'
            wire.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
            got = b""
            while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n")[1]) < 5:
                got += wire.recv(65536)
            wire.settimeout(0.05)
            with pytest.raises(TimeoutError):
                wire.recv(1)
            assert server.in_flight == 1
        wait_for(lambda: server.in_flight == 0)


def test_an_error_event_comes_inside_of_a_good_stream() -> None:
    with fault_server(Script(default=Step(error_after=3))) as server:
        status, _, got = call(server.url, CHAT, {"messages": [], "stream": True})
        assert status == 200 and got.count(b"data: ") == 4 and b'{"error":{' in got and b"DONE" not in got
        assert b"event: error\n" in ask(server, path=MESSAGES, stream=True)
        assert json.loads(ask(server))["error"]["message"]


def test_a_bomb_and_a_long_line_are_as_large_as_told() -> None:
    with fault_server(Script(default=Step(gzip_mb=50))) as server:
        got, _ = raw_until_closed(server)
        assert len(got) < 200_000
        assert len(zlib.decompressobj(31).decompress(got)) > 50 * 1024 * 1024
        server.play(Script(default=Step(line_mb=3)))
        got = ask(server, stream=True)
        assert got.startswith(b'data: {"filler":"aaa') and len(got.split(b"\n", 1)[0]) > 3 * 1024 * 1024


def raw_until_closed(server: FaultServer) -> tuple[bytes, dict[str, str]]:
    status, headers, got = call(server.url, CHAT, {"messages": []})
    assert status == 200 and headers["content-encoding"] == "gzip"
    with pytest.raises(EOFError):
        gzip.decompress(got)
    return got, headers


def test_odd_bytes_and_usage_are_sent_as_they_are() -> None:
    body = b'{"a":1,"a":2,"b":"\xff\x00"}'
    with fault_server(Script(default=Step(body=body.decode("latin-1"), content_type="text/html"))) as server:
        status, headers, got = call(server.url, CHAT, {})
        assert (status, headers["content-type"], got) == (200, "text/html", body)
        for usage in (-5, "many", {"prompt_tokens": "x"}):
            server.play(Script(default=Step(usage=usage, finish=None)))
            sent = json.loads(ask(server))
            assert sent["usage"] == usage and sent["choices"][0]["finish_reason"] is None
        server.play(Script(default=Step(usage=None, id="same")))
        assert {json.loads(ask(server))["id"] for _ in range(2)} == {"same"}
        assert "usage" not in json.loads(ask(server))


def test_bytes_that_are_no_http_are_sent_as_they_are() -> None:
    with fault_server(Script(default=Step(wire="\x00\xff no http"))) as server:
        assert raw(server) == (b"\x00\xff no http", "fin") and not server.answered


def test_the_same_response_comes_twice_on_one_connection() -> None:
    with fault_server(Script(default=Step(twice=True, ending="abrupt"))) as server:
        got, _ = raw(server)
        assert got.count(b"HTTP/1.1 200 OK") == 2 and got.count(b"The answer is 14.") == 2


def test_a_queueing_server_says_nothing_and_works_on_few() -> None:
    with fault_server(Script(capacity=2, default=Step(hold=True))) as server:
        threads = [threading.Thread(target=ask, args=(server, f"Double {n}")) for n in range(6)]
        for thread in threads:
            thread.start()
        wait_for(lambda: server.in_flight == 6)
        assert sum(r.status == 200 for r in server.requests) == 2
        server.release()
        for thread in threads:
            thread.join()
        assert server.most_in_flight == 6 and sum(server.answered.values()) == 6


@pytest.mark.parametrize("whose", ["openai", "anthropic"])
def test_a_limit_answers_429_with_the_headers_of_the_provider(whose: str) -> None:
    prefix = {"openai": "x-ratelimit-remaining-requests", "anthropic": "anthropic-ratelimit-requests-remaining"}[whose]
    with fault_server(Script(limit=Limit(2, 60.0, whose))) as server:  # type: ignore[arg-type]
        seen = [call(server.url, CHAT, {"messages": []}) for _ in range(3)]
        assert [status for status, _, _ in seen] == [200, 200, 429]
        assert [headers[prefix] for _, headers, _ in seen] == ["1", "0", "0"]
        assert 0 < float(seen[2][1]["retry-after"]) <= 60 and "retry-after" not in seen[0][1]


def test_reset_times_in_the_words_of_the_providers() -> None:
    assert [duration(s) for s in (0.02, 1.5, 59, 360, 3723)] == ["20ms", "1.5s", "59s", "6m0s", "1h2m3s"]
    assert limit_headers("anthropic", 1, 0, 5)["anthropic-ratelimit-requests-reset"].endswith("Z")


def test_an_outage_refuses_and_ends() -> None:
    with fault_server(Script(outages=(Outage(after=2, for_s=0.1),))) as server:
        ask(server)
        with pytest.raises(OSError):
            ask(server)
        begin, refused = time.monotonic(), 0
        while True:
            try:
                ask(server)
                break
            except ConnectionRefusedError:
                refused += 1
        assert refused and time.monotonic() - begin < 10
        server.go_down()
        with pytest.raises(ConnectionRefusedError):
            ask(server)
        server.come_up()
        assert b"14" in ask(server)
    with pytest.raises(ConnectionRefusedError):
        call(refused_url(), CHAT, {})


def test_keys_and_costs_are_recorded() -> None:
    with fault_server() as server:
        call(server.url, CHAT, {"messages": []}, headers={"Authorization": "Bearer k1"})
        call(server.url, MESSAGES, {"messages": []}, headers={"x-api-key": "k2"})
        ask(server)
        assert [r.key for r in server.requests] == ["Bearer k1", "k2", ""]
        last = server.requests[-1]
        assert server.billed_usd(1.0, 0.0) > 0 and last.prompt_tokens == 5 and last.completion_tokens == 8


def upload(server: FaultServer, lines: list[dict[str, Any]]) -> str:
    content = "".join(json.dumps(line) + "\n" for line in lines)
    disposition = "Content-Disposition: form-data; name="
    form = (f'--b\r\n{disposition}"purpose"\r\n\r\nbatch\r\n--b\r\n{disposition}"file"; filename="x.jsonl"\r\n'
            f"Content-Type: application/jsonl\r\n\r\n{content}\r\n--b--\r\n").encode()
    status, _, got = call(server.url, "/v1/files", form, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert status == 200, got
    return str(json.loads(got)["id"])


PLAN = BatchPlan(polls=2, expired=("Double 2",), errored=("Double 3",), lost=("Double 4",), doubled=("Double 5",))


def test_openai_batches_run_through_their_states_and_fail_item_by_item() -> None:
    with fault_server(Script(batch=PLAN)) as server:
        lines = [{"custom_id": f"b2:{n}", "method": "POST", "url": CHAT,
                  "body": {"messages": [{"role": "user", "content": f"Double {n}"}]}} for n in range(1, 6)]
        asked = {"input_file_id": upload(server, lines), "endpoint": CHAT, "completion_window": "24h"}
        batch = json.loads(call(server.url, "/v1/batches", asked)[2])
        assert batch["status"] == "validating" and batch["output_file_id"] is None
        states = [json.loads(call(server.url, f"/v1/batches/{batch['id']}", method="GET")[2]) for _ in range(2)]
        assert [s["status"] for s in states] == ["in_progress", "completed"]

        def rows(name: str) -> list[dict[str, Any]]:
            got = call(server.url, f"/v1/files/{states[1][name]}/content", method="GET")[2]
            return [json.loads(line) for line in got.splitlines()]

        assert [r["custom_id"] for r in rows("output_file_id")] == ["b2:5", "b2:5", "b2:1"]
        assert rows("output_file_id")[2]["response"]["body"]["choices"][0]["message"]["content"] == "The answer is 2."
        assert [(r["custom_id"], (r["error"] or {}).get("code")) for r in rows("error_file_id")] == [
            ("b2:3", None), ("b2:2", "batch_expired")]
        assert call(server.url, "/v1/batches", {**asked, "completion_window": "1h"})[0] == 400
        assert call(server.url, "/v1/files/none/content", method="GET")[0] == 404


def test_openai_batches_are_cancelled_and_refused() -> None:
    with fault_server(Script(batch=BatchPlan(never_done=True))) as server:
        line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"messages": []}}
        asked = {"input_file_id": upload(server, [line]), "endpoint": CHAT, "completion_window": "24h"}
        name = json.loads(call(server.url, "/v1/batches", asked)[2])["id"]
        assert json.loads(call(server.url, f"/v1/batches/{name}/cancel", {})[2])["status"] == "cancelling"
        assert json.loads(call(server.url, f"/v1/batches/{name}", method="GET")[2])["status"] == "cancelled"
        server.play(Script(batch=BatchPlan(fails="line 1 is no JSON")))
        name = json.loads(call(server.url, "/v1/batches", asked)[2])["id"]
        state = json.loads(call(server.url, f"/v1/batches/{name}", method="GET")[2])
        assert state["status"] == "failed" and state["errors"]["data"][0]["message"] == "line 1 is no JSON"


def test_message_batches() -> None:
    with fault_server(Script(batch=PLAN)) as server:
        rows = [{"custom_id": f"r-{n}", "params": {"messages": [{"role": "user", "content": f"Double {n}"}]}}
                for n in range(1, 6)]
        batch = json.loads(call(server.url, "/v1/messages/batches", {"requests": rows})[2])
        assert batch["processing_status"] == "in_progress" and batch["results_url"] is None
        states = [json.loads(call(server.url, f"/v1/messages/batches/{batch['id']}", method="GET")[2])
                  for _ in range(2)]
        assert [s["processing_status"] for s in states] == ["in_progress", "ended"]
        path = urlsplit(states[1]["results_url"]).path
        results = [json.loads(line) for line in call(server.url, path, method="GET")[2].splitlines()]
        assert [(r["custom_id"], r["result"]["type"]) for r in results] == [
            ("r-5", "succeeded"), ("r-5", "succeeded"), ("r-3", "errored"), ("r-2", "expired"), ("r-1", "succeeded")]
        assert results[0]["result"]["message"]["content"][1]["text"] == "The answer is 10."
        refused = {"requests": [{"custom_id": "b2:with-colon", "params": {"messages": []}}]}
        assert call(server.url, "/v1/messages/batches", refused)[0] == 400


def test_the_process_outlives_clients_and_keeps_a_record(tmp_path: Path) -> None:
    script = Script(rules=(Rule(Step(status=503), times=1),))
    with spawn_fault_server(script, tmp_path) as server:
        body = {"messages": [{"role": "user", "content": "Double 4"}]}
        assert [call(server.url, CHAT, body)[0] for _ in range(2)] == [503, 200]
        assert [r["status"] for r in server.requests()] == [503, 200] and server.asked() == {"Double 4": 2}
