"""Conversations as files hold them: turns under any of the usual names, read in one way. The last turn of the assistant
becomes the answer, everything before it the prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from localdistill.core.messages import Message, Role, ToolCall, ToolDefinition
from localdistill.interchange.imported import Imported
from localdistill.interchange.plain_talk import OF_TRAINING, ROLES, SAYINGS, THINKING, Said, plain_talk
from localdistill.interchange.row import having, is_stated, peeked
from localdistill.interchange.rows import RowPlace, SplitReply, answer_of, imported, prompt_of, reason_in
from localdistill.interchange.turn_forms import SPEAKERS
from localdistill.interchange.usual import (
    ANSWER,
    MODEL,
    NO_REASONING,
    REASONING,
    SYSTEM,
    first,
    is_short,
    text_of,
)
from localdistill.templates.marks import begins_with_mark
from localdistill.templates.tool_calls import calls_in, calls_of, definitions_in
from localdistill.templates.turns import inner_texts, joined, pieces_of

CALLERS = frozenset({"function_call", "tool_call", "tool_calls", "tool-call"})
"""Names of turns of the assistant that are nothing but calls of tools."""
RESULTS = frozenset({"tool", "tools", "function", "function_response", "tool_response", "tool_result", "observation",
                     "ipython", "environment", "function_call_output"})
"""Names of turns that hold what a tool answered."""
DEFINED = ("tools", "functions", "available_tools")
"""Columns that say which tools there are."""
THOUGHTS = frozenset({"reasoning", "thought", "thinking"})
"""Names of turns that hold the reasoning of the turn that follows."""
_THOUGHT_CHANNELS = frozenset({"analysis", "commentary"})


@dataclass(slots=True)
class Turn:
    """One turn of a conversation."""

    role: Role
    text: str
    beside: str | None = None
    """Reasoning that stands apart from the text; None where no field is there for it."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What some files state of a turn in an object of its own."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The turn as it stands."""
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str = ""
    """Of the tool that answers."""
    only_calls: bool = False
    """It is the part of a turn that calls tools; what is said beside stands in the turn before."""

    @property
    def message(self) -> Message:
        """A turn that is no answer to be learned from."""
        thought, said = self.info.get("think_content"), self.info.get("answer_content")
        if self.role == "assistant" and isinstance(thought, str) and isinstance(said, str) and thought:
            return Message(self.role, said, thought, self.calls)
        if self.calls or self.beside or self.role == "tool":
            return Message(self.role, self.text, self.beside or "", self.calls, self.call_id, self.name)
        return Message(self.role, self.text)

    @property
    def answer(self) -> SplitReply:
        """Reasoning and answer of a turn of the assistant."""
        found = self._split
        return replace(found, calls=self.calls) if self.calls else found

    @property
    def _split(self) -> SplitReply:
        stated = self.info.get("think_content"), self.info.get("answer_content")
        if self.beside is not None:
            return SplitReply(*stated) if stated == (self.beside, self.text) else answer_of(self.text, self.beside)
        think, said = stated
        stored = (think.strip(), said.strip()) if isinstance(think, str) and isinstance(said, str) else None
        return answer_of(self.text, stored=stored)


def read_turns(turns: Sequence[object], place: RowPlace) -> list[Turn]:
    """The turns of a conversation, thoughts joined with what they precede, calls with what is said before them, results
    of tools with the calls that they answer. InputError for an unknown speaker, a turn that says nothing or holds no
    text, and for calls that cannot be read."""
    read: list[Turn] = []
    thought = ""
    for turn in turns:
        if not isinstance(turn, (dict, Mapping)):
            raise place.error("a turn is not an object")
        if isinstance(turn.get("content"), list):
            read += results_in(turn)
        one, is_thought = _turn(turn, place)
        if one is None:
            continue
        if is_thought:
            thought = "\n\n".join(filter(None, (thought, one.text)))
            continue
        if thought and one.role == "assistant":
            one.beside = "\n\n".join(filter(None, (thought, one.beside)))
            thought = ""
        before = read[-1] if read else None
        if one.only_calls and before is not None and before.role == "assistant" and one.beside is None:
            before.calls += one.calls
            continue
        read.append(one)
    if thought:
        read.append(Turn("assistant", "", thought))
    return read


def _turn(turn: Mapping[str, Any], place: RowPlace) -> tuple[Turn | None, bool]:
    """A turn, and whether it is only the reasoning of the next one; None for one that held nothing but results of
    tools."""
    speaker = turn.get(SPEAKERS[0])
    if speaker is None:
        speaker = next((turn[name] for name in SPEAKERS if turn.get(name) is not None), None)
    name = speaker.strip().lower() if isinstance(speaker, str) else ""
    said = turn[SAYINGS[0]] if SAYINGS[0] in turn else next((turn[key] for key in SAYINGS if key in turn), None)
    if name in RESULTS:
        return _result(turn, said, name, place), False
    is_thought = name in THOUGHTS or turn.get("channel") in _THOUGHT_CHANNELS
    role = "assistant" if is_thought or name in CALLERS else ROLES.get(name)
    if role is None:
        raise place.error(f"the role {speaker!r} is not known", f"known roles: {', '.join((*ROLES, 'tool'))}")
    info = turn.get("info")
    one = Turn(role, "", None, info if isinstance(info, Mapping) else _NO_INFO, turn)
    if name in CALLERS and not turn.get("tool_calls"):
        one.only_calls = True
        one.beside, one.calls = _calls_of_text(turn if said is None else said, place)
        return one, False
    if isinstance(said, str):
        beside = turn.keys() - _PLAIN
        if not beside:  # by far the most usual
            one.text = said
            return one, is_thought
        if len(beside) == 1 and role == "assistant" and not is_thought:  # and an answer whose reasoning stands apart
            (field,) = beside
            if field in THINKING and isinstance(thought := turn[field], str):
                one.text, one.beside = said, thought
                return one, False
    if isinstance(said, list):
        rest = [part for part in said if not _is_result(part)]
        if said and not rest:
            return None, False
        said = rest
    if is_thought and said is None and (listed := turn.get("summary")):
        said = "\n\n".join(text for text, _ in inner_texts(listed))  # of the responses API
    _take_pieces(one, {**turn, "content": said}, place)
    if is_thought and not one.text:
        one.text = one.beside or ""
    if said is None or (isinstance(said, float) and math.isnan(said)):
        if role != "assistant":
            raise place.error(f"a {name} turn has no text")
    elif not isinstance(said, (str, list)):
        raise place.error(f"a {name} turn has no text")
    return one, is_thought


_NO_INFO: Mapping[str, Any] = {}
_PLAIN = frozenset({*SPEAKERS, *SAYINGS, *OF_TRAINING, "info", "channel"})


def _result(turn: Mapping[str, Any], said: object, name: str, place: RowPlace) -> Turn:
    """What a tool answered: a text, or an object, which is taken as the JSON that it is."""
    text = _result_text(said)
    if text is None:
        raise place.error(f"a {name} turn has no text")
    keys = (turn.get(key) for key in ("tool_call_id", "call_id", "tool_use_id", "id"))
    tool = turn.get("name") or turn.get("tool_name")
    return Turn("tool", text, row=turn, call_id=next((key for key in keys if isinstance(key, str)), ""),
                name=tool if isinstance(tool, str) else "")


def _result_text(said: object) -> str | None:
    if isinstance(said, list) and said and all(isinstance(part, Mapping) and "type" in part for part in said):
        pieces = [*pieces_of({"content": said})]
        if all(piece.kind == "text" for piece in pieces):
            return "".join(piece.text for piece in pieces)
    if said is None or isinstance(said, str):
        return said
    return json.dumps(said, ensure_ascii=False)


def _is_result(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "tool_result"


def results_in(turn: Mapping[str, Any]) -> list[Turn]:
    """What tools answered, where that stands in parts of a turn of the user."""
    content = turn.get("content")
    return [Turn("tool", _result_text(part.get("content", part.get("value", ""))) or "",
                 call_id=str(part.get("tool_use_id") or part.get("tool_call_id") or ""))
            for part in (content if isinstance(content, list) else ()) if _is_result(part)]


def _calls_of_text(said: object, place: RowPlace) -> tuple[str | None, tuple[ToolCall, ...]]:
    """Reasoning and calls of a turn that is called after them; reasoning may stand in marks before them."""
    thought: str | None = None
    if isinstance(said, str) and begins_with_mark(said):
        split = answer_of(said)
        thought, said = split.reasoning, split.text
    return thought, _readable(calls_in(said), place)


def _readable(calls: Iterable[ToolCall | None], place: RowPlace) -> tuple[ToolCall, ...]:
    found = tuple(calls)
    if None in found:
        raise place.error("a call of a tool names none, or is no JSON",
                          'a call looks like {"name": "search", "arguments": {"query": "pears"}}')
    return tuple(call for call in found if call is not None)


def defined_in(row: Mapping[str, Any], place: RowPlace, names: tuple[str, ...] = DEFINED) -> tuple[ToolDefinition, ...]:
    """The tools that a row defines beside its turns. InputError for a column that holds something else."""
    for name in having(row, names):
        if is_stated(row.get(name)):
            found = definitions_in(row.get(name))
            if found is None:
                raise place.error(f"'{name}' holds no definitions of tools",
                                  'a definition looks like {"name": "search", "parameters": {...}}')
            return found
    return ()


def with_tools(messages: tuple[Message, ...], tools: tuple[ToolDefinition, ...]) -> tuple[Message, ...]:
    """A conversation in which these may be called."""
    return (replace(messages[0], tools=tools), *messages[1:]) if tools and messages else messages


def _take_pieces(one: Turn, turn: Mapping[str, Any], place: RowPlace) -> None:
    fields: dict[str, str] = {}
    texts: list[str] = []
    one.calls = _readable(calls_of(turn), place)
    if one.calls and one.role != "assistant":
        raise place.error("a turn that is not the assistant's calls tools")
    for kind, where, text, _ in pieces_of(turn):
        if kind == "call":
            continue
        if kind == "other":
            raise place.error(f"a turn holds parts that are not text ('{text}')", "localdistill trains on text only")
        if kind == "reasoning":
            fields[where] = fields.get(where, "") + text
        else:
            texts.append(text)
    one.text = "".join(texts)
    named = [key for key in THINKING if isinstance(turn.get(key), str)]
    if len(fields) == 1:
        (one.beside,) = fields.values()
    elif fields:
        one.beside = joined(fields)
    elif named:
        one.beside = ""  # a field is there for reasoning, and nothing was thought
    if one.role != "assistant" and one.beside:
        raise place.error("a turn that is not the assistant's holds reasoning")


def prompt_and_answer(turns: list[Turn], place: RowPlace) -> tuple[tuple[Message, ...], Turn | None]:
    """What was asked, and the answer at the end. InputError where the last turn is labelled as another's."""
    answer = turns[-1] if turns and turns[-1].role == "assistant" else None
    asked = turns[:-1] if answer else turns
    if len(turns) > 1 and turns[-2].role == turns[-1].role == "user":
        raise place.error("the last two turns are both the user's: one of them is the assistant's",
                          "label each turn with who says it")
    return tuple(turn.message for turn in asked), answer


