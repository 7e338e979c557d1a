"""How a reply ended, and from generated text to a reply: one rule for every engine, recording and imported row."""

from __future__ import annotations

from typing import Literal

from localdistill.core.records import Reply, Status, Usage
from localdistill.templates.thinking import Split, split_thinking

_NO_USAGE = Usage()

Finish = Literal["stop", "length", "looping", "truncated"]
"""How generation ended: the model stopped (or a stop string was met), a limit was hit, it went round in circles, or
it was cut off from outside."""

_ENDS: dict[str, Status] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed"), "complete"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "max_length",
                     "model_context_window_exceeded"), "length"),
    **dict.fromkeys(("content_filter", "content_filtered", "sensitive", "safety", "recitation", "blocklist",
                     "prohibited_content", "spii", "guardrail_intervened"), "filtered"),
    "refusal": "refusal",
    **dict.fromkeys(("pause_turn", "abort", "aborted", "cancelled", "canceled", "interrupted", "error", "timeout",
                     "network_error", "server_error", "insufficient_system_resource"), "truncated"),
}


def named_end(reason: object) -> str | None:
    """The finish reason that a server or a file states; None when it states none. An empty one is none: servers send
    it with every piece of a stream."""
    return reason.strip() or None if isinstance(reason, str) else None


def status_of_end(reason: str) -> Status | None:
    """How a reply ended that says `reason`, as far as that tells; None for a reason that nobody knows."""
    return _ENDS.get(reason.strip().lower())


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
