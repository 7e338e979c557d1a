"""Raw output of many models, as published with what it means: reasoning and answer come apart as they should, but for
the differences that are named here. Calls that a model writes into its text stay in the text of the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.templates.thinking import Split, split_thinking

CASES = Path(__file__).resolve().parents[2] / "../shared/data/chat_templates/parse_cases.jsonl"
DIFFERENT = {
    "029": "an empty block of reasoning counts as reasoning there",
    "300": "the model names who is spoken to in a first line, which is no mark of reasoning",
    "334": "words of the prompt are put before the reasoning there",
    "335": "the same, before a call",
    "355": "asked to leave everything as it came, channels stay in the text there",
}


def means(case: dict[str, Any], split: Split) -> bool:
    """Whether `split` is what the case says; of a reply that goes on from words of the prompt, its end."""
    said, wanted = case["expect"]["content"].strip(), case["expect"]["reasoning_content"].strip()
    if case["reasoning_format"] == "none":  # everything is left in the text there
        inside = split_thinking(said)
        said, wanted = inside.answer, inside.reasoning
    if "continue_final_message" in case.get("other", {}):
        return wanted.endswith(split.reasoning) and said.endswith(split.answer)
    if case["expect"]["tool_calls"]:
        return split.reasoning == wanted and (split.answer.startswith(said) or case["reasoning_format"] == "none")
    return (split.reasoning, split.answer) == (wanted, said)


@pytest.mark.skipif(not CASES.is_file(), reason="the published cases (../shared/data) are not on this machine")
def test_published_outputs_come_apart_as_published() -> None:
    """Whether the prompt had opened the reasoning is the template's to know: either may be right."""
    cases = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    wrong = {case["id"] for case in cases
             if not any(means(case, split_thinking(case["input"], opened)) for opened in (False, True))}
    assert len(cases) > 200 and wrong == DIFFERENT.keys()


THOUGHT, SAID = "I have to look it up.", "I look."
CALL = '<tool_call>\n{"name": "look"}\n</tool_call>'


@pytest.mark.parametrize(("text", "opened", "expected"), [
    (f"{THOUGHT}\n{CALL}", True, Split(THOUGHT, CALL, True, True)),
    (f"<think>{THOUGHT}\n{CALL}", False, Split(THOUGHT, CALL, True, True)),
    (f"<think>{THOUGHT}", False, Split(THOUGHT, "", True, False)),
    (f"<think>I write `<tool_call>` then.\n{CALL}", False, Split("I write `<tool_call>` then.", CALL, True, True)),
    (f"{THOUGHT}\n{CALL}", False, Split("", f"{THOUGHT}\n{CALL}", False, False)),
])
def test_a_call_ends_reasoning_that_nothing_else_ends(text: str, opened: bool, expected: Split) -> None:
    assert split_thinking(text, opened) == expected


@pytest.mark.parametrize(("text", "answer"), [
    (f"<think>{THOUGHT}</think>{SAID}<think>\n</think>", SAID),
    (f"<think>{THOUGHT}</think>{SAID}\n<think></think></think>", SAID),
    (f"<think>{THOUGHT}</think>{SAID}\n<think>No.</think>", f"{SAID}\n<think>No.</think>"),
    (f"<think>{THOUGHT}</think>The end is </think>", "The end is </think>"),
    (f"<think>{THOUGHT}</think></think>\n</think>{SAID}", SAID),
    (f"<think>{THOUGHT}</think><response>{SAID}</response>\n{CALL}", f"{SAID}\n{CALL}"),
])
def test_what_stands_around_an_answer_and_says_nothing_is_no_part_of_it(text: str, answer: str) -> None:
    assert split_thinking(text) == Split(THOUGHT, answer, True, True)
