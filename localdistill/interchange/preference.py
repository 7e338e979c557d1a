"""Pairs of a wanted and an unwanted answer to one prompt, in the forms that people exchange: `prompt`, `chosen` and
`rejected` as texts, turns or whole conversations; a conversation with the two beside it; `chosen_messages` and
`rejected_messages`.

Both answers become traces of one prompt, with the row's verdict: the unwanted one is never trained on as if it were
right. What is written is `prompt`, `chosen` and `rejected`, as lists of messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.errors import InputError
from localdistill.core.records import Message
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Reasoning, Writing
from localdistill.interchange.conversation import Turn, defined_in, prompt_and_answer, read_turns, with_tools
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.losses import FIRST_RAW, OF_ANSWERS, OF_ASKING, SPACE
from localdistill.interchange.row import is_stated
from localdistill.interchange.rows import RowPlace, SplitReply, answer_of, imported_trace, prompt_of
from localdistill.interchange.turn_forms import turns_in
from localdistill.interchange.usual import MODEL, QUESTION, SYSTEM, first, text_of
from localdistill.interchange.written import PROMPT_COLUMNS, TOOL_TURN, TURN, answer_turn, prompt_keys, turn_of

_SIDES = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"), ("preferred", "dispreferred"),
          ("response_chosen", "response_rejected"))
_TALKS = ("prompt", "messages", "conversations", "conversation")


class PreferenceLayout:
    """The `preference` layout."""

    name = "preference"
    writing = Writing(
        {"prompt": [TURN], "chosen": [TURN], "rejected": [TURN], "model": "text", **PROMPT_COLUMNS},
        ("field", "tags", "kept"), OF_ASKING | OF_ANSWERS | FIRST_RAW | {SPACE}, a_row="pair",
        read_by={"trl": "DPOTrainer, and the other trainers of pairs", "axolotl": "rl: dpo, type: chat_template.default"
                 " with field_messages: prompt"},
        with_tools={"prompt": [TOOL_TURN], "chosen": [TOOL_TURN], "rejected": [TOOL_TURN], "tools": "json"})

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        asked = {"role": "user", "content": "1 + 1?"}
        two, three = ({"role": "assistant", "content": text} for text in ("2", "3"))
        return (
            LayoutSample({"prompt": "1 + 1?", "chosen": "2", "rejected": "3"}, asks("1 + 1?"), "2"),
            LayoutSample({"chosen": [asked, two], "rejected": [asked, three]}, asks("1 + 1?"), "2"),
            LayoutSample({"conversations": [{"from": "human", "value": "1 + 1?"}],
                          "chosen": {"from": "gpt", "value": "2"}, "rejected": {"from": "gpt", "value": "3"}},
                         asks("1 + 1?"), "2"),
            LayoutSample({"chosen": [asked, two], "rejected": [asked | {"content": "1 + 2?"}, three]}, asks("1 + 1?"),
                         refused="answer different questions"),
            LayoutSample({"chosen": "2", "rejected": "3"}, asks(""), refused="there is no user turn"),
            LayoutSample({"prompt": "1 + 1?", "chosen": "2", "rejected": ""}, asks("1 + 1?"),
                         refused="'rejected' holds nothing"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Two columns of a pair."""
        return _sides(row) is not None

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The prompt with both answers; InputError when one is missing or they answer different questions."""
        place = RowPlace(source, number)
        sides = _sides(row)
        if sides is None:
            raise place.error("there are no 'chosen' and 'rejected'")
        asked, (wanted, unwanted) = _asked(row, place), (_side(row.get(name), name, place) for name in sides)
        if wanted[0] != unwanted[0]:
            raise place.error("'chosen' and 'rejected' answer different questions")
        messages = wanted[0] or asked
        if system := first(row, SYSTEM):
            messages = messages if any(m.role == "system" for m in messages) else (Message("system", system), *messages)
        prompt = prompt_of(with_tools(messages, defined_in(row, place)), row, source, place)
        model = first(row, MODEL) or ""
        return Imported(prompt, tuple(
            Answer(imported_trace(prompt, reply, source, model, {}, place), right, name)
            for (_, reply), right, name in zip((wanted, unwanted), (True, False), sides, strict=True)))

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """A row of two answers; InputError without one that is right and one that is wrong."""
        pair = [one.trace for right in (True, False) for one in item.answers if one.right is right]
        if [one.right for one in item.answers] not in ([True, False], [False, True]):
            raise InputError("a row of this layout needs a right and a wrong answer", "write them as messages")
        chosen, rejected = ([answer_turn(trace, reasoning)] for trace in pair)
        model = {"model": pair[0].model} if pair[0].model == pair[1].model != "" else {}
        return {"prompt": [*map(turn_of, item.prompt.messages)], "chosen": chosen, "rejected": rejected, **model,
                **prompt_keys(item.prompt)}


def _sides(row: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((sides for sides in _SIDES if all(name in row for name in sides)), None)


def _asked(row: Mapping[str, Any], place: RowPlace) -> tuple[Message, ...]:
    """What was asked, as far as it stands apart from the answers."""
    for name in _TALKS:
        turns = turns_in(row.get(name)) if name in row else None
        if turns is not None:
            talk = read_turns(turns, place)
            return tuple(turn.message for turn in talk)
    question = first(row, QUESTION)
    if question is None:
        return ()
    more = text_of(row.get("input")) if "instruction" in row and "input" in row else None
    return (Message("user", question if more is None else f"{question}\n\n{more}"),)


def _side(value: object, name: str, place: RowPlace) -> tuple[tuple[Message, ...], SplitReply]:
    """The turns before one answer, and the answer."""
    if not is_stated(value):
        raise place.error(f"'{name}' holds nothing", "a pair needs both answers")
    turns = turns_in([value] if isinstance(value, Mapping) else value)
    if turns is None:
        text = text_of(value)
        return (), answer_of(text or "")
    messages, last = prompt_and_answer(read_turns(turns, place), place)
    if not isinstance(last, Turn):
        raise place.error(f"'{name}' does not end with a turn of the assistant")
    return messages, last.answer
