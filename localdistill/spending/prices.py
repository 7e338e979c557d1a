"""Prices, and money as fixed point: whole nano-dollars, rounded up, so that a sum of costs never says less than what
was spent and adding in another order changes nothing. Prices are floats as people write them; the arithmetic on them
is exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from localdistill.core.records import Usage

NANO_PER_USD = 1_000_000_000
_NANO_PER_TOKEN = 1_000
"""One dollar per million tokens, in nano-dollars per token."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    """Prompt tokens that were not cached."""
    output: float
    """New tokens, reasoning included."""
    cached_input: float | None = None
    """Prompt tokens read from the provider's cache; None: as `input`."""
    cache_write: float | None = None
    """Prompt tokens written to the provider's cache; None: as `input`."""
    reasoning: float | None = None
    """Those new tokens that are reasoning, where they are priced apart; None: as `output`."""

    def __post_init__(self) -> None:
        for value in (self.input, self.output, self.cached_input, self.cache_write, self.reasoning):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError("a price is a finite number of dollars, 0 or more")

    def times(self, factor: float) -> Price:
        """Every price times `factor`, for example 0.5 for a batch."""

        def scaled(value: float) -> float:
            return float(Decimal(str(value)) * Decimal(str(factor)))

        apart = (self.cached_input, self.cache_write, self.reasoning)
        return Price(scaled(self.input), scaled(self.output), *(None if v is None else scaled(v) for v in apart))


@dataclass(frozen=True)
class _Rates:
    """Nano-dollars per token, as whole numbers over one denominator."""

    input: int
    output: int
    cached: int
    write: int
    reasoning: int
    below: int


@lru_cache(maxsize=256)
def _rates(price: Price) -> _Rates:
    apart = ((price.cached_input, price.input), (price.cache_write, price.input), (price.reasoning, price.output))
    values = [price.input, price.output, *(usual if own is None else own for own, usual in apart)]
    exact = [Fraction(str(value)) * _NANO_PER_TOKEN for value in values]
    below = math.lcm(*(rate.denominator for rate in exact))
    per_input, per_output, per_cached, per_write, per_reasoning = (int(rate * below) for rate in exact)
    return _Rates(per_input, per_output, per_cached, per_write, per_reasoning, below)


def cost_nano_usd(price: Price, usage: Usage) -> int:
    """What `usage` cost, in nano-dollars, rounded up.

    `usage.prompt_tokens` includes those read from the cache and those written to it, which are priced apart;
    `usage.completion_tokens` includes those of reasoning. Counts that contradict each
    other are read so that the cost is never above the worst case of the same prompt.
    """
    rates = _rates(price)
    prompt, new = max(0, usage.prompt_tokens), max(0, usage.completion_tokens)
    cached = min(max(0, usage.cached_tokens), prompt)
    written = min(max(0, usage.cache_write_tokens), prompt - cached)
    reasoning = min(max(0, usage.reasoning_tokens), new)
    total = (prompt - cached - written) * rates.input + cached * rates.cached + written * rates.write
    return -(-(total + (new - reasoning) * rates.output + reasoning * rates.reasoning) // rates.below)


def charged_nano_usd(price: Price, usage: Usage, counted: Usage) -> int:
    """What a reply cost for which the server counts `usage` and we count `counted`: prompt and new tokens each by the
    larger count."""
    return cost_nano_usd(price, usage) + worst_nano_usd(
        price, counted.prompt_tokens - usage.prompt_tokens, counted.completion_tokens - usage.completion_tokens)


def worst_nano_usd(price: Price, prompt_tokens: int, max_tokens: int) -> int:
    """The most that a request can cost, in nano-dollars: every prompt token at its dearest, every new token used."""
    rates = _rates(price)
    total = max(0, prompt_tokens) * max(rates.input, rates.cached, rates.write)
    return -(-(total + max(0, max_tokens) * max(rates.output, rates.reasoning)) // rates.below)
