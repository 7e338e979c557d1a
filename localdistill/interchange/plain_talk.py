"""Conversations whose turns say who speaks and what, perhaps with what was thought for an answer, and nothing else: by
far the most are so. They are read without a look for anything else, and come to what `conversation.read_turns` makes
of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from localdistill.core.messages import Message, Role
from localdistill.interchange.turn_forms import SPEAKERS

ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "ai": "assistant",
}
"""Names of speakers as files write them."""
SAYINGS = ("content", "value", "text", "message", "parts", "output")
"""Where a turn has what is said."""
THINKING = ("reasoning_content", "reasoning", "thinking", "thinking_content")
"""Fields for what was thought. Being there, they say that nothing was where they are empty."""
OF_TRAINING = ("loss_weight", "weight", "train", "name")
"""What a turn may hold that changes nothing of it."""
Said = tuple[str, str | None]
"""An answer, and what was thought where a field is there for it."""


def plain_talk(turns: Sequence[object]) -> tuple[tuple[Message, ...], Said | None] | None:
    """What was asked, and the answer where the last turn is one; None where some turn may hold more than that, and
    where one speaker goes on."""
    spoken: list[tuple[Role, str, str | None]] = []
    before: Role | None = None
    for turn in turns:
        if not isinstance(turn, dict) or (form := _form(tuple(turn))) is None:
            return None
        who, what, thought = form
        speaker, text, beside = turn[who], turn[what], turn[thought] if thought else None
        role = ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None or role == before or not isinstance(text, str):
            return None
        if thought and not (role == "assistant" and isinstance(beside, str)):
            return None
        spoken.append((role, text, beside))
        before = role
    answer = spoken.pop()[1:] if before == "assistant" else None
    return tuple([Message(role, text, beside) if beside else Message(role, text)
                  for role, text, beside in spoken]), answer


@lru_cache(maxsize=256)
def _form(fields: tuple[str, ...]) -> tuple[str, str, str] | None:
    """The fields of a turn that say who speaks, what is said, and what was thought (empty where none does); None where
    other fields may say more."""
    who, what, thought = ([name for name in fields if name in names] for names in (SPEAKERS, SAYINGS, THINKING))
    if len(who) != 1 or len(what) != 1 or len(thought) > 1 or not {*fields} <= {*who, *what, *thought, *OF_TRAINING}:
        return None
    return who[0], what[0], "".join(thought)
