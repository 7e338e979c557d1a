"""Answers through any server that speaks chat completions: a provider, vLLM, SGLang, llama-server, Ollama, LM Studio.

A thin client of our own keeps the raw reply, so that nothing a server said is lost to a library's idea of it. Keys
come from the environment or from `localdistill keys`, never from the options.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from localdistill.core.capabilities import Capability, needed_by, require
from localdistill.core.options import FileName, Options
from localdistill.core.records import Reply, Request, Usage
from localdistill.core.samples import EngineSample
from localdistill.engines.wire.chat_completions import ChatCompletions
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.dispatcher import Job
from localdistill.engines.wire.engine import WireEngine
from localdistill.engines.wire.options import WireOptions
from localdistill.engines.wire.prompt_scores import ServedTokenizer, scoring_job
from localdistill.engines.wire.turns_sent import chat_turns
from localdistill.providers import PromptLogprobs

Switch = Literal[
    "auto", "none", "chat_template_kwargs", "thinking", "reasoning", "reasoning_effort", "enable_thinking"
]


class OpenAICompatibleOptions(WireOptions):
    """Options of the `openai_compatible` engine. `base_url` is what stands in front of `/chat/completions`."""

    thinking_switch: Switch = "auto"
    """How this server is told to think or not: `chat_template_kwargs` (vLLM, SGLang, llama-server), `thinking`
    (DeepSeek), `reasoning` (OpenRouter), `reasoning_effort` (OpenAI, Ollama), `enable_thinking` (Alibaba). `none`
    leaves the server's default, `auto` takes what is known of the provider."""
    reasoning_fields: tuple[str, ...] = ()
    """Fields of a message that hold reasoning, beside those that are known by themselves (`reasoning_content`,
    `reasoning`, `thinking` and others, also inside the text): for a server with a name of its own. A dot leads into an
    object: `["extra.inner_voice"]`."""
    max_tokens_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """Name of the limit on new tokens; some newer models accept only the longer one. `auto`: the provider's."""
    prompt_logprobs: Literal["auto"] | PromptLogprobs = "auto"
    """How this server tells the log-probabilities of a prompt's tokens behind `/completions`, which scoring needs:
    `prompt_logprobs` (vLLM), `echo` with `logprobs`, or `none`. `auto` takes what is known of the provider."""
    tokenizer: FileName = ""
    """Folder with the tokenizer.json and the chat template of the model that the server holds, `shipped:NAME` or
    `hf://organisation/name`; scoring needs it, to know which of a prompt's tokens are the continuation's. The weights
    are not needed. Empty: nothing can be scored."""

    @field_validator("reasoning_fields")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in ("content", "refusal", "") or not all(name.split(".")):
                raise ValueError(f"'{name}' cannot be a field of reasoning")
        return value


class OpenAICompatibleEngine(WireEngine):
    """One model, on one server or several, behind the engine contract."""

    Options: ClassVar[type[Options]] = OpenAICompatibleOptions
    name: ClassVar[str] = "openai_compatible"
    options: OpenAICompatibleOptions

    def __init__(self, options: OpenAICompatibleOptions) -> None:
        super().__init__(options)
        self._served: ServedTokenizer | None = None

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""
        body = """{"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "reasoning_content": "Two and two.", "content": "It is 4."}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 12}}"""
        reply = Reply("", "complete", "Two and two.", "It is 4.", trace_kind="raw",
                      usage=Usage(prompt_tokens=9, completion_tokens=12))
        options = {"model": "m", "stream": False, "base_url": "https://api.example.com/v1", "extra": {"user": "us"}}
        sent = {"model": "m", "user": "us", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}
        return (EngineSample(served=body, sent=sent, reply=reply, costs=True, options=options),)

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`. A batch goes to another address than prompts with log-probabilities do."""
        found: set[Capability] = {"generate", "stream", "json_schema"}
        way = self._prompt_logprobs()
        if way != "none" and self.options.tokenizer and not self.options.batch:
            found |= {"score", "top_scores"} if way == "prompt_logprobs" else {"score"}
        return frozenset(found)

    def job(self, request: Request, streams: bool) -> Job:
        """See `WireEngine.job`."""
        if request.kind == "generate":
            return super().job(request, streams)
        require(self, needed_by(request))
        if self._served is None:
            self._served = ServedTokenizer(self.options.tokenizer)
        known = self.options.known_model()
        return scoring_job(request, self._served, self._prompt_logprobs(), self.options.model, self.options.extra,
                           known.context_tokens if known else None)

    def _prompt_logprobs(self) -> PromptLogprobs:
        known, chosen = self.options.known(), self.options.prompt_logprobs
        return chosen if chosen != "auto" else known.prompt_logprobs if known else "none"

    def _dialect(self) -> Dialect:
        return ChatCompletions(self.options.reasoning_fields)

    def _switch(self) -> str:
        known = self.options.known()
        chosen = self.options.thinking_switch
        return chosen if chosen != "auto" else known.thinking_switch if known else "none"

    def _asks(self) -> list[Any]:
        # A switch that the recipe names counts, one that is known of the provider does not: the id of a request says
        # already whether thinking was asked for.
        switch = self.options.thinking_switch if self.options.thinking_switch != "auto" else "none"
        return [self.options.extra, switch] if self.options.extra or switch != "none" else []

    def _stream_keys(self) -> dict[str, Any]:
        known = self.options.known()
        usage = {} if known and not known.accepts_stream_usage else {"stream_options": {"include_usage": True}}
        return {"stream": True, **usage}

    def _body(self, request: Request) -> dict[str, Any]:
        """A top-p or top-k that changes nothing is left out, as is what the provider is known to refuse."""
        sampling, options, known = request.sampling, self.options, self.options.known()
        field = options.max_tokens_field
        if field == "auto":
            field = known.max_tokens_field if known else "max_tokens"
        body: dict[str, Any] = {
            "model": options.model, **chat_turns(request.messages), field: sampling.max_tokens,
        }
        if known is None or known.accepts("temperature", options.model):
            body["temperature"] = sampling.temperature
        if known is None or known.accepts("seed", options.model):
            body["seed"] = (sampling.seed + request.sample_index) % 2**31
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k > 0 and (known is None or known.accepts("top_k", options.model)):
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.json_schema:
            schema = {"name": "reply", "schema": json.loads(sampling.json_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {**body, **thinking_keys(self._switch(), request.thinks), **options.extra}


def thinking_keys(switch: str, thinks: bool | None) -> dict[str, Any]:
    """The keys of a body that switch thinking on or off the way `switch` names; none when `thinks` is None."""
    if thinks is None or switch == "none":
        return {}
    if switch == "chat_template_kwargs":
        return {switch: {"enable_thinking": thinks, "thinking": thinks}}
    if switch == "thinking":
        return {switch: {"type": "enabled" if thinks else "disabled"}}
    if switch == "reasoning":
        return {switch: {"enabled": thinks}}
    if switch == "enable_thinking":
        return {switch: thinks}
    return {switch: "medium" if thinks else "none"}
