"""Public sets whose columns have names of their own: which column holds what. A row is told by columns that no other
set has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from localdistill.interchange.usual import text_of
from localdistill.templates.turns import at_path


@dataclass(frozen=True)
class AnswerColumns:
    """The columns of one answer, or of several that stand in lists."""

    answer: str
    """Empty where the reasoning is all that there is."""
    reasoning: str = ""
    model: str = ""
    """Name of the column that says which model answered."""
    model_is: str = ""
    """The model where the set is of one."""
    verdicts: tuple[str, ...] = ()
    """Columns that say whether it is right, the one that counts first."""
    finish: str = ""
    is_whole: str = ""
    """A column that is false where the answer was cut off."""


@dataclass(frozen=True)
class ColumnMap:
    """Which column holds what. A name may be a path (`extra.answer`)."""

    question: tuple[str, ...]
    """Joined by blank lines."""
    answers: tuple[AnswerColumns, ...] = ()
    options: str = ""
    """Options to choose from; the reference may be the place of the right one, counted from 0."""
    reference: str = ""
    original: str = ""
    tests: str = ""
    system: str = ""
    document: str = ""
    source: str = ""
    licence: str = ""
    tools: str = ""
    """Definitions of tools that may be called."""
    metadata: tuple[str, ...] = field(default=())
    """Columns that are kept with the prompt."""

    def stated(self) -> str:
        """As `--map` takes it; what only a known set can say is left out."""
        one = self.answers[0] if self.answers else AnswerColumns("")
        parts = {"question": ",".join(self.question), "reasoning": one.reasoning, "answer": one.answer,
                 "model": one.model, "verdict": next(iter(one.verdicts), ""), "options": self.options,
                 "reference": self.reference, "original": self.original, "tests": self.tests, "system": self.system,
                 "document": self.document, "source": self.source, "licence": self.licence, "tools": self.tools}
        return " ".join(f"{part}={column}" for part, column in parts.items() if column)

    def said(self) -> str:
        """The map in words: `question = problem, answer = deepseek_solution`."""
        parts = [("question", " + ".join(self.question))]
        for one in self.answers:
            parts += [("reasoning", one.reasoning), ("answer", one.answer), ("verdict", " or ".join(one.verdicts)),
                      ("model", one.model or (f"'{one.model_is}'" if one.model_is else ""))]
        parts += [(name, getattr(self, name)) for name in
                  ("options", "reference", "original", "tests", "system", "document", "source", "licence",
                   "tools")]
        return ", ".join(f"{name} = {column}" for name, column in parts if column)


@dataclass(frozen=True)
class KnownSet:
    """A set, or several of the same columns."""

    name: str
    told_by: frozenset[str]
    """Columns that a row of it has."""
    columns: ColumnMap
    only: bool = False
    """A row has no other columns: their names are not telling enough."""


_SAMPLED = tuple(AnswerColumns(name, model="model") for name in ("completion", "response", "solution"))
"""What those who sample answers to such a set call them, beside its own columns."""
_GRADE = ("deepseek_grade",), ("gemini_grade",)

KNOWN_SETS = (
    KnownSet("OpenThoughts (metadata)", frozenset({"problem", "deepseek_reasoning", "deepseek_solution"}), ColumnMap(
        ("problem",), (AnswerColumns("deepseek_solution", "deepseek_reasoning", model_is="deepseek-r1"),),
        original="ground_truth_solution", tests="test_cases", source="source", metadata=("domain",))),
    KnownSet("s1K-1.1", frozenset({"question", "deepseek_thinking_trajectory", "deepseek_attempt"}), ColumnMap(
        ("question",),
        (AnswerColumns("deepseek_attempt", "deepseek_thinking_trajectory", model_is="deepseek-r1", verdicts=_GRADE[0]),
         AnswerColumns("gemini_attempt", "gemini_thinking_trajectory", model_is="gemini", verdicts=_GRADE[1])),
        reference="solution", source="source_type", metadata=("cot_type",))),
    KnownSet("s1K", frozenset({"question", "thinking_trajectories", "attempt"}), ColumnMap(
        ("question",), (AnswerColumns("attempt", "thinking_trajectories", model_is="gemini"),),
        reference="solution", source="source_type", metadata=("cot_type",))),
    KnownSet("OpenR1-Math", frozenset({"problem", "generations"}), ColumnMap(
        ("problem",),
        (AnswerColumns("generations", model_is="deepseek-r1", finish="finish_reasons", is_whole="is_reasoning_complete",
                       verdicts=("correctness_math_verify", "correctness_llama")),),
        reference="answer", original="solution", source="source", metadata=("problem_type", "question_type"))),
    KnownSet("DeepMath", frozenset({"question", "final_answer", "r1_solution_1"}), ColumnMap(
        ("question",), tuple(AnswerColumns(f"r1_solution_{number}", model_is="deepseek-r1") for number in (1, 2, 3)),
        reference="final_answer", metadata=("difficulty", "topic"))),
    KnownSet("KodCode", frozenset({"question", "solution", "test", "r1_solution"}), ColumnMap(
        ("question",), (AnswerColumns("r1_solution", model_is="deepseek-r1", verdicts=("r1_correctness",)),),
        original="solution", tests="test", metadata=("style", "subset"))),
    KnownSet("SYNTHETIC-1", frozenset({"prompt", "llm_response", "verification_info"}), ColumnMap(
        ("prompt",), (AnswerColumns("llm_response", model="llm_name", verdicts=("score",)),),
        original="gold_standard_solution", tests="verification_info", metadata=("task_type",))),
    KnownSet("OpenMathReasoning", frozenset({"problem", "generated_solution"}), ColumnMap(
        ("problem",), (AnswerColumns("generated_solution", model="generation_model"),),
        reference="expected_answer", source="problem_source", metadata=("problem_type",))),
    KnownSet("LIMO", frozenset({"question", "solution", "answer"}), ColumnMap(
        ("question",), (AnswerColumns("solution"),), reference="answer"), only=True),
    KnownSet("thoughtology", frozenset({"question", "answer", "time"}), ColumnMap(
        ("question",), (AnswerColumns("answer"),))),
    KnownSet("SkyThought results", frozenset({"problem", "responses", "token_usages"}), ColumnMap(
        ("problem",), (AnswerColumns("responses", verdicts=("correctness",)),), reference="answer",
        original="solution")),
    KnownSet("verl, RLVR", frozenset({"prompt", "reward_model"}), ColumnMap(
        ("prompt",), reference="reward_model.ground_truth", source="data_source", metadata=("ability",))),
    KnownSet("HumanEval", frozenset({"task_id", "prompt", "canonical_solution", "test"}), ColumnMap(
        ("prompt",), _SAMPLED, original="canonical_solution", tests="test", metadata=("task_id", "entry_point"))),
    KnownSet("MBPP", frozenset({"task_id", "prompt", "code", "test_list"}), ColumnMap(
        ("prompt",), _SAMPLED, original="code", tests="test_list", metadata=("task_id", "test_imports"))),
    KnownSet("OpenCodeReasoning, Nemotron", frozenset({"input", "output", "license"}), ColumnMap(
        ("input",), (AnswerColumns("output", model="generator"),), original="solution", source="source",
        licence="license", system="system_prompt", metadata=("difficulty", "category"))),
    KnownSet("Berkeley function calling", frozenset({"id", "question", "function"}), ColumnMap(
        ("question",), reference="ground_truth", tools="function", metadata=("id",))),
    KnownSet("BIG-Bench Hard", frozenset({"input", "target"}), ColumnMap(("input",), reference="target"), only=True),
)


def known_set(row: Mapping[str, Any]) -> KnownSet | None:
    """The set that this row is of, as far as its columns tell."""
    columns = set(row)
    for known in KNOWN_SETS:
        if known.told_by <= columns and (not known.only or known.told_by == columns) and _asks(row, known.columns):
            return known
    return None


def _asks(row: Mapping[str, Any], columns: ColumnMap) -> bool:
    return all(text_of(value_at(row, name)) is not None for name in columns.question)


def value_at(row: Mapping[str, Any], path: str) -> Any:
    """What stands in a column, or at a path into one; None where there is none."""
    if not path:
        return None
    if path in row:
        return row[path]
    return at_path(row, path)
