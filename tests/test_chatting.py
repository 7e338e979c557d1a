"""Thinking is told from the answer while it streams, wherever the pieces are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localdistill.chatting import ThinkingSplitter


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
