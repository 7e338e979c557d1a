"""Rows of any columns: which holds what is said by the user, known of a public set, or guessed from usual names, and
then shown before it is used.

A column may hold a text, a conversation, one turn, or a list with an answer in each place; reasoning, verdicts and
finish reasons then stand in lists of the same length.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from localdistill.core.errors import UsageError, nearest
from localdistill.core.records import Message, Prompt, Trace
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import ReadOnly
from localdistill.interchange.conversation import DEFINED, defined_in, prompt_and_answer, read_turns, with_tools
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.known_sets import AnswerColumns, ColumnMap, known_set, value_at
from localdistill.interchange.row import is_stated, peeked
from localdistill.interchange.rows import (
    VERDICTS,
    RowPlace,
    SplitReply,
    answer_of,
    imported_trace,
    need_user,
    reason_in,
    verdict_of,
)
from localdistill.interchange.turn_forms import turns_in
from localdistill.interchange.usual import (
    ANSWER,
    BEFORE,
    DOCUMENT,
    LICENCE,
    LIKE_ANSWER,
    LIKE_REASONING,
    MODEL,
    OPTIONS,
    ORIGINAL,
    QUESTION,
    REASONING,
    REFERENCE,
    SOURCE,
    SYSTEM,
    TESTS,
    is_short,
    lettered,
    text_of,
)
from localdistill.templates import named_end
from localdistill.templates.marks import marks_in
from localdistill.texts.boxed import boxed_in

PARTS = ("question", "reasoning", "answer", "model", "verdict", "options", "reference", "original", "tests", "system",
         "document", "source", "licence", "tools")
"""What a column may be named for: `--map question=q,context answer=reply`."""


def column_map(stated: Mapping[str, str]) -> ColumnMap:
    """The map that a user states, part by part; the question may be several columns, with commas between. UsageError
    for a part that there is not, or without a question."""
    if unknown := [part for part in stated if part not in PARTS]:
        raise UsageError(f"a column cannot be mapped to '{unknown[0]}'{nearest(unknown[0], PARTS)}",
                         f"parts: {', '.join(PARTS)}")
    if not stated.get("question"):
        raise UsageError("the map names no column for the question", "question=COLUMN")
    has_answer = stated.get("answer") or stated.get("reasoning")
    answer = AnswerColumns(stated.get("answer", ""), stated.get("reasoning", ""), stated.get("model", ""),
                           verdicts=tuple(filter(None, [stated.get("verdict", "")])))
    question = tuple(name.strip() for name in stated["question"].split(",") if name.strip())
    return _with_texts(ColumnMap(question, (answer,) if has_answer else ()), stated)


def guess(row: Mapping[str, Any]) -> ColumnMap | None:
    """Which column holds what, by usual names in any case; None where no column can be the question."""
    names = {key.lower(): key for key in row if isinstance(key, str)}

    def find(wanted: Sequence[str]) -> str:
        return next((names[name] for name in wanted if name in names and is_stated(row[names[name]])), "")

    question = find(QUESTION)
    if not question:
        return None
    behind = find(("input",)) if question.lower() == "instruction" else ""
    asked = tuple(filter(None, (find(BEFORE), question, behind)))
    reasoning, answer, reference = find(REASONING), find(ANSWER), find(REFERENCE)
    original = find(ORIGINAL)
    stated = (name for name in map(names.get, VERDICTS) if name and verdict_of(peeked(row, name)) is not None)
    verdict = next(stated, "")
    known = {*asked, reasoning, answer, reference, original, verdict}
    reasoning = reasoning or _ending(row, LIKE_REASONING, known)
    answer = answer or _ending(row, LIKE_ANSWER, known | {reasoning})
    alone = find([name for name in ("answer", "solution", "result", *(() if answer else ("target", "label", "a")))
                  if names.get(name) not in (verdict, answer, reference)])
    if not answer and alone and (reasoning or marks_in(str(row[alone]))):
        answer, alone = alone, ""
    if alone and not reference and is_short(text_of(row[alone]) or ""):
        reference, alone = alone, find(("solution",)) if alone != names.get("solution") else ""
    original = original or (alone if alone not in (answer, reference) else "")
    taken = {*asked, reasoning, answer, reference, original}
    found = {name: column for name, wanted in (
        ("options", OPTIONS), ("tests", TESTS), ("system", SYSTEM), ("document", DOCUMENT), ("source", SOURCE),
        ("licence", LICENCE), ("model", MODEL)) if (column := find(wanted)) and column not in taken}
    model = found.pop("model", "")
    columns = AnswerColumns(answer, reasoning, model, verdicts=(verdict,) if verdict else ())
    tools = find(DEFINED) if turns_in(row[question]) is not None else ""
    texts = {**found, "reference": reference, "original": original, "tools": tools}
    return _with_texts(ColumnMap(asked, (columns,) if answer or reasoning else ()), texts)


def _ending(row: Mapping[str, Any], endings: Sequence[str], taken: Collection[str]) -> str:
    """The first column of texts whose name ends so, and does not say that it is what is right."""
    return next((name for name in row if isinstance(name, str) and name not in taken
                 and name.lower().endswith(tuple(endings)) and isinstance(value := peeked(row, name), str) and value
                 and not re.match(r"correct|gold|reference|expected|ground|true|right", name.lower())), "")


def _with_texts(columns: ColumnMap, named: Mapping[str, str]) -> ColumnMap:
    """`columns` with those of the prompt's texts."""
    options, reference, original, tests, system, document, source, licence, tools = (
        named.get(part, "") for part in PARTS[PARTS.index("options"):])
    return replace(columns, options=options, reference=reference, original=original, tests=tests, system=system,
                   document=document, source=source, licence=licence, tools=tools)


