"""ShareGPT rows: `{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}], "system": ...}`, also with
the keys `role` and `content`, and with the `info` object of later a-m-team files (`ground_truth`, `think_content`,
`answer_content`, `model_name`).

The last assistant turn becomes the answer. The same things are kept as in `messages`; reasoning travels as think tags
inside `value`, and in `info` too where tags alone could not give it back exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.conversation import read_conversation, turns_in
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import RowPlace, conversation_row, is_faithful, only_trace
from localdistill.templates import join_thinking

_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


class ShareGptLayout:
    """The `sharegpt` layout."""

    name = "sharegpt"

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        asked, said = {"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "<think>\neasy\n</think>\n\n2"}
        return (
            LayoutSample({"conversations": [asked, said]}, asks("1 + 1?"), "2", "easy"),
            LayoutSample({"conversations": [asked]}, asks("1 + 1?")),
            LayoutSample({"conversations": [said]}, asks(""), refused="there is no user turn"),
            LayoutSample({"conversations": [asked, {"from": "observation", "value": "2"}]}, asks(""),
                         refused="uses tools"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """A list `conversations`."""
        return isinstance(row.get("conversations"), list)

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The conversation; InputError without a human turn or with an unknown speaker."""
        place = RowPlace(source, number)
        turns = turns_in(row.get("conversations"))
        if turns is None:
            raise place.error("'conversations' is not a list of turns")
        return read_conversation(row, turns, place)

    def write(self, item: Imported) -> Mapping[str, Any]:
        """System turns become turns, so that their place is kept."""
        turns: list[dict[str, Any]] = [{"from": _NAMES[m.role], "value": m.content} for m in item.prompt.messages]
        trace = only_trace(item)
        if trace is not None and is_faithful(trace):
            turns.append({"from": "gpt", "value": trace.raw})
        elif trace is not None:
            value = join_thinking(trace.reasoning, trace.answer) if trace.reasoning else trace.answer
            info = {"think_content": trace.reasoning, "answer_content": trace.answer}
            turns.append({"from": "gpt", "value": value, "info": info})
        return conversation_row("conversations", turns, item)
