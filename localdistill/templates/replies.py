"""From generated text to a reply: one rule for every engine that samples tokens itself."""

from __future__ import annotations

from typing import Literal

from localdistill.records import Reply, Status, Usage
from localdistill.templates.thinking import Split, split_thinking

_NO_USAGE = Usage()

Finish = Literal["stop", "length", "looping", "truncated"]
"""How generation ended: the model stopped (or a stop string was met), a limit was hit, it went round in circles, or
it was cut off from outside."""


def status_of(split: Split, finish: Finish) -> Status:
    """How the reply ended. A limit that was hit is reported before what is missing because of it."""
    if finish != "stop":
        return finish
    if split.answer:
        return "complete"
    return "reasoning_only" if split.reasoning else "empty"


def reply_of_text(request_id: str, text: str, finish: Finish, *, opened: bool = False, splits: bool = True,
                  usage: Usage = _NO_USAGE, elapsed_s: float = 0.0) -> Reply:
    """The reply of a local engine that generated `text`.

    `opened`: the prompt ended inside a think tag. `splits` False takes all text as the answer.
    """
    split = split_thinking(text, opened) if splits else Split("", text.strip(), found=False, closed=False)
    return Reply(
        request_id=request_id, status=status_of(split, finish), reasoning=split.reasoning, answer=split.answer,
        raw=text, trace_kind="raw" if split.reasoning else "none", finish_reason=finish, usage=usage, cost_usd=0.0,
        elapsed_s=elapsed_s,
    )
