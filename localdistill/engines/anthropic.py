"""Answers through Anthropic's messages API, or a server that speaks it. A provider's thinking text is a summary for
most models: traces are marked so, and formats leave them out unless told otherwise. A server of one's own shows the
words themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from localdistill.core.errors import UsageError
from localdistill.core.options import Options
from localdistill.core.records import Message, Reply, Request, Usage
from localdistill.core.samples import EngineSample
from localdistill.engines.wire.anthropic_messages import Messages
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.engine import WireEngine
from localdistill.engines.wire.options import WireOptions
from localdistill.engines.wire.turns_sent import block_turns
from localdistill.providers import host_of

_LEAST_BUDGET = 1024


class AnthropicOptions(WireOptions):
    """Options of the `anthropic` engine. `base_url` is what stands in front of `/messages`."""

    provider: str = "anthropic"
    """Name of a known provider; its file gives the address, the key's name, prices and limits. Empty: none, for a
    server of your own that speaks this API."""
    thinking: Literal["adaptive", "budget"] = "adaptive"
    """How thinking is asked for when the recipe wants it: `adaptive` lets the model decide how much; `budget` gives it
    `thinking_budget_tokens`, which only older models accept."""
    thinking_budget_tokens: int = Field(default=4096, ge=_LEAST_BUDGET)
    """Most tokens of thinking with `thinking = "budget"`; must be below `max_tokens`."""
    shows_thinking: bool = True
    """Ask for thinking to be shown, as a summary where the model hides its own words."""


class AnthropicEngine(WireEngine):
    """One model behind the messages API."""

    Options: ClassVar[type[Options]] = AnthropicOptions
    name: ClassVar[str] = "anthropic"
    default_provider: ClassVar[str] = "anthropic"
    options: AnthropicOptions

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""
        body = """{"type": "message", "role": "assistant", "content": [
            {"type": "thinking", "thinking": "Two and two.", "signature": "x"}, {"type": "text", "text": "It is 4."}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 9, "output_tokens": 12}}"""
        reply = Reply("", "complete", "Two and two.", "It is 4.", trace_kind="summary",
                      usage=Usage(prompt_tokens=9, completion_tokens=12))
        sent = {"model": "m", "system": "Be brief.", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
        asked = (Message("system", "Be brief."), Message("user", "What is 2 + 2?"))
        options = {"model": "m", "stream": False}
        return (EngineSample(asked, served=body, sent=sent, reply=reply, costs=True, options=options),)

    def _dialect(self) -> Dialect:
        known, model = self.options.known(), self.options.known_model()
        if known is None or any(host_of(place.base_url) not in known.hosts for place in self.options.places()):
            return Messages()  # whoever answers there
        return Messages(summarizes=model is None or model.trace_kind != "raw")

    def _asks(self) -> list[Any]:
        options = self.options
        changes = [options.thinking, options.thinking_budget_tokens, options.shows_thinking]
        defaults = [AnthropicOptions.model_fields[name].default
                    for name in ("thinking", "thinking_budget_tokens", "shows_thinking")]
        return [options.extra, *(changes if changes != defaults else ())]

    def _body(self, request: Request) -> dict[str, Any]:
        """Sampling settings are left out where thinking forbids them."""
        sampling, options, known = request.sampling, self.options, self.options.known()
        body: dict[str, Any] = {
            "model": options.model, "max_tokens": sampling.max_tokens, **block_turns(request.messages),
        }
        if sampling.stop:
            body["stop_sequences"] = list(sampling.stop)
        if request.thinks:
            body["thinking"] = self._thinking(sampling.max_tokens)
        else:
            if request.thinks is False:
                body["thinking"] = {"type": "disabled"}
            if known is None or known.accepts("temperature", options.model):
                body["temperature"] = min(1.0, sampling.temperature)
            if sampling.top_p < 1:
                body["top_p"] = sampling.top_p
            if sampling.top_k > 0:
                body["top_k"] = sampling.top_k
        return {**body, **options.extra}

    def _thinking(self, max_tokens: int) -> dict[str, Any]:
        display = {"display": "summarized" if self.options.shows_thinking else "omitted"}
        if self.options.thinking == "adaptive":
            return {"type": "adaptive", **display}
        budget = self.options.thinking_budget_tokens
        if budget >= max_tokens:
            raise UsageError(f"thinking_budget_tokens ({budget}) must be below max_tokens ({max_tokens})",
                             "raise collect.max_tokens or lower the budget")
        return {"type": "enabled", "budget_tokens": budget}
