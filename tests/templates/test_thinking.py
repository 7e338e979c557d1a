from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localdistill.templates.marks import MARKS
from localdistill.templates.thinking import Split, join_thinking, opens_thinking_tag, split_thinking

PAIRS = [(mark.opening, mark.closing) for mark in MARKS]


@pytest.mark.parametrize(("opening", "closing"), PAIRS)
def test_each_pair_of_tags_splits(opening: str, closing: str) -> None:
    assert split_thinking(f"{opening}\nr\n{closing}\n\na") == Split("r", "a", True, True)
    assert split_thinking(f"r{closing}a") == Split("r", "a", True, True)
    assert split_thinking(f"r{closing}a", opened=True) == Split("r", "a", True, True)


@pytest.mark.parametrize(("text", "opened", "expected"), [
    ("just an answer", False, Split("", "just an answer", False, False)),
    ("", False, Split("", "", False, False)),
    ("never closed", True, Split("never closed", "", True, False)),
    ("<think>never closed", False, Split("never closed", "", True, False)),
    ("<think></think>a", False, Split("", "a", True, True)),
    ("<think>r</think>a</think>b", False, Split("r", "a</think>b", True, True)),
    ("<think>r</think><answer>\n4\n</answer>", False, Split("r", "4", True, True)),
    ("<think>r</think><answer>4", False, Split("r", "4", True, True)),
    ("<think>r</think>x <answer>4</answer>", False, Split("r", "x <answer>4</answer>", True, True)),
    ("<think>\nr</think>a", True, Split("r", "a", True, True)),
    ("Well.\n<think>r</think>a", False, Split("r", "Well.\n\na", True, True)),
    ("The tags are <think> and </think>.", False, Split("", "The tags are <think> and </think>.", False, False)),
])
def test_shapes_of_replies(text: str, opened: bool, expected: Split) -> None:
    assert split_thinking(text, opened) == expected


def test_tags_in_code_of_the_answer_stay_there() -> None:
    answer = "Write:\n```html\n<think>x</think>\n```\nor `</think>`."
    assert split_thinking(f"<think>r</think>\n{answer}") == Split("r", answer, True, True)
    assert split_thinking(answer) == Split("", answer, False, False)


def test_a_closing_tag_in_code_of_the_reasoning_does_not_split_but_an_open_fence_does_not_hide_the_end() -> None:
    reasoning = "try\n```\n</think>\n```\nok"
    assert split_thinking(f"<think>{reasoning}</think>a") == Split(reasoning, "a", True, True)
    assert split_thinking("<think>try\n```\nopen</think>a") == Split("try\n```\nopen", "a", True, True)


def test_harmony_channels() -> None:
    text = "<|channel|>analysis<|message|>r1<|end|><|start|>assistant<|channel|>final<|message|>the answer"
    assert split_thinking(text) == Split("r1", "the answer", True, True)
    assert split_thinking("<|channel|>analysis<|message|>r1") == Split("r1", "", True, False)


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<◁`~"), max_size=80).map(str.strip)


@given(plain, plain, st.booleans())
def test_what_is_joined_comes_apart_the_same(reasoning: str, answer: str, opened: bool) -> None:
    split = split_thinking(join_thinking(reasoning, answer, opened), opened)
    assert (split.reasoning, split.answer, split.closed) == (reasoning, answer, True)


pieces = st.sampled_from([
    *(t for pair in PAIRS for t in pair), "<answer>", "</answer>", "```\n", "`", "\n", "word ", " ", "x"])


@given(st.lists(pieces, max_size=12), st.booleans())
def test_splitting_loses_nothing_but_tags_and_whitespace(parts: list[str], opened: bool) -> None:
    def letters(text: str) -> str:
        for tag in ("<answer>", "</answer>", *(t for pair in PAIRS for t in pair)):
            text = text.replace(tag, "")
        return "".join(sorted(text.replace("\n", "").replace(" ", "")))

    text = "".join(parts)
    split = split_thinking(text, opened)
    assert letters(split.reasoning + split.answer) == letters(text)
    if not split.found:
        assert not split.reasoning and not split.closed
    if opened and not split.closed:
        assert not split.answer


def test_the_canonical_text() -> None:
    assert join_thinking("r", "a") == "<think>\nr\n</think>\n\na"
    assert join_thinking("r", "a", opened=True) == "r\n</think>\n\na"


def test_an_opened_tag_at_the_end_of_a_prompt_is_seen() -> None:
    assert opens_thinking_tag("<|im_start|>assistant\n<think>\n")
    assert not opens_thinking_tag("<|im_start|>assistant\n<think>\n\n</think>\n\n")
