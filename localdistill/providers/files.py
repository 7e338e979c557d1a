"""What a provider's file can say. Facts that age (prices, limits, terms of use) are refused without the address and
the date of the document that states them; what no document states is left out and stays unknown."""

from __future__ import annotations

import datetime
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, field_validator, model_validator

from localdistill.core.options import Options
from localdistill.providers.hosts import host_of, is_loopback
from localdistill.spending.prices import Price

TermsClass = Literal["allowed", "conditional", "prohibited", "unknown", "model"]
"""Whether a provider's terms let one train a model on what it answers. `model`: nobody's terms but the licence of the
model that answers."""

ThinkingSwitch = Literal[
    "none", "chat_template_kwargs", "thinking", "reasoning", "reasoning_effort", "enable_thinking"
]
PromptLogprobs = Literal["none", "echo", "prompt_logprobs"]
"""How a server tells the log-probabilities of a prompt's tokens behind `/completions`: not at all, with `echo` and
`logprobs`, or with the field `prompt_logprobs`."""
SwitchableField = Literal["seed", "temperature", "top_k"]


def _https(value: str) -> str:
    if value and not (value.startswith("https://") and host_of(value)):
        raise ValueError("must be an https address")
    return value


class Cited(Options):
    """A fact with the document that states it."""

    url: str = ""
    """Address of the document."""
    date: datetime.date | None = None
    """The day the document gives for itself, or on which it was read."""

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return _https(value)

    @property
    def is_cited(self) -> bool:
        """True when a document and its day are named."""
        return bool(self.url) and self.date is not None


class Terms(Cited):
    """What a provider's terms of use say about training on its answers. Not legal advice."""

    class_: TermsClass = Field("unknown", alias="class")
    """One of `allowed`, `conditional`, `prohibited`, `unknown`, `model`."""
    note: str = ""
    """What a person should know before deciding, in one or two sentences."""

    @model_validator(mode="after")
    def _has_its_document(self) -> Terms:
        if self.class_ not in ("unknown", "model") and not self.is_cited:
            raise ValueError(f"the class '{self.class_}' needs the url and the date of the document that states it")
        return self


class RateLimits(Cited):
    """How much a provider takes, where it says so for everybody."""

    requests_per_minute: int | None = Field(None, ge=1)
    """Requests per minute; None: unknown."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """Prompt and new tokens per minute; None: unknown."""
    concurrent_requests: int | None = Field(None, ge=1)
    """Requests in flight at once; None: unknown."""
    note: str = ""
    """To whom the limits apply."""

    @model_validator(mode="after")
    def _has_its_document(self) -> RateLimits:
        limits = (self.requests_per_minute, self.tokens_per_minute, self.concurrent_requests)
        if any(limits) and not self.is_cited:
            raise ValueError("limits need the url and the date of the document that states them")
        return self


class ProviderModel(Cited):
    """What is known of the models whose names match a pattern."""

    match: str = Field(min_length=1)
    """Pattern of model names, with `*` and `?`; the first that matches counts."""
    input: float | None = Field(None, ge=0)
    """US dollars per million prompt tokens; None: unknown."""
    output: float | None = Field(None, ge=0)
    """US dollars per million new tokens, reasoning included; None: unknown."""
    cached_input: float | None = Field(None, ge=0)
    """US dollars per million prompt tokens read from the cache; None: as `input`."""
    cache_write: float | None = Field(None, ge=0)
    """US dollars per million prompt tokens written to the cache; None: as `input`."""
    reasoning: float | None = Field(None, ge=0)
    """US dollars per million reasoning tokens where they are priced apart; None: as `output`."""
    trace_kind: Literal["raw", "summary", "encrypted", "none", "unknown"] = "unknown"
    """What the reasoning text is."""
    trace_url: str = ""
    """Address of the document that says what the reasoning text is."""
    trace_date: datetime.date | None = None
    """Its day."""
    context_tokens: int | None = Field(None, ge=1)
    """Longest prompt and reply together."""
    max_output_tokens: int | None = Field(None, ge=1)
    """Longest reply."""
    accepts_temperature: bool | None = None
    """Whether a temperature may be sent to these models; None: as the provider."""
    note: str = ""
    """What a single price cannot say, for example that the dearer of two is given."""

    @field_validator("trace_url")
    @classmethod
    def _trace_is_address(cls, value: str) -> str:
        return _https(value)

    @model_validator(mode="after")
    def _facts_are_cited(self) -> ProviderModel:
        if (self.input is None) != (self.output is None):
            raise ValueError("the prices of input and output come together")
        if self.input is None and any(v is not None for v in (self.cached_input, self.cache_write, self.reasoning)):
            raise ValueError("prices of the cache need the prices of input and output")
        facts = (self.input, self.context_tokens, self.max_output_tokens)
        if any(fact is not None for fact in facts) and not self.is_cited:
            raise ValueError("prices and sizes need the url and the date of the document that states them")
        if self.trace_kind != "unknown" and not (self.trace_url and self.trace_date):
            raise ValueError("the kind of trace needs trace_url and trace_date")
        return self

    @property
    def price(self) -> Price | None:
        """The price, or None when it is unknown."""
        if self.input is None or self.output is None:
            return None
        return Price(self.input, self.output, self.cached_input, self.cache_write, self.reasoning)


class BatchEndpoint(Cited):
    """The provider's batch endpoint."""

    kind: Literal["none", "openai", "anthropic"] = "none"
    """Whose protocol it speaks."""
    price_factor: float | None = Field(None, gt=0, le=1)
    """What a batch costs relative to single requests; None: unknown."""

    @model_validator(mode="after")
    def _has_its_document(self) -> BatchEndpoint:
        if (self.kind != "none" or self.price_factor is not None) and not self.is_cited:
            raise ValueError("a batch endpoint needs the url and the date of the document that states it")
        return self


