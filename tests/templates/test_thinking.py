from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localdistill.templates.marks import MARKS, Mark
from localdistill.templates.thinking import Split, join_thinking, opens_thinking_tag, split_beside, split_thinking

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


THOUGHT, SAID = "Seven and six make 13.", "It is 13."


@pytest.mark.parametrize("mark", [mark for mark in MARKS if mark.opening], ids=lambda mark: mark.opening)
def test_marks_are_known_in_any_case_behind_blanks_and_byte_order_marks(mark: Mark) -> None:
    opening, closing = mark.opening, mark.closing
    assert split_thinking(f"\ufeff\n  {opening.upper()}{THOUGHT}{closing.upper()}{SAID}") == Split(
        THOUGHT, SAID, True, True)
    assert split_thinking(f"{opening}\n{THOUGHT}") == Split(THOUGHT, "", True, False)
    assert opens_thinking_tag(f"<start>model\n{opening}\n")
    quoted = f"Write `{opening}` first:\n```\n{opening}\nx\n{closing}\n```\nThat is all."
    assert split_thinking(quoted) == Split("", quoted, False, False)


def test_blocks_that_follow_each_other_are_all_reasoning() -> None:
    text = "<think>one</think>\n<think>two</think>\n\nIt is 3. <think>three</think>"
    assert split_thinking(text) == Split("one\n\ntwo", "It is 3. <think>three</think>", True, True)
    assert split_thinking("<thought>one</thought><think>two") == Split("one\n\ntwo", "", True, False)


@pytest.mark.parametrize("text", [
    "The tag </think> ends it.", 'A reply closes with "</think>" here.', "Some, </thinking> among them, are tags.",
    "End with the mark </think>.",
])
def test_a_closing_mark_that_a_sentence_speaks_of_splits_nothing(text: str) -> None:
    assert split_thinking(text) == Split("", text, False, False)
    inside = f"I have to end it: {text} Done.</think>{SAID}"
    assert split_thinking(inside, opened=True).answer == SAID


@pytest.mark.parametrize(("opening", "closing"), [
    ("<|begin_of_solution|>", "<|end_of_solution|>"), ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<response>", "</response>"), ("<Output>", "</Output>"), ("<answer>", "</answer>"),
    ("<|open|>response<|sep|>", "<|close|>response<|sep|><|close|>message<|sep|>"),
])
def test_wrappers_of_the_answer_are_taken_off(opening: str, closing: str) -> None:
    for end in (closing, f"{closing}\n<|im_end|>", ""):
        assert split_thinking(f"<think>{THOUGHT}</think>\n{opening}\n{SAID}\n{end}") == Split(
            THOUGHT, SAID, True, True)


def test_xml_without_reasoning_is_the_answer_that_was_asked_for() -> None:
    for text in ("<response>\n<code>4</code>\n</response>", "<output>4</output>", "Use <s>old</s>"):
        assert split_thinking(text) == Split("", text, False, False)


@pytest.mark.parametrize("end", ["<|im_end|>", "</s>", "<|eot_id|>\n", "<｜end▁of▁sentence｜>"])
def test_what_ends_a_turn_is_no_part_of_it(end: str) -> None:
    assert split_thinking(f"<think>{THOUGHT}</think>{SAID}{end}").answer == SAID
    assert split_thinking(f"The token is {end.strip()}").answer == f"The token is {end.strip()}"


@pytest.mark.parametrize(("text", "opened", "expected"), [
    (f"analysis{THOUGHT}assistantfinal{SAID}", False, Split(THOUGHT, SAID, True, True)),
    (f"analysis\n{THOUGHT}\nassistant\nfinal\n{SAID}", False, Split(THOUGHT, SAID, True, True)),
    (f"analysis{THOUGHT}assistantcommentaryI look.assistantfinal{SAID}", False,
     Split(f"{THOUGHT}\n\nI look.", SAID, True, True)),
    (f"analysis{THOUGHT}", False, Split(THOUGHT, "", True, False)),
    (f"{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{SAID}<|return|>", True,
     Split(THOUGHT, SAID, True, True)),
    (f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant to=calc<|channel|>commentary<|message|>7+6"
     "<|call|>", False, Split(THOUGHT, "", True, False)),
    (f"<|channel|>final <|constrain|>json<|message|>{SAID}", False, Split("", SAID, False, False)),
    ("analysis of the final assistant: none", False, Split("", "analysis of the final assistant: none", False, False)),
])
def test_channels_with_and_without_their_special_tokens(text: str, opened: bool, expected: Split) -> None:
    assert split_thinking(text, opened) == expected


def test_reasoning_beside_the_text_and_in_it_is_one() -> None:
    assert split_beside(THOUGHT, f"</think>\n\n{SAID}") == Split(THOUGHT, SAID, True, True)
    assert split_beside(THOUGHT, f"<mm:think>{THOUGHT}</mm:think>{SAID}") == Split(THOUGHT, SAID, True, True)
    assert split_beside("first", f"<think>second</think>{SAID}").reasoning == "first\n\nsecond"
    assert split_beside(THOUGHT, "`</think>` ends it") == Split(THOUGHT, "`</think>` ends it", True, True)
