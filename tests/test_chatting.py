"""Thinking is told from the answer while it streams, wherever the pieces are cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localdistill.api.models.chatting import ChatSession, ThinkingSplitter, open_chat
from localdistill.core.errors import Cancelled, EngineError, ModelFileError
from localdistill.core.events import Cancel
from localdistill.core.records import Reply, Request, Sampling
from localdistill.modelfiles.shipped import shipped_path


def feed(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkingSplitter()
    said = [piece for text in pieces for piece in splitter.feed(text)] + list(splitter.end())
    return ("".join(p.text for p in said if p.is_thinking), "".join(p.text for p in said if not p.is_thinking))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40))
def test_any_cut_gives_the_same_split(sizes: list[int]) -> None:
    text = "<think>\nfirst <b> then\n</think>\n\nThe answer <is> 4. Not a tag: <think> here."
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    thinking, answer = feed([*pieces, text[at:]])
    assert thinking.strip() == "first <b> then"
    assert answer.strip() == "The answer <is> 4. Not a tag: <think> here."


def test_text_without_tags_is_all_answer() -> None:
    assert feed(["plain ", "text <"]) == ("", "plain text <")


def test_thinking_that_never_closes_is_not_an_answer() -> None:
    assert feed(["<think>", "on and on"]) == ("on and on", "")


class PieceEngine:
    """Writes what it is given, piece by piece, until it is told to stop."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces
        self.asked: list[Request] = []
        self.last_reply: Reply | None = None

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        self.asked.append(request)
        written = ""
        for piece in self.pieces:
            if cancel.is_set():
                break
            if piece == "too long":
                raise EngineError("the prompt is too long")
            written += piece
            yield piece
        thinking, _, answer = written.partition("</think>")
        status = "truncated" if cancel.is_set() else "complete"
        self.last_reply = Reply(request.id, status, reasoning=thinking.removeprefix("<think>"), answer=answer)


def test_a_turn_is_remembered_without_its_thinking() -> None:
    engine = PieceEngine(["<think>", "two", "</think>", "It is ", "two."])
    session = ChatSession(engine, "m", Sampling())
    said = list(session.stream("How many?"))
    assert [(p.text, p.is_thinking) for p in said] == [("two", True), ("It is ", False), ("two.", False)]
    list(session.stream("Sure?"))
    assert [(m.role, m.content) for m in engine.asked[1].messages] == [
        ("user", "How many?"), ("assistant", "It is two."), ("user", "Sure?")]
    assert session.last is not None and session.last.answer == "It is two."
    session.reset()
    assert session.messages == [] and session.last is None


def test_a_stopped_answer_is_kept_and_the_next_question_is_answered() -> None:
    engine = PieceEngine(["one ", "two ", "three"])
    session = ChatSession(engine, "m", Sampling())
    stream = session.stream("count")
    next(stream)
    session.stop()
    list(stream)
    assert session.last is not None and session.last.status == "truncated"
    list(session.stream("again"))
    assert session.last.status == "complete"


def test_after_an_error_the_conversation_is_as_before() -> None:
    engine = PieceEngine(["</think>fine"])
    session = ChatSession(engine, "m", Sampling())
    list(session.stream("first"))
    engine.pieces = ["half", "too long"]
    with pytest.raises(EngineError):
        list(session.stream("second"))
    assert [m.content for m in session.messages] == ["first", "fine"]


def test_a_file_that_is_missing_or_a_wish_to_stop_ends_the_opening(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"), open_chat(tmp_path / "no.gguf"):
        pass
    pytest.importorskip("llama_cpp")
    with pytest.raises(Cancelled), open_chat(shipped_path("pantry/teacher.gguf"), cancel=Cancel(lambda: True)):
        pass


@pytest.mark.parametrize(("opening", "closing"), [
    ("[THINK]", "[/THINK]"), ("<|channel>thought", "<channel|>"), ("<Thought>", "</Thought>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>")])
@given(st.integers(1, 9))
def test_every_mark_is_told_apart_while_it_streams(opening: str, closing: str, size: int) -> None:
    text = f" {opening}\nfirst [x] then</b>\n{closing}\n\nThe answer is {closing[0]}4."
    thinking, answer = feed([text[at:at + size] for at in range(0, len(text), size)])
    assert (thinking.strip(), answer.strip()) == ("first [x] then</b>", f"The answer is {closing[0]}4.")
