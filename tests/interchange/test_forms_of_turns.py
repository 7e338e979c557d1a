"""Conversations come in whatever their arrangement, and columns that carry an answer, its reasoning or a veto are used
or named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from localdistill.interchange.files import FileReading, Likeness, looks_like, read_file
from localdistill.interchange.imported import Imported

Q, R, A = "How many legs have 3 spiders?", "A spider has 8.\n3 times 8 is 24.", "They have 24 legs."
ASKED, TAGGED = {"role": "user", "content": Q}, f"<think>\n{R}\n</think>\n\n{A}"


def read(tmp_path: Path, row: Mapping[str, Any]) -> tuple[Likeness, Imported, FileReading]:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    likeness, reading = looks_like(tmp_path / "rows.jsonl"), FileReading()
    columns = likeness.columns if likeness.is_guess else None
    found = [item for _, item in read_file(tmp_path / "rows.jsonl", likeness.layout, columns, reading)]
    assert found, reading.examples
    return likeness, found[0], reading


ARRANGED: dict[str, dict[str, Any]] = {
    "Gemini": {"contents": [{"role": "user", "parts": [{"text": Q}]},
                            {"role": "model", "parts": [{"text": R, "thought": True}, {"text": A}]}]},
    "LangChain": {"messages": [{"type": "human", "content": Q},
                               {"type": "ai", "content": A, "additional_kwargs": {"reasoning_content": R}}]},
    "LangChain, one level deeper": {"messages": [{"type": "human", "data": {"content": Q}},
                                                 {"type": "ai", "data": {"content": TAGGED}}]},
    "responses": {"messages": [ASKED, {"type": "reasoning", "summary": [{"type": "summary_text", "text": R}]},
                               {"type": "message", "role": "assistant",
                                "content": [{"type": "output_text", "text": A}]}]},
    "Bedrock": {"messages": [ASKED, {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": R}}}, {"text": A}]}]},
    "texts with values": {"messages": [ASKED, {"role": "assistant", "content": [
        {"type": "text", "text": {"value": TAGGED}}]}]},
    "columns of turns": {"conversations": {"from": ["human", "gpt"], "value": [Q, TAGGED]}},
    "pairs": {"conversation": [{"human": Q, "assistant": TAGGED}]},
    "ChatML": {"text": f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n{TAGGED}<|im_end|>\n"},
    "Llama 3": {"text": f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{Q}<|eot_id|>"
                        f"<|start_header_id|>assistant<|end_header_id|>\n\n{TAGGED}<|eot_id|>"},
    "Gemma": {"text": f"<bos><start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n{TAGGED}<end_of_turn>\n"},
    "Llama 2": {"text": f"<s>[INST] {Q} [/INST] {TAGGED}</s>"},
    "headings": {"text": f"### Human: {Q}\n### Assistant: {TAGGED}"},
    "reasoning in a column beside": {"messages": [ASKED, {"role": "assistant", "content": A}], "thinking": R},
    "s1": {"messages": [ASKED, {"role": "assistant", "content": f"<|im_start|>think\n{R}\n<|im_start|>answer\n{A}"}]},
}


@pytest.mark.parametrize("form", ARRANGED)
def test_a_conversation_is_read_whatever_its_arrangement(tmp_path: Path, form: str) -> None:
    likeness, item, reading = read(tmp_path, ARRANGED[form])
    assert item.trace is not None and not likeness.is_guess
    assert (item.prompt.question, item.trace.reasoning, item.trace.answer) == (Q, R, A)
    assert len(item.prompt.messages) == 1 and not reading.unused


@pytest.mark.parametrize("text", ["<think>\nShort.\n</think>\n\nYes.", "### Summary\nAll good.", "[INST] is a mark.",
                                  "<|im_start|>user\nHi<|im_end|> and more"])
def test_a_text_that_only_begins_like_a_transcript_is_a_text(tmp_path: Path, text: str) -> None:
    _, item, _ = read(tmp_path, {"prompt": Q, "response": text})
    assert item.trace is not None and item.trace.raw == text


@pytest.mark.parametrize(("column", "value", "right"), [
    ("desirable", False, False), ("accepted", False, False), ("passed", True, True), ("label", "rejected", False),
    ("label", "good", True), ("correctness", 0, False), ("label", "3 stars", None), ("reward", 0.5, None)])
def test_a_verdict_is_taken_or_its_column_is_named(tmp_path: Path, column: str, value: object,
                                                   right: bool | None) -> None:
    for row in ({"messages": [ASKED, {"role": "assistant", "content": A}]}, {"prompt": Q, "response": A}):
        _, item, reading = read(tmp_path, {**row, column: value})
        assert item.answers[0].right is right
        assert (column in reading.unused) is (right is None)


@pytest.mark.parametrize(("row", "is_guess"), [
    ({"Question": Q, "Complex_CoT": R, "Response": A}, False),
    ({"query": Q, "synthetic_reasoning": R, "synthetic_answer": A}, True),
    ({"question": Q, "r1_response": TAGGED, "correct_answer": "24"}, True),
    ({"question": Q, "final_answer": "24", "r1_solution_1": TAGGED, "r1_solution_2": A, "r1_solution_3": A}, False),
])
def test_columns_of_answers_are_found_by_their_names_or_guessed_by_how_they_end(
        tmp_path: Path, row: dict[str, Any], is_guess: bool) -> None:
    likeness, item, reading = read(tmp_path, row)
    assert item.trace is not None and likeness.is_guess is is_guess
    assert (item.prompt.question, item.trace.reasoning, item.trace.answer) == (Q, R, A) and not reading.unused


def test_a_column_that_says_whether_was_thought_is_no_reasoning(tmp_path: Path) -> None:
    _, item, reading = read(tmp_path, {"messages": [ASKED, {"role": "assistant", "content": A}], "reasoning": "off"})
    assert item.trace is not None and item.trace.reasoning == "" and "reasoning" in reading.unused


def test_rows_that_stand_each_under_a_name_come_in_with_it(tmp_path: Path) -> None:
    rows = {"first": {"problem": Q, "answer": "24"}, "second": {"problem": "And 4?", "answer": "32"}}
    for indent in (None, 1):
        (tmp_path / "named.json").write_text(json.dumps(rows, indent=indent))
        found = [(number, item.prompt.question) for number, item in read_file(tmp_path / "named.json", "columns")]
        assert found == [(1, Q), (2, "And 4?")]
    pair = {"chosen": {"role": "assistant", "content": A}, "prompt": Q,
            "rejected": {"role": "assistant", "content": "13"}}
    (tmp_path / "one.json").write_text(json.dumps(pair, indent=1))
    [(_, item)] = read_file(tmp_path / "one.json")
    assert [answer.right for answer in item.answers] == [True, False]


QUESTIONS = [{"question": "Why?", "response": "So."}, {"question": "How?", "response": "Thus."}]
FILES: dict[str, str] = {
    "results.json": json.dumps({"results": QUESTIONS, "accuracy": 1}, indent=1),
    "columns.json": json.dumps({name: [row[name] for row in QUESTIONS] for name in ("question", "response")}),
    "frame.json": json.dumps({name: {str(at): row[name] for at, row in enumerate(QUESTIONS)}
                              for name in ("question", "response")}),
    "commas.jsonl": "".join(f"{json.dumps(row)},\n" for row in QUESTIONS),
}


@pytest.mark.parametrize("name", FILES)
def test_rows_are_found_however_a_file_of_json_holds_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    found = [(item.prompt.question, item.answers[0].trace.answer) for _, item in read_file(tmp_path / name)]
    assert found == [("Why?", "So."), ("How?", "Thus.")]


def test_a_text_holds_a_question_on_each_line(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Why?\n\n  How?\n")
    assert looks_like(tmp_path / "mine.txt").is_guess is False
    assert [(number, item.prompt.question) for number, item in read_file(tmp_path / "mine.txt")] == [
        (1, "Why?"), (3, "How?")]