class Provider(Options):
    """One provider or kind of server, as its file says."""

    name: str
    """Name of the file."""
    title: str
    """Name that people know."""
    engine: Literal["openai_compatible", "anthropic"]
    """The engine that speaks to it."""
    base_url: str
    """Address in front of the engine's endpoints."""
    other_hosts: tuple[str, ...] = ()
    """Further hosts of the same provider; its key may go there too."""
    api_key_env: str = Field("", pattern=r"^$|^[A-Z][A-Z0-9_]*$")
    """Environment variable that holds the key by custom; empty when none is usual."""
    is_local: bool = False
    """A server that people run themselves."""
    thinking_switch: ThinkingSwitch = "none"
    """How it is told to think or not."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the limit on new tokens."""
    accepts_seed: bool = True
    """Whether `seed` may be sent."""
    accepts_temperature: bool = True
    """Whether `temperature` may be sent."""
    ignores_temperature_while_thinking: bool = False
    """Whether a temperature is taken but counts for nothing while the model thinks."""
    accepts_top_k: bool = False
    """Whether `top_k` may be sent."""
    accepts_stream_usage: bool = True
    """Whether `stream_options.include_usage` may be sent."""
    reasoning_fields: tuple[str, ...] = ()
    """Where reasoning stands in a message, the first the most usual."""
    prompt_logprobs: PromptLogprobs = "none"
    """How it tells the log-probabilities of a prompt's tokens, which scoring needs."""
    may_lack_finish_reason: bool = False
    """Whether complete replies may come without a finish reason."""
    note: str = ""
    """What a person should know before the first request."""
    batch: BatchEndpoint = BatchEndpoint()
    """Its batch endpoint."""
    terms: Terms = Terms()
    """What its terms of use say."""
    limits: RateLimits = RateLimits()
    """How much it takes."""
    models: tuple[ProviderModel, ...] = ()
    """What is known of its models."""

    @model_validator(mode="after")
    def _address_fits(self) -> Provider:
        host = host_of(self.base_url)
        if self.is_local != is_loopback(host):
            raise ValueError("a local server, and nothing else, lives on this machine")
        if not self.is_local and not self.base_url.startswith("https://"):
            raise ValueError("the base_url must be an https address")
        if self.terms.class_ == "model" and not self.is_local and not self.terms.is_cited:
            raise ValueError("the class 'model' of a provider needs the url and the date of a document")
        return self

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that is this provider."""
        return (host_of(self.base_url), *self.other_hosts)

    def model(self, name: str) -> ProviderModel | None:
        """What is known of the model `name`: the first entry that matches, or None."""
        return next((model for model in self.models if fnmatchcase(name, model.match)), None)

    def counts_temperature(self, thinks: bool | None) -> bool:
        """Whether a temperature that is sent is heeded; `thinks` is None where the provider's default is left."""
        return thinks is False or not self.ignores_temperature_while_thinking

    def accepts(self, field: SwitchableField, model: str = "") -> bool:
        """Whether the request field `field` may be sent to `model`."""
        if field == "temperature":
            known = self.model(model)
            if known is not None and known.accepts_temperature is not None:
                return known.accepts_temperature
            return self.accepts_temperature
        return self.accepts_seed if field == "seed" else self.accepts_top_k
