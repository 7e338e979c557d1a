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
from localdistill.interchange.base import Reasoning, Writing
from localdistill.interchange.conversation import read_conversation, turns_in
from localdistill.interchange.imported import Imported
from localdistill.interchange.losses import FIRST_RAW, OF_ASKING, SPACE
from localdistill.interchange.rows import RowPlace
from localdistill.interchange.written import (
    PROMPT_COLUMNS,
    STATED,
    TRACE_COLUMNS,
    beside_turns,
    is_faithful,
    only_trace,
    said,
)

_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


class ShareGptLayout:
    """The `sharegpt` layout."""

    name = "sharegpt"
    writing = Writing(
        {"conversations": [{"from": "text", "value": "text", "info": STATED}], **PROMPT_COLUMNS, **TRACE_COLUMNS},
        ("tags", "kept"), OF_ASKING | FIRST_RAW | {SPACE},
        read_by={
            "llama-factory": "dataset_info.json: formatting sharegpt",
            "axolotl": "type: chat_template with field_messages: conversations",
            "unsloth": "standardize_sharegpt, then apply_chat_template",
        })

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

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """System turns become turns, so that their place is kept."""
        turns: list[dict[str, Any]] = [{"from": _NAMES[m.role], "value": m.content} for m in item.prompt.messages]
        trace = only_trace(item)
        if trace is not None:
            text = said(trace, reasoning if is_faithful(trace) else "tags")
            turns.append({"from": "gpt", "value": text.pop("content"), **text})
        return {"conversations": turns, **beside_turns(item)}
