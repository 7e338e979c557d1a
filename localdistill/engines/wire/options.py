"""Options that every engine behind a network has, and what becomes of them together with what is known of the provider:
what is said in the recipe counts first, then the provider's file, then the defaults."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from localdistill.core.options import Options
from localdistill.core.secrets import is_surely_key, looks_like_key
from localdistill.providers import Price, Provider, ProviderModel, host_of, is_loopback, provider, provider_of_url

MOST_IN_FLIGHT = 256
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def usable_address(value: str) -> str:
    """`value` without a slash at its end; ValueError when requests must not go there."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not hold a user, a password, a query or a fragment")
    if _is_link_local(parts.hostname):
        raise ValueError("must not be a link-local address")
    return value.rstrip("/")


def _is_link_local(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def check_key_is_protected(base_url: str, api_key_env: str) -> None:
    """ValueError when a key would travel in the open."""
    if api_key_env and urlsplit(base_url).scheme != "https" and not is_loopback(host_of(base_url)):
        raise ValueError("a key is only sent over https, or to this machine")


def name_of_variable(value: str) -> str:
    """`value`, which is the name of a key; ValueError, which does not repeat it, when it is none."""
    if value and (not _VARIABLE.fullmatch(value) or looks_like_key(value)):
        raise ValueError("is the name of an environment variable, never a key: `localdistill keys set` stores that")
    return value


class Endpoint(Options):
    """One of several servers that answer as one."""

    base_url: str
    """Its address, as the engine's `base_url`."""
    api_key_env: str = ""
    """Name of its key. Empty: the engine's."""
    concurrency: int = Field(default=0, ge=0, le=1024)
    """Requests in flight at this server. 0: as the engine's."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, value: str) -> str:
        return usable_address(value)

    @field_validator("api_key_env")
    @classmethod
    def _named(cls, value: str) -> str:
        return name_of_variable(value)


class WireOptions(Options):
    """Options of every engine that asks over a network."""

    provider: str = ""
    """Name of a known provider (`localdistill teacher list`); its file gives the address, the key's name, switches,
    prices and limits. Empty: none of them, or the one whose host `base_url` names."""
    base_url: str = ""
    """Address of the server, without the part that the engine adds. Empty: the provider's."""
    endpoints: tuple[Endpoint, ...] = ()
    """Several servers that hold the same model and share the work, instead of one `base_url`."""
    model: str
    """Name of the model as the server knows it."""
    api_key_env: str = ""
    """Name of the key: an environment variable, or what `localdistill keys set` stored under that name. Empty: the
    provider's, or none. With a key the address must be https, unless it is this machine."""
    concurrency: int = Field(default=0, ge=0, le=1024)
    """Requests in flight. 0 finds how many the server can use, at most 256; a number is kept, except while the server
    says that it is asked too much."""
    timeout_s: float = Field(default=1800.0, gt=0)
    """Seconds that one reply may take as a whole."""
    idle_s: float = Field(default=180.0, gt=0)
    """Seconds without a single byte after which a reply is given up."""
    patience_s: float = Field(default=600.0, ge=0)
    """Seconds that servers may fail without one success before the run stops as resumable. Waiting for as long as a
    server asks does not count."""
    finish_s: float = Field(default=60.0, ge=0)
    """Seconds that a cancelled run waits for replies that are paid for already."""
    retries: int = Field(default=8, ge=0)
    """Further tries of a request after failures that may pass. Waiting as long as the server asks is not a try."""
    backoff_s: float = Field(default=0.5, gt=0)
    """Seconds before the first retry; each further one waits twice as long, at most 30 s."""
    stream: bool = True
    """Ask for streams: a broken connection is noticed early and no proxy ends a long silence."""
    batch: bool = False
    """Use the provider's batch endpoint: cheaper, answered within a day."""
    batch_poll_s: float = Field(default=60.0, gt=0)
    """Seconds between two looks at a batch."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further keys merged into every request's body, for example `{provider = {order = ["x"]}}`. Never a key."""
    usd_per_million_input: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens in US dollars. Unset: the provider's, where a document states it."""
    usd_per_million_output: float | None = Field(default=None, ge=0)
    """Price of a million new tokens in US dollars, reasoning included. Unset: likewise."""
    usd_per_million_cached_input: float | None = Field(default=None, ge=0)
    """Price of a million prompt tokens read from the server's cache. Unset: as other prompt tokens."""
    usd_per_million_reasoning: float | None = Field(default=None, ge=0)
    """Price of a million reasoning tokens, where they are priced apart. Unset: as other new tokens."""

    @field_validator("base_url")
    @classmethod
    def _usable(cls, value: str) -> str:
        return usable_address(value) if value else value

    @field_validator("api_key_env")
    @classmethod
    def _named(cls, value: str) -> str:
        return name_of_variable(value)

    @field_validator("model")
    @classmethod
    def _is_a_model(cls, value: str) -> str:
        if is_surely_key(value):
            raise ValueError("is an API key, and the name of a model belongs there")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> WireOptions:
        if self.provider:
            try:
                provider(self.provider)
            except Exception as error:
                raise ValueError(f"{error}") from None
        if not (self.provider or self.base_url or self.endpoints):
            raise ValueError("give base_url, or provider, or endpoints")
        if self.base_url and self.endpoints:
            raise ValueError("give base_url or endpoints, not both")
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise ValueError("the prices of input and output come together")
        for place in self.places():
            check_key_is_protected(place.base_url, place.api_key_env)
        return self

    def known(self) -> Provider | None:
        """What is known of the provider, by name or by the address."""
        if self.provider:
            return provider(self.provider)
        return provider_of_url(self.base_url) if self.base_url else None

    def known_model(self) -> ProviderModel | None:
        """What is known of the model at that provider."""
        known = self.known()
        return known.model(self.model) if known else None

    def places(self) -> tuple[Endpoint, ...]:
        """Every server with its key's name."""
        known = self.known()
        key = self.api_key_env or (known.api_key_env if known else "")
        given: Iterable[Endpoint] = self.endpoints or (
            Endpoint(base_url=self.base_url or (known.base_url if known else "")),)
        return tuple(Endpoint(base_url=e.base_url, api_key_env=e.api_key_env or key,
                              concurrency=e.concurrency or self.concurrency) for e in given)

    def price(self) -> Price | None:
        """The price of single requests, or of batched ones when `batch` is on; None when it is unknown."""
        if self.usd_per_million_input is not None and self.usd_per_million_output is not None:
            # As stated, also for batches: whoever states a price knows what for.
            return Price(self.usd_per_million_input, self.usd_per_million_output, self.usd_per_million_cached_input,
                         reasoning=self.usd_per_million_reasoning)
        known, model = self.known(), self.known_model()
        if known is not None and known.is_local:
            return Price(0.0, 0.0)
        stated = model.price if model else None
        if stated is None or not self.batch:
            return stated
        factor = known.batch.price_factor if known else None
        return stated.times(factor) if factor else None

    def host(self) -> str:
        """Who answers, in an identity: host and port, or `pool` for several servers."""
        return "pool" if self.endpoints else urlsplit(self.places()[0].base_url).netloc
