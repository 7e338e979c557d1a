"""How a reply ended, and from generated text to a reply: one rule for every engine, recording and imported row."""

from __future__ import annotations

import re
from typing import Literal

from localdistill.core.records import Reply, Status, Usage
from localdistill.templates.thinking import Split, split_thinking

_NO_USAGE = Usage()

Finish = Literal["stop", "length", "looping", "truncated"]
"""How generation ended: the model stopped (or a stop string was met), a limit was hit, it went round in circles, or
it was cut off from outside."""

_ENDS: dict[str, Status] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "end_of_turn", "stop_sequence", "stop_string", "completed",
                     "complete", "finished", "done", "end", "stop_token", "end_of_text", "tool_calls", "tool_call",
                     "tool_use", "function_call"), "complete"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "max_length", "max_new_tokens",
                     "token_limit", "error_limit", "model_context_window_exceeded", "context_length_exceeded"),
                    "length"),
    **dict.fromkeys(("content_filter", "content_filtered", "sensitive", "safety", "recitation", "blocklist", "blocked",
                     "prohibited_content", "spii", "guardrail_intervened", "error_toxic", "moderation", "flagged"),
                    "filtered"),
    "refusal": "refusal",
    **dict.fromkeys(("repetition", "repetition_truncation"), "looping"),
    **dict.fromkeys(("pause_turn", "abort", "aborted", "cancelled", "canceled", "interrupted", "error", "timeout",
                     "network_error", "server_error", "incomplete", "insufficient_system_resource", "overloaded",
                     "unavailable", "preempted", "malformed_function_call", "other"), "truncated"),
}
_WORDS: tuple[tuple[str, Status], ...] = (
    (r"filter|safety|policy|moderat|sensitive|prohibit|blocked|toxic|guardrail", "filtered"),
    (r"error|abort|cancel|time_?out|interrupt|overload|unavailable|fail|disconnect|network|rate_limit|shutdown|quota",
     "truncated"),
    (r"max.*(tokens?|length)|(token|length|context|output).*(limit|exceed)|context_window", "length"),
)
"""What a reason that is not in the table says by its words. None of them is an end in order: that takes a name."""


_NO_REASON = frozenset({"", "unspecified", "finish_reason_unspecified"})


def named_end(reason: object) -> str | None:
    """The finish reason that a server or a file states; None when it states none. An empty one is none: servers send
    it with every piece of a stream."""
    if not isinstance(reason, str) or reason.strip().lower() in _NO_REASON:
        return None
    return reason.strip()


def status_of_end(reason: str) -> Status | None:
    """How a reply ended that says `reason`, as far as that tells; None for a reason that nobody knows."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", reason.strip())
    name = re.sub(r"[\s_-]+", "_", name).lower().removeprefix("finish_reason.").removeprefix("finish_reason_")
    found = _ENDS.get(name)
    return found or next((status for words, status in _WORDS if re.search(words, name)), None)


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
