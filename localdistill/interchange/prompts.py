"""Our own rows of prompts: `{"messages", "reference", "original", "tests", "source", "licence", "metadata"}`.

Holds a prompt exactly and nothing of a trace; only `messages` must be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import Reasoning, Writing
from localdistill.interchange.conversation import defined_in, read_turns, with_tools
from localdistill.interchange.imported import Imported
from localdistill.interchange.losses import ANSWER
from localdistill.interchange.messages import OWN_KEYS, ends_with_answer
from localdistill.interchange.rows import RowPlace, prompt_of
from localdistill.interchange.written import PROMPT_COLUMNS, TOOL_TURN, prompt_keys, turn_of


class PromptsLayout:
    """The `prompts` layout."""

    name = "prompts"
    writing = Writing({"messages": [{"role": "text", "content": "text", "reasoning_content": "text"}],
                       **PROMPT_COLUMNS}, (), frozenset({ANSWER}), a_row="prompt",
                      with_tools={"messages": [TOOL_TURN], "tools": "json"})

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        turn = {"role": "user", "content": "1 + 1?"}
        return (
            LayoutSample({"messages": [turn], "reference": "2"}, asks("1 + 1?", "2")),
            LayoutSample({"messages": [turn], "original": "It is 2.", "metadata": {"level": 1}},
                         asks("1 + 1?", original="It is 2.", metadata={"level": 1})),
            LayoutSample({"messages": [turn | {"role": "system"}], "reference": "2"}, asks(""),
                         refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Only our own keys, more than `messages`, and no answer at the end."""
        turns = row.get("messages")
        return isinstance(turns, list) and len(row) > 1 and set(row) <= OWN_KEYS and not ends_with_answer(turns)

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The prompt; InputError for unknown keys, without a user turn, or with text that is not text."""
        place = RowPlace(source, number)
        turns = row.get("messages")
        if not isinstance(turns, list):
            raise place.error("'messages' is not a list of turns")
        if not row.keys() <= OWN_KEYS:
            raise place.error(f"unknown key '{min(set(row) - OWN_KEYS)}'", f"known: {', '.join(sorted(OWN_KEYS))}")
        asked = tuple([turn.message for turn in read_turns(turns, place)])
        return Imported(prompt_of(with_tools(asked, defined_in(row, place)), row, source, place))

    def write(self, item: Imported, reasoning: Reasoning = "kept") -> Mapping[str, Any]:
        """The prompt; the trace is left out."""
        return {"messages": [*map(turn_of, item.prompt.messages)], **prompt_keys(item.prompt)}