def read_conversation(row: Mapping[str, Any], turns: Sequence[object], place: RowPlace) -> Imported:
    """The prompt and the answer of a row whose turns are `turns`; what it says beside them is read under its usual
    names."""
    if not having(row, _BESIDE_TURNS) and (plain := plain_talk(turns)) is not None:
        return _of_plain(row, *plain, place)
    talk = read_turns(turns, place)
    if (system := first(row, SYSTEM)) and not any(
            turn.role == "system" and turn.text.strip() == system.strip() for turn in talk):
        talk.insert(0, Turn("system", system))
    messages, last = prompt_and_answer(talk, place)
    answer = _with_thought(last.answer, row) if last else _answer_beside(row)
    messages = with_tools(messages, defined_in(row, place))
    prompt = prompt_of(messages, row, place.source, place, _reference(row, talk, last is not None),
                       _stated(talk, "test_case"))
    info = last.info if last else {}
    reason = reason_in(last.row, info, row) if last else reason_in(row)
    return imported(prompt, answer, row, place, first(row, MODEL) or info.get("model_name"), reason)


_BESIDE_TURNS = (*SYSTEM, *DEFINED)
"""Columns that say something of the turns themselves."""


def _of_plain(row: Mapping[str, Any], messages: tuple[Message, ...], said: Said | None, place: RowPlace) -> Imported:
    """The same of turns that say nothing but what was said."""
    answer = _with_thought(answer_of(*said), row) if said else _answer_beside(row)
    prompt = prompt_of(messages, row, place.source, place, _reference(row, (), said is not None))
    return imported(prompt, answer, row, place, first(row, MODEL), reason_in(row))


