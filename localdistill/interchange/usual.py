"""The names that columns usually have, by what they hold, and what is read from them beside a conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from localdistill.interchange.row import having, is_stated

REFERENCE = ("reference", "reference_answer", "ground_truth", "expected_answer", "gold_answer", "gold", "gt",
             "final_answer", "correct_answer", "expected", "answer_key")
ORIGINAL = ("original", "ground_truth_solution", "reference_solution", "canonical_solution", "original_response")
TESTS = ("tests", "test_cases", "test_case", "unit_tests", "test_list")
REASONING = ("reasoning", "reasoning_content", "thinking", "thinking_content", "thought", "thoughts", "reasoning_trace",
             "thinking_trajectory", "thinking_trajectories", "deepseek_reasoning", "chain_of_thought", "cot",
             "rationale", "complex_cot", "thinking_process", "reasoning_process", "thought_process", "reasoning_steps")
ANSWER = ("response", "completion", "output", "generation", "generations", "model_answer", "model_output",
          "generated_solution", "deepseek_solution", "attempt", "combined_text", "prediction",
          "assistant_response", "output_text", "reply", "assistant")
QUESTION = ("question", "problem", "prompt", "instruction", "query", "input", "user", "text", "user_prompt",
            "user_input", "user_query", "human", "input_text", "q")
BEFORE = ("body", "context", "passage")
"""What a question speaks of, where that has a column of its own."""
OPTIONS = ("choices", "options")
LETTERS = "ABCDEFGHIJ"
SYSTEM = ("system", "system_prompt")
SOURCE = ("source", "data_source", "dataset", "problem_source")
LICENCE = ("licence", "license")
MODEL = ("model", "model_name", "generation_model", "generator", "teacher")
DOCUMENT = ("document", "document_id", "doc_id")
LIKE_REASONING = ("_reasoning", "_thinking", "_thoughts", "_cot", "_thinking_trajectory")
LIKE_ANSWER = ("_response", "_answer", "_output", "_completion", "_generation", "_reply", "_solution")
"""How names end that are the model's with what it wrote: good for a guess."""
NO_REASONING = frozenset({"on", "off", "true", "false", "yes", "no", "none", "auto", "low", "medium", "high"})
"""What stands in a column of such a name where it says whether, or how much, was thought."""
LONGEST_REFERENCE = 200
"""A text of more characters, or of several lines, is a response and nothing to compare with."""


def text_of(value: object) -> str | None:
    """A value of a column as text: numbers and lists as JSON, a list of one text as that; None where it holds
    nothing."""
    if isinstance(value, str):
        return value or None
    if not is_stated(value):
        return None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0] or None
    return json.dumps(value, ensure_ascii=False, default=str)


def lettered(options: object) -> list[str]:
    """Options to choose from, a line each with its letter; empty for what is no list of options."""
    if isinstance(options, str):
        return [options.strip()] if options.strip() else []
    if isinstance(options, Mapping) and isinstance(options.get("text"), list):
        options = options["text"]
    if isinstance(options, Mapping):
        return [f"{name}. {text}" for name, text in options.items()]
    if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
        return []
    return [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False)]


def first(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The text of the first of these columns that holds something."""
    for name in having(row, names):
        if (text := text_of(row.get(name))) is not None:
            return text
    return None


def is_short(text: str) -> bool:
    """It can be compared with an answer: one line, not long."""
    return len(text) <= LONGEST_REFERENCE and "\n" not in text.strip()


def reference_in(row: Mapping[str, Any]) -> str | None:
    """What the row says that the right answer is."""
    found = first(row, REFERENCE)
    if found is None and isinstance(reward := row.get("reward_model"), Mapping):
        found = text_of(reward.get("ground_truth"))
    return found
