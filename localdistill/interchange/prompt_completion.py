"""Rows of a prompt and what is to be learned behind it, both as turns: `{"prompt": [{"role", "content"}, ...],
"completion": [{"role": "assistant", "content": ...}]}`.

Where the two are texts, they are columns like others and are read as those (`columns`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.errors import InputError
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Reasoning, Writing
from localdistill.interchange.conversation import read_conversation
from localdistill.interchange.imported import Imported
from localdistill.interchange.losses import FIRST_RAW, OF_ASKING, SPACE
from localdistill.interchange.rows import RowPlace
from localdistill.interchange.turn_forms import turns_in
from localdistill.interchange.written import (
    PROMPT_COLUMNS,
    TOOL_TURN,
    TRACE_COLUMNS,
    TURN,
    answer_turn,
    beside_turns,
    only_trace,
    turn_of,
)


class PromptCompletionLayout:
    """The `prompt_completion` layout."""

    name = "prompt_completion"
    writing = Writing(
        {"prompt": [TURN], "completion": [TURN], **PROMPT_COLUMNS, **TRACE_COLUMNS}, ("field", "tags", "kept"),
        OF_ASKING | FIRST_RAW | {SPACE}, read_by={"trl": "SFTTrainer trains on the completion alone"},
        with_tools={"prompt": [TOOL_TURN], "completion": [TOOL_TURN], "tools": "json"})

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        asked, said = [{"role": "user", "content": "1 + 1?"}], "<think>\neasy\n</think>\n\n2"
        answer = {"role": "assistant", "content": said}
        return (
            LayoutSample({"prompt": asked, "completion": [answer]}, asks("1 + 1?"), "2", "easy"),
            LayoutSample({"prompt": asked, "completion": [answer | {"content": "2", "reasoning_content": "easy"}]},
                         asks("1 + 1?"), "2", "easy"),
            LayoutSample({"prompt": [], "completion": [answer]}, asks(""), refused="there is no user turn"),
            LayoutSample({"prompt": asked, "completion": asked}, asks(""), refused="both the user's"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Turns in both places."""
        return all(isinstance(row.get(name), list) and turns_in(row[name]) is not None
                   for name in ("prompt", "completion"))

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The conversation of both; InputError where one of them is none."""
        place = RowPlace(source, number)
        prompt, completion = (turns_in(row.get(name)) for name in ("prompt", "completion"))
        if prompt is None or completion is None:
            raise place.error("'prompt' and 'completion' are not both lists of turns")
        return read_conversation(row, [*prompt, *completion], place)

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """The turns before the answer, and the answer; InputError without one."""
        trace = only_trace(item)
        if trace is None:
            raise InputError("a row of this layout needs an answer", "write prompts alone as prompts")
        return {"prompt": [*map(turn_of, item.prompt.messages)], "completion": [answer_turn(trace, reasoning)],
                **beside_turns(item)}
