"""Token counts wherever servers state them and under the names that they have there. Pure functions; a count that is no
sane number is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from localdistill.core.records import Usage
from localdistill.engines.wire.collected import count_of, sane_count
from localdistill.templates.turns import at_path

_NEW = ("completion_tokens", "output_tokens", "candidatesTokenCount", "outputTokenCount", "outputTokens",
        "candidates_token_count", "completionTokens", "predicted_n", "eval_count", "generated_tokens")
_PROMPT = ("prompt_tokens", "input_tokens", "promptTokenCount", "inputTokenCount", "inputTokens", "prompt_token_count",
           "promptTokens", "prompt_n", "prompt_eval_count")
_CACHED = ("prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens", "prompt_cache_hit_tokens",
           "cached_tokens", "cachedContentTokenCount", "cached_content_token_count", "cache_n")
_REASONING = ("completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens",
              "reasoning_tokens", "thoughtsTokenCount", "thoughts_token_count")
_TOTAL = ("total_tokens", "totalTokenCount", "totalTokens", "total_token_count")
_PLACES = ("usage", "x_groq.usage", "usageMetadata", "usage_metadata", "metadata.usage", "meta.tokens",
           "meta.billed_units", "response.usage", "amazon-bedrock-invocationMetrics", "timings", "metrics", "stats")
"""Where the counts of a body may stand, besides in its choice, in the message and in the body itself."""


def usage_of(usage: object) -> Usage | None:
    """Token counts as reported; None when there is no sane count of new tokens. Some servers leave reasoning out of the
    new tokens and count it in the total."""
    if not isinstance(usage, Mapping):
        return None
    prompt, total, cached = count_of(usage, *_PROMPT), count_of(usage, *_TOTAL), count_of(usage, *_CACHED)
    if "prompt_n" in usage:
        prompt += cached  # counted apart there
    new = next((count for name in _NEW if name in usage and (count := sane_count(usage[name])) is not None), None)
    if new is None:
        if not (prompt and total > prompt) or any(name in usage for name in _NEW):
            return None
        new = total - prompt
    reasoning = count_of(usage, *_REASONING)
    new = max(new, total - prompt, new + reasoning if reasoning > new else 0)
    return Usage(prompt, new, reasoning, min(cached, prompt))


def usage_in(body: Mapping[str, Any], choice: Mapping[str, Any]) -> Usage | None:
    """The counts of a whole body: the first place that counts something written, else the first that counts."""
    found = [usage for place in _places(body, choice) if (usage := usage_of(place)) is not None]
    return next((usage for usage in found if usage.prompt_tokens and usage.completion_tokens),
                found[0] if found else None)


def _places(body: Mapping[str, Any], choice: Mapping[str, Any]) -> Iterator[object]:
    for path in _PLACES:
        yield at_path(body, path)
        if path == "usage":
            yield choice.get("usage")
            message = choice.get("message")
            yield message.get("usage") if isinstance(message, Mapping) else None
    yield body
