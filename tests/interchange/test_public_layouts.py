"""What people have: rows of the usual public layouts, each with one question about shells, and what must be read."""

import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.interchange.columns import column_map
from localdistill.interchange.files import FileReading, looks_like, read_file
from localdistill.interchange.imported import Imported

ASKED = "Nine shells lie in each of three nets. How many shells are there?"
THOUGHT = "Three nets of nine.\n3 * 9 = 27."
SAID = "There are \\boxed{27} shells."
TAGGED = f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"
MARKED = (f"<|begin_of_thought|>\n\n{THOUGHT}\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n{SAID}\n\n"
          "<|end_of_solution|>")
USER, REPLY = {"role": "user", "content": ASKED}, {"role": "assistant", "content": TAGGED}
HUMAN = {"from": "human", "value": ASKED}
RIGHT, WRONG = ({"role": "assistant", "content": text, "loss_weight": 1.0} for text in (SAID, "It is 12."))
PARTS = [{"type": "reasoning", "value": THOUGHT}, {"type": "text", "value": SAID}]

WITH_REASONING: dict[str, dict[str, Any]] = {
    "OpenThoughts": {"system": "Think.", "conversations": [{"from": "user", "value": ASKED},
                                                           {"from": "assistant", "value": MARKED}]},
    "OpenThoughts, metadata": {"problem": ASKED, "deepseek_reasoning": THOUGHT, "deepseek_solution": SAID,
                               "ground_truth_solution": "3*9", "test_cases": None, "domain": "math"},
    "s1K": {"question": ASKED, "solution": "27", "thinking_trajectories": [THOUGHT], "attempt": SAID, "cot": None},
    "s1K-1.1": {"question": ASKED, "solution": "27", "deepseek_thinking_trajectory": THOUGHT,
                "deepseek_attempt": SAID, "gemini_thinking_trajectory": "So.", "gemini_attempt": "27"},
    "OpenR1": {"problem": ASKED, "solution": "3*9", "answer": "27", "generations": [TAGGED, "<think>\n3"],
               "messages": [USER, REPLY]},
    "OpenMathReasoning": {"problem": ASKED, "generated_solution": TAGGED, "expected_answer": "27",
                          "generation_model": "R", "inference_mode": "cot"},
    "Nemotron": {"input": ASKED, "output": TAGGED, "license": "cc-by-4.0", "solution": "print(27)"},
    "dolphin": {"messages": [USER], "reasoning": THOUGHT, "answer": SAID, "model": "R"},
    "glaive": {"prompt": ASKED, "response": TAGGED},
    "thoughtology": {"question": ASKED, "answer": TAGGED, "time": 3.2},
    "predictions": {"ID": 3, "Problem": ASKED, "Answer": TAGGED},
    "combined": {"question": ASKED, "combined_text": MARKED, "domain": "math"},
    "prompt and completion": {"prompt": [USER], "completion": [REPLY]},
    "alpaca with a column": {"instruction": ASKED, "input": "", "reasoning": THOUGHT, "output": SAID},
    "typed parts": {"messages": [{"role": "user", "content": [{"type": "text", "value": ASKED}]},
                                 {"role": "assistant", "content": PARTS}]},
    "thinking parts": {"messages": [USER, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": THOUGHT, "signature": "x"}, {"type": "text", "text": SAID}]}]},
    "a field nobody standardised": {"messages": [USER, {"role": "assistant", "content": SAID,
                                                       "thinking_content": THOUGHT}]},
    "details": {"messages": [USER, {"role": "assistant", "content": SAID, "reasoning_details": [{"text": THOUGHT}]}]},
    "channels": {"messages": [USER, {"role": "assistant", "channel": "analysis", "content": THOUGHT},
                              {"role": "assistant", "channel": "final", "content": SAID}]},
    "a turn of thoughts": {"conversations": [HUMAN, {"from": "reasoning", "value": THOUGHT},
                                             {"from": "gpt", "value": SAID}]},
    "conversation": {"conversation_id": "c", "conversation": [USER, REPLY], "language": "English"},
    "an empty column of turns beside": {"messages": "[]", "conversations": [HUMAN, {"from": "gpt", "value": MARKED}]},
    "turns as JSON": {"messages": json.dumps([USER, REPLY])},
}


def rows(path: Path, *found: dict[str, Any], layout: str | None = None) -> list[Imported]:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return [item for _, item in read_file(path, layout or looks_like(path).layout)]


@pytest.mark.parametrize("kind", WITH_REASONING)
def test_a_reply_with_reasoning_is_found(kind: str, tmp_path: Path) -> None:
    item = rows(tmp_path / "rows.jsonl", WITH_REASONING[kind])[0]
    assert item.prompt.question == ASKED and item.trace is not None
    assert (item.trace.reasoning, item.trace.answer, item.trace.status) == (THOUGHT, SAID, "complete")
    assert item.trace.trace_kind == "raw"


@pytest.mark.parametrize(("row", "reference"), [
    ({"messages": [USER], "ground_truth": "27", "dataset": "d"}, "27"),
    ({"messages": [USER, REPLY], "answer": 27}, "27"),
    ({"prompt": [USER], "reward_model": {"style": "rule", "ground_truth": "27"}, "data_source": "d"}, "27"),
    ({"question": ASKED, "answer": "27"}, "27"),
    ({"question": ASKED, "solution": "9 + 9 + 9 = 27", "answer": "27"}, "27"),
    ({"input": ASKED, "target": "27"}, "27"),
    ({"problem": ASKED, "solution": "We add.\nIt is 27.", "answer": "27", "url": "u"}, "27"),
    ({"query": ASKED, "expected_answer": 27}, "27"),
    ({"problem": ASKED, "solution": "Add: \\boxed{3 \\cdot {9}} no, \\boxed{27}.\nDone."}, "27"),
    ({"Body": "Nine shells lie in each of three nets.", "Question": "How many shells are there?", "Answer": 27}, "27"),
])
def test_what_is_right_is_found(row: dict[str, Any], reference: str, tmp_path: Path) -> None:
    [item] = rows(tmp_path / "rows.jsonl", row)
    assert (" ".join(item.prompt.question.split()), item.prompt.reference) == (ASKED, reference)


def test_options_are_asked_with_their_letters(tmp_path: Path) -> None:
    for options in (["12", "27"], {"A": "12", "B": "27"}, {"text": ["12", "27"], "label": ["A", "B"]}):
        [item] = rows(tmp_path / "rows.jsonl", {"question": ASKED, "choices": options, "answer": 1})
        assert item.prompt.question == f"{ASKED}\n\nA. 12\nB. 27"
        assert item.prompt.reference == "B"
    [item] = rows(tmp_path / "rows.jsonl", {"question": ASKED, "options": "A) 12 B) 27", "Answer": "B"})
    assert item.prompt.question.endswith("\n\nA) 12 B) 27")


def test_several_generations_are_several_traces_with_their_verdicts_and_ends(tmp_path: Path) -> None:
    row = {"problem": ASKED, "answer": "27", "solution": "3*9", "generations": [TAGGED, "<think>\n3*9", "It is 12."],
           "correctness_math_verify": [True, False, False], "finish_reasons": ["stop", "length", None],
           "is_reasoning_complete": [True, False, True]}
    [item] = rows(tmp_path / "rows.jsonl", row)
    assert [(one.right, one.trace.status) for one in item.answers] == [
        (True, "complete"), (False, "length"), (False, "complete")]
    assert item.prompt.original == "3*9" and {one.said_by for one in item.answers} == {"correctness_math_verify"}
    row["finish_reasons"] = ["stop"]
    with pytest.raises(InputError, match="'finish_reasons' has 1 values for 3 answers"):
        rows(tmp_path / "rows.jsonl", row)


@pytest.mark.parametrize("row", [
    {"prompt": ASKED, "chosen": SAID, "rejected": "It is 12."},
    {"conversations": [HUMAN], "chosen": {"from": "gpt", "value": SAID},
     "rejected": {"from": "gpt", "value": "It is 12."}},
    {"chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
    {"prompt": ASKED, "chosen": [USER, RIGHT], "rejected": [USER, WRONG], "score_chosen": 8.0},
    {"chosen_messages": [USER, RIGHT], "rejected_messages": [USER, WRONG]},
    {"instruction": ASKED, "input": "", "chosen": SAID, "rejected": "It is 12."},
])
def test_pairs_are_two_answers_to_one_prompt(row: dict[str, Any], tmp_path: Path) -> None:
    [item] = rows(tmp_path / "rows.jsonl", row)
    assert item.prompt.question == ASKED
    assert [(one.trace.answer, one.right) for one in item.answers] == [(SAID, True), ("It is 12.", False)]


def test_a_row_that_is_not_wanted_carries_its_verdict(tmp_path: Path) -> None:
    talk = {"messages": [USER, {"role": "assistant", "content": "It is 12."}], "label": False}
    flat = {"prompt": ASKED, "completion": "It is 12.", "label": False}
    for number, row in enumerate((talk, flat)):
        [item] = rows(tmp_path / f"{number}.jsonl", row)
        [answer] = item.answers
        assert answer.right is False and answer.fact is not None and answer.fact.passed is False


def test_values_that_stand_for_nothing_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "Count.", "input": NaN, "output": "27", "system": NaN}\n')
    [(_, item)] = read_file(path)
    assert [m.content for m in item.prompt.messages] == ["Count."]
    once = {"system": "Think.", "messages": [{"role": "system", "content": "Think."}, USER, REPLY]}
    assert [m.role for m in rows(path, once)[0].prompt.messages] == ["system", "user"]


def test_rows_that_cannot_be_used_are_counted_and_the_rest_comes_in(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"arguments": "{}"}}]}
    bad = [
        {"messages": [USER, call, {"role": "tool", "content": "4"}, {"role": "assistant", "content": "4"}]},
        {"messages": [USER, USER | {"content": TAGGED}]},
        {"messages": [USER, {"role": "assistant", "content": [{"type": "image_url", "image_url": "x"}]}]},
        {"messages": [USER, USER | {"content": TAGGED}]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*bad, {"messages": [USER, REPLY], "idx": 7}, {
        "messages": [USER, REPLY]}, {"messages": [USER, REPLY]}]))
    reading = FileReading()
    assert len(list(read_file(path, "messages", reading=reading))) == reading.rows == 3
    assert reading.left_out == 4 and sorted(reading.reasons.values()) == [1, 1, 2]
    assert any("row 1: a call of a tool names none" in text for text in reading.examples)
    assert any("row 2: the last two turns are both the user's" in text for text in reading.examples)
    assert dict(reading.unused) == {"idx": 1}


def test_a_person_says_which_column_holds_what(tmp_path: Path) -> None:
    row = {"frage": ASKED, "mehr": {"denken": THOUGHT}, "antwort": SAID, "soll": 27, "quelle": "book 3"}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    columns = column_map({"question": "frage", "reasoning": "mehr.denken", "answer": "antwort", "reference": "soll",
                          "document": "quelle"})
    [(_, item)] = read_file(path, columns=columns)
    assert item.trace is not None and (item.trace.reasoning, item.trace.answer) == (THOUGHT, SAID)
    assert item.prompt.reference == "27" and item.prompt.metadata["document"] == "book 3"


@pytest.mark.parametrize(("row", "is_guess"), [
    ({"question": ASKED}, False), ({"prompt": ASKED, "response": TAGGED}, False),
    ({"question": ASKED, "answer": "27"}, True), ({"text": ASKED}, True), ({"question": ASKED, "solution": "x"}, True),
    ({"problem": ASKED, "generated_solution": TAGGED}, False),
])
def test_a_name_that_may_mean_two_things_is_a_guess(row: dict[str, Any], is_guess: bool, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    assert looks_like(path).is_guess is is_guess