_PLAIN = frozenset({"question", "problem", "prompt", "instruction", "query", "input"})
_MAYBE = frozenset({"answer", "solution", "result", "target", "label", "a"})


def is_usual(columns: ColumnMap) -> bool:
    """The names leave no doubt: `answer` may be a reply, a reference or a worked solution, `text` anything."""
    texts = [columns.reference, columns.original, *(one.answer for one in columns.answers)]
    made = {name.lower() for one in columns.answers for name in (one.answer, one.reasoning) if name}
    asked = {name.lower() for name in columns.question}
    return made <= {*ANSWER, *REASONING} and asked <= _PLAIN and not _MAYBE & {name.lower() for name in texts}


class ColumnsLayout(ReadOnly):
    """The `columns` layout."""

    name: ClassVar[str] = "columns"

    def __init__(self, columns: ColumnMap | None = None) -> None:
        """columns: as the user states them; None takes them from what is known or usual."""
        self._stated = columns

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        think, said = "easy", "<think>\neasy\n</think>\n\n2"
        talk = [{"role": "user", "content": "1 + 1?"}]
        return (
            LayoutSample({"question": "1 + 1?", "answer": "2"}, asks("1 + 1?", "2")),
            LayoutSample({"Problem": "1 + 1?", "Solution": "We add.\nIt is 2."}, asks("1 + 1?", None,
                                                                                   "We add.\nIt is 2.")),
            LayoutSample({"question": "1 + 1?"}, asks("1 + 1?")),
            LayoutSample({"prompt": "1 + 1?", "response": said}, asks("1 + 1?"), "2", think),
            LayoutSample({"question": "1 + 1?", "solution": "2", "deepseek_thinking_trajectory": think,
                          "deepseek_attempt": "2"}, asks("1 + 1?", "2"), "2", think),
            LayoutSample({"problem": "1 + 1?", "answer": "2", "solution": "We add.", "generations": [said, "3"],
                          "correctness_math_verify": [True, False]}, asks("1 + 1?", "2", "We add."), "2", think),
            LayoutSample({"prompt": talk, "data_source": "s", "reward_model": {"ground_truth": "2"}},
                         asks("1 + 1?", "2")),
            LayoutSample({"question": " "}, asks(""), refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """A set of known columns, or at least a column of questions."""
        return self.columns_of(row) is not None

    def columns_of(self, row: Mapping[str, Any]) -> ColumnMap | None:
        """Which column holds what in this row; None when that is not known."""
        if self._stated is not None:
            return self._stated
        known = known_set(row)
        return known.columns if known else guess(row)

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """Prompt and answers; InputError when the row holds no question, or lists that do not belong together."""
        place = RowPlace(source, number)
        columns = self.columns_of(row)
        if columns is None:
            raise place.error("no column holds a question", "name the columns: --map question=COLUMN answer=COLUMN")
        prompt = _prompt(row, columns, place)
        answers = [answer for one in columns.answers for answer in _answers(row, one, prompt, place)]
        return Imported(prompt, tuple(answers))


def _prompt(row: Mapping[str, Any], columns: ColumnMap, place: RowPlace) -> Prompt:
    asked = [value_at(row, name) for name in columns.question]
    turns = turns_in(asked[0]) if len(asked) == 1 else None
    if turns is not None:
        messages, answer = prompt_and_answer(read_turns(turns, place), place)
        if answer is not None:
            messages = (*messages, answer.message)
    else:
        options = "\n".join(lettered(value_at(row, columns.options)))
        question = "\n\n".join(text for value in (*asked, options) if (text := text_of(value)) is not None)
        messages = (Message("user", question if any(map(is_stated, asked)) else ""),)
    if (system := text_of(value_at(row, columns.system))) and not any(m.role == "system" for m in messages):
        messages = (Message("system", system), *messages)
    messages = with_tools(messages, defined_in(row, place, (columns.tools,) if columns.tools else ()))
    metadata = {name: value for name in columns.metadata if is_stated(value := row.get(name))}
    if document := text_of(value_at(row, columns.document)):
        metadata["document"] = document
    original = text_of(value_at(row, columns.original))
    return Prompt(
        need_user(messages, place), _reference(row, columns, original), original,
        text_of(value_at(row, columns.tests)), source=text_of(value_at(row, columns.source)) or place.source,
        licence=text_of(value_at(row, columns.licence)) or "", metadata=metadata,
    )


def _reference(row: Mapping[str, Any], columns: ColumnMap, original: str | None) -> str | None:
    """What is right: the column, the letter of the option whose place it names, or what a worked solution boxes."""
    value = value_at(row, columns.reference)
    options = lettered(value_at(row, columns.options))
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options):
        return options[value].partition(".")[0]
    stated = text_of(value)
    return boxed_in(original) if stated is None and original is not None else stated


def _answers(row: Mapping[str, Any], columns: AnswerColumns, prompt: Prompt, place: RowPlace) -> list[Answer]:
    """The answers of a row; one without a text is none."""
    said, thought = value_at(row, columns.answer), value_at(row, columns.reasoning)
    if isinstance(said, Mapping):
        return _by_key(said, columns, prompt, place)
    turns = turns_in(said)
    several = isinstance(said, list) and turns is None
    texts: list[Any] = said if several and isinstance(said, list) else [said]
    thoughts = thought if isinstance(thought, list) and len(thought) == len(texts) else [thought] * len(texts)
    if isinstance(thought, list) and len(thought) != len(texts):
        thoughts = ["\n\n".join(map(str, thought))] * len(texts)
    model = text_of(value_at(row, columns.model)) or columns.model_is
    found = []
    for place_in_list, (text, think) in enumerate(zip(texts, thoughts, strict=True)):
        def beside(name: str, at: int = place_in_list) -> Any:
            value = value_at(row, name)
            if several and isinstance(value, list):
                if len(value) != len(texts):
                    raise place.error(f"'{name}' has {len(value)} values for {len(texts)} answers")
                return value[at]
            return value

        reply = _reply(text, think, place)
        if reply is None:
            continue
        reason = named_end(beside(columns.finish)) if columns.finish else reason_in(row)
        if columns.is_whole and beside(columns.is_whole) is False and reason is None:
            reason = "length"
        trace = imported_trace(prompt, reply, place.source, model, {}, place, reason)
        found.append(_with_verdict(_numbered(trace, place_in_list), columns.verdicts, beside))
    return found


def _numbered(trace: Trace, at: int) -> Trace:
    return trace if at == 0 else replace(trace, sample_index=at)


def _with_verdict(trace: Trace, names: Sequence[str], value_of: Any) -> Answer:
    for name in names:
        if (right := verdict_of(value_of(name))) is not None:
            return Answer(trace, right, name)
    return Answer(trace)


def _by_key(said: Mapping[str, Any], columns: AnswerColumns, prompt: Prompt, place: RowPlace) -> list[Answer]:
    """Answers that stand under the setting that they were made with, or one turn."""
    one = _reply(said, None, place)
    if one is not None:
        return [Answer(imported_trace(prompt, one, place.source, columns.model_is, {}, place))]
    found = []
    for value in said.values():
        items = value if isinstance(value, list) else [value]
        for at, item in enumerate(items):
            reply = _reply(item, None, place)
            if reply is not None:
                trace = imported_trace(prompt, reply, place.source, columns.model_is, {}, place)
                stated = item if isinstance(item, Mapping) else {}
                found.append(_with_verdict(_numbered(trace, at), columns.verdicts, stated.get))
    return found


def _reply(said: object, thought: object, place: RowPlace) -> SplitReply | None:
    """The reply of a text, a turn, or a conversation that ends with it; None where nothing is said."""
    turns = turns_in(said) if isinstance(said, list) else None
    if isinstance(said, Mapping):
        turns = [{"role": "assistant", **said}] if "content" in said or "value" in said else None
        if turns is None:
            return None
    if turns is not None:
        _, last = prompt_and_answer(read_turns(turns, place), place)
        return last.answer if last else None
    text, beside = text_of(said), text_of(thought)
    return None if text is None and beside is None else answer_of(text or "", beside)
