from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Reply, Request
from localdistill.engines.replay import ReplayEngine, ReplayOptions


def ask(path: Path, *requests: Request) -> list[Reply]:
    return list(ReplayEngine(ReplayOptions(path=str(path))).answer(iter(requests), silent, Cancel()))


def user(text: str, index: int = 0, system: str = "") -> Request:
    messages = (*([Message("system", system)] if system else []), Message("user", text))
    return Request(f"{text}/{index}", messages, sample_index=index)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"question": "2+2?", "reasoning": "two and two", "answer": "4"},
        {"question": "2+2?", "answer": "four"},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "2+2?"}], "answer": "s4"},
        {"question": "raw", "raw": "<think>r</think>a"},
        {"question": "cut", "answer": "ab", "status": "length"},
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_samples_messages_raw_and_status(recording: Path) -> None:
    first, second, third, system, other, raw, cut = ask(
        recording, user("2+2?"), user("2+2?", 1), user("2+2?", 2), user("2+2?", system="s"), user("2+2?", system="t"),
        user("raw"), user("cut"))
    assert (first.reasoning, first.answer, first.status, first.trace_kind) == ("two and two", "4", "complete", "raw")
    assert first.raw == "<think>\ntwo and two\n</think>\n\n4"
    assert (second.answer, second.trace_kind, third.answer) == ("four", "none", "4")
    assert (system.answer, other.answer) == ("s4", "4")
    assert (raw.reasoning, raw.answer) == ("r", "a")
    assert cut.status == "length"


def test_what_was_not_recorded_is_an_error_reply(recording: Path) -> None:
    (reply,) = ask(recording, user("new"))
    assert reply.status == "error" and "does not hold" in reply.error


def test_bad_recordings_name_the_row(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    for row in ("{", '{"answer": "x"}', '{"question": "x"}', '{"question": "x", "answer": "y", "status": "odd"}'):
        path.write_text('{"question": "q", "answer": "a"}\n' + row)
        with pytest.raises(InputError, match="row 2"):
            ask(path, user("q"))
    with pytest.raises(InputError, match="cannot be read"):
        ask(tmp_path / "none", user("q"))


@pytest.mark.parametrize(("row", "says"), [
    (b'{"question": "q", "answer": "' + b"word " * 2_000_000 + b'"}', "longer than 8,388,608 bytes"),
    (b'{"question": "q", "answer": "a", "x": [' + b"[]," * 700_000 + b"1]}", "holds some"),
    (b'{"question": ' + b"[" * 100 + b"]" * 100 + b"}", "64 deep"), (b'{"question": "\xff"}', "not UTF-8"),
    (b'{"question": ' + b"9" * 6_000 + b"}", "not valid JSON"), (b"[1]", "does not hold a JSON object"),
])
def test_a_row_that_no_recording_holds_is_refused_before_it_is_built(tmp_path: Path, row: bytes, says: str) -> None:
    path = tmp_path / "large.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "q", "answer": "a"}\n\n' + row + b"\n")
    with pytest.raises(InputError, match=f"row 3.*{says}"):
        ask(path, user("q"))


def test_rows_stay_in_their_file_and_a_recording_that_changes_meanwhile_is_named(recording: Path) -> None:
    engine = ReplayEngine(ReplayOptions(path=str(recording)))

    def answer() -> list[Reply]:
        return list(engine.answer(iter([user("raw")]), silent, Cancel()))

    assert [reply.answer for reply in answer()] == ["a"]
    recording.write_text(json.dumps({"question": "raw", "answer": "another"}))
    with pytest.raises(InputError, match="was changed while it was in use"):
        answer()
    engine.close()
    assert [reply.answer for reply in answer()] == ["another"]


def test_requests_are_pulled_one_by_one_and_cancel_stops(recording: Path) -> None:
    pulled: list[str] = []

    def requests() -> Any:
        for text in ("2+2?", "raw", "cut"):
            pulled.append(text)
            yield user(text)

    stop = False
    replies = ReplayEngine(ReplayOptions(path=str(recording))).answer(requests(), silent, Cancel(lambda: stop))
    next(replies)
    assert pulled == ["2+2?"]
    stop = True
    assert list(replies) == [] and pulled == ["2+2?", "raw"]


def test_stream_adds_up_to_the_raw_reply(recording: Path) -> None:
    engine = ReplayEngine(ReplayOptions(path=str(recording)))
    pieces = list(engine.stream(user("2+2?"), Cancel()))
    assert engine.last_reply is not None and "".join(pieces) == engine.last_reply.raw and len(pieces) > 1


def test_identity_is_the_file(recording: Path) -> None:
    engine = ReplayEngine(ReplayOptions(path=str(recording)))
    before = engine.identity()
    assert before.startswith("sha256:")
    recording.write_text("")
    assert ReplayEngine(ReplayOptions(path=str(recording))).identity() != before


def test_a_recorded_reply_says_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    rows = [{"question": "cut", "answer": "ab", "finish_reason": "length"},
            {"question": "open", "raw": "<think>and then"}, {"question": "odd", "answer": "a", "finish_reason": "nova"},
            {"question": "none", "answer": "a", "finish_reason": ""}]
    path.write_text("\n".join(map(json.dumps, rows)))
    cut, is_open, odd, none = ask(path, *(user(str(row["question"])) for row in rows))
    assert (cut.status, cut.finish_reason, is_open.status, none.status) == ("length", "length", "truncated", "complete")
    assert odd.status == "error" and "nova" in odd.error and odd.answer == "a"