def _reference(row: Mapping[str, Any], talk: Sequence[Turn], has_answer: bool) -> str | None:
    """The right answer as the turns state it, or, beside a conversation that has its answer, a short `answer`."""
    found = _stated(talk, "ground_truth") or _stated(talk, "reference_answer")
    if found is None and has_answer and "answer" in row and isinstance(row.get("answer"), (str, int, float)):
        short = text_of(row.get("answer"))
        return short if short is not None and is_short(short) else None
    return found


def _with_thought(answer: SplitReply, row: Mapping[str, Any]) -> SplitReply:
    """The answer of the turns with reasoning that stands in a column beside them, where they hold none."""
    if answer.reasoning or answer.is_cut:
        return answer
    column = next((name for name in having(row, REASONING) if isinstance(text := peeked(row, name), str)
                   and text.strip() and text.strip().lower() not in NO_REASONING), "")
    return replace(answer, reasoning=str(row.get(column)).strip(), raw="") if column else answer


def _answer_beside(row: Mapping[str, Any]) -> SplitReply | None:
    """The answer of a row whose turns hold the prompt alone and whose columns hold the rest."""
    thought = first(row, REASONING)
    said = first(row, (*ANSWER, "answer") if thought else ANSWER)
    if thought is None and said is None:
        return None
    return answer_of(said or "", thought)


def _stated(turns: Sequence[Turn], key: str) -> str | None:
    """The first text under `key` in what files state of single turns."""
    for turn in turns:
        if turn.info and isinstance(text := turn.info.get(key), str):
            return text
    return None
