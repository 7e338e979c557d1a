"""Conversations as files hold them: turns under any of the usual names, read in one way. The last turn of the assistant
becomes the answer, everything before it the prompt."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from localdistill.core.records import Message, Role
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import (
    RowPlace,
    SplitReply,
    answer_of,
    imported,
    need_user,
    prompt_of,
    reason_in,
)
from localdistill.interchange.usual import ANSWER, MODEL, REASONING, SYSTEM, first, is_short, text_of
from localdistill.templates.turns import joined, pieces_of

ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "ai": "assistant",
}
"""Names of speakers as files write them."""
TOOLS = frozenset({"tool", "tools", "function", "function_call", "function_response", "tool_call", "tool_response",
                   "observation", "ipython", "environment"})
"""Names of turns that call a tool or hold what it returned."""
THOUGHTS = frozenset({"reasoning", "thought", "thinking"})
"""Names of turns that hold the reasoning of the turn that follows."""
_SPEAKERS = ("role", "from", "speaker", "author")
_SAYINGS = ("content", "value", "text", "message")
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

    @property
    def answer(self) -> SplitReply:
        """Reasoning and answer of a turn of the assistant."""
        stated = self.info.get("think_content"), self.info.get("answer_content")
        if self.beside is not None:
            return SplitReply(*stated) if stated == (self.beside, self.text) else answer_of(self.text, self.beside)
        think, said = stated
        stored = (think.strip(), said.strip()) if isinstance(think, str) and isinstance(said, str) else None
        return answer_of(self.text, stored=stored)


def turns_in(value: object) -> list[Any] | None:
    """The turns that `value` holds, also as the JSON of a list; None when it is no conversation."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        return None
    return value if not value or any(name in value[0] for name in _SPEAKERS) else None


def read_turns(turns: Sequence[object], place: RowPlace) -> list[Turn]:
    """The turns of a conversation, thoughts joined with what they precede. InputError for an unknown speaker, a turn
    that says nothing or holds no text, and for tools."""
    read: list[Turn] = []
    thought = ""
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise place.error("a turn is not an object")
        one, is_thought = _turn(turn, place)
        if is_thought:
            thought = "\n\n".join(filter(None, (thought, one.text)))
            continue
        if thought and one.role == "assistant":
            one.beside = "\n\n".join(filter(None, (thought, one.beside)))
            thought = ""
        read.append(one)
    if thought:
        read.append(Turn("assistant", "", thought))
    return read


def _turn(turn: Mapping[str, Any], place: RowPlace) -> tuple[Turn, bool]:
    """A turn, and whether it is only the reasoning of the next one."""
    speaker = next((turn[name] for name in _SPEAKERS if turn.get(name) is not None), None)
    name = speaker.strip().lower() if isinstance(speaker, str) else ""
    if name in TOOLS:
        raise place.error(f"a turn of '{name}': the row uses tools", _NO_TOOLS)
    is_thought = name in THOUGHTS or turn.get("channel") in _THOUGHT_CHANNELS
    role = "assistant" if is_thought else ROLES.get(name)
    if role is None:
        raise place.error(f"the role {speaker!r} is not known", f"known roles: {', '.join(ROLES)}")
    said = next((turn[key] for key in _SAYINGS if key in turn), None)
    info = turn.get("info")
    one = Turn(role, "", None, info if isinstance(info, Mapping) else {}, turn)
    if isinstance(said, str) and not turn.keys() - _PLAIN:  # by far the most usual
        one.text = said
        return one, is_thought
    _take_pieces(one, {**turn, "content": said}, place)
    if said is None or (isinstance(said, float) and math.isnan(said)):
        if role != "assistant":
            raise place.error(f"a {name} turn has no text")
    elif not isinstance(said, (str, list)):
        raise place.error(f"a {name} turn has no text")
    return one, is_thought


_PLAIN = frozenset({*_SPEAKERS, *_SAYINGS, "info", "channel", "loss_weight", "weight", "train", "name"})
_NO_TOOLS = "rows that call tools are left out for now"


def _take_pieces(one: Turn, turn: Mapping[str, Any], place: RowPlace) -> None:
    fields: dict[str, str] = {}
    texts: list[str] = []
    for kind, where, text, _ in pieces_of(turn):
        if kind == "call":
            raise place.error(f"a turn holds '{text}': the row uses tools", _NO_TOOLS)
        if kind == "other":
            raise place.error(f"a turn holds parts that are not text ('{text}')", "localdistill trains on text only")
        if kind == "reasoning":
            fields[where] = fields.get(where, "") + text
        else:
            texts.append(text)
    one.text = "".join(texts)
    named = [key for key in ("reasoning_content", "reasoning", "thinking", "thinking_content") if
             isinstance(turn.get(key), str)]
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
    return tuple(Message(turn.role, turn.text) for turn in asked), answer


def read_conversation(row: Mapping[str, Any], turns: Sequence[object], place: RowPlace) -> Imported:
    """The prompt and the answer of a row whose turns are `turns`; what it says beside them is read under its usual
    names."""
    talk = read_turns(turns, place)
    if (system := first(row, SYSTEM)) and not any(turn.role == "system" and turn.text == system for turn in talk):
        talk.insert(0, Turn("system", system))
    messages, last = prompt_and_answer(talk, place)
    answer = last.answer if last else _answer_beside(row)
    prompt = prompt_of(need_user(messages, place), row, place.source, place, _reference(row, talk, last is not None),
                       _stated(talk, "test_case"))
    info = last.info if last else {}
    reason = reason_in(last.row, info, row) if last else reason_in(row)
    return imported(prompt, answer, row, place, first(row, MODEL) or info.get("model_name"), reason)


def _reference(row: Mapping[str, Any], talk: Sequence[Turn], has_answer: bool) -> str | None:
    """The right answer as the turns state it, or, beside a conversation that has its answer, a short `answer`."""
    found = _stated(talk, "ground_truth") or _stated(talk, "reference_answer")
    if found is None and has_answer and "answer" in row and isinstance(row.get("answer"), (str, int, float)):
        short = text_of(row.get("answer"))
        return short if short is not None and is_short(short) else None
    return found


def _answer_beside(row: Mapping[str, Any]) -> SplitReply | None:
    """The answer of a row whose turns hold the prompt alone and whose columns hold the rest."""
    thought = first(row, REASONING)
    said = first(row, (*ANSWER, "answer") if thought else ANSWER)
    if thought is None and said is None:
        return None
    return answer_of(said or "", thought)


def _stated(turns: Sequence[Turn], key: str) -> str | None:
    """The first text under `key` in what files state of single turns."""
    return next((turn.info[key] for turn in turns if isinstance(turn.info.get(key), str)), None)
