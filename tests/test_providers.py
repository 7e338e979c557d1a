"""Every provider's file is valid and cites what ages; hosts are told apart; money is exact and rounded up."""

from __future__ import annotations

import datetime
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import localdistill.providers
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.records import Usage
from localdistill.providers import (
    Price,
    cost_nano_usd,
    host_of,
    is_loopback,
    provider,
    provider_names,
    provider_of_url,
    read_provider,
    worst_nano_usd,
)

FOLDER = Path(localdistill.providers.__file__).parent
REMOTE = {"openai", "deepseek", "openrouter", "together", "groq", "alibaba", "mistral", "anthropic"}
LOCAL = {"vllm", "sglang", "llama_server", "ollama", "lm_studio"}


def test_every_file_is_a_provider_and_every_promised_one_is_there() -> None:
    assert set(provider_names()) == {path.stem for path in FOLDER.glob("*.toml")}
    assert set(provider_names()) >= REMOTE | LOCAL
    assert {name for name in provider_names() if provider(name).is_local} == LOCAL


@pytest.mark.parametrize("name", sorted(REMOTE | LOCAL))
def test_what_ages_names_its_document_and_day(name: str) -> None:
    known = provider(name)
    today = datetime.date(2026, 11, 21)
    cited: list[Any] = [m for m in known.models if m.price or m.context_tokens or m.max_output_tokens]
    if known.terms.class_ not in ("unknown", "model"):
        cited.append(known.terms)
    if known.limits.requests_per_minute or known.limits.tokens_per_minute or known.limits.concurrent_requests:
        cited.append(known.limits)
    if known.batch.kind != "none":
        cited.append(known.batch)
    for fact in cited:
        assert fact.url.startswith("https://") and host_of(fact.url)
        assert fact.date is not None and datetime.date(2023, 1, 1) <= fact.date <= today
    for model in known.models:
        if model.trace_kind != "unknown":
            assert model.trace_url.startswith("https://") and model.trace_date is not None


@pytest.mark.parametrize("name", sorted(REMOTE))
def test_remote_providers_are_found_by_their_host_and_know_their_key(name: str) -> None:
    known = provider(name)
    assert provider_of_url(known.base_url) is known
    assert known.api_key_env.endswith("_API_KEY")
    others = [provider(other) for other in REMOTE - {name}]
    assert all(known.api_key_env != other.api_key_env and not set(known.hosts) & set(other.hosts) for other in others)


def test_a_host_must_be_the_whole_host() -> None:
    for address in ("https://api.openai.com.evil.example/v1", "https://evil.example/api.openai.com",
                    "https://api.openai.com@evil.example/v1", "https://xapi.openai.com/v1", "not an address", ""):
        assert provider_of_url(address) is None
    found = provider_of_url("https://API.OpenAI.com:443/v1/")
    assert found is not None and found.name == "openai"


def test_servers_on_this_machine_are_not_told_apart_by_port() -> None:
    for name in LOCAL:
        assert provider_of_url(provider(name).base_url) is None


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'deepseek'"):
        provider("deepsek")


@pytest.mark.parametrize(("address", "host"), [
    ("https://Api.Example.com/v1", "api.example.com"), ("api.example.com:8443", "api.example.com"),
    ("http://[::1]:8000/v1", "::1"), ("::1", "::1"), ("http://host:99999", ""), ("https://", ""), ("  ", ""),
    ("https://user:word@real.example/", "real.example"),
])
def test_the_host_of_an_address(address: str, host: str) -> None:
    assert host_of(address) == host


def test_only_this_machine_is_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0")))


def test_the_first_entry_that_matches_a_model_counts() -> None:
    flash = provider("deepseek").model("deepseek-flash")
    assert flash is not None and flash.price is not None and flash.trace_kind == "raw"
    other = provider("deepseek").model("some-later-model")
    assert other is not None and other.price is None
    assert provider("groq").model("nobody/knows") is None
    newer, older = provider("anthropic").model("claude-opus-5-5"), provider("anthropic").model("claude-opus-5")
    assert newer is not None and older is not None and newer.input != older.input


def test_no_pattern_prices_models_of_other_families() -> None:
    for name in REMOTE:
        for model in provider(name).models:
            assert model.price is None or model.match.rstrip("*") not in ("", "gpt", "claude", "deepseek", "mistral")
    newer = provider("openai").model("gpt-5.4-mini-something-new")
    assert newer is not None and newer.price is None


def test_which_fields_may_be_sent() -> None:
    assert provider("openai").accepts("temperature", "gpt-4o")
    assert not provider("openai").accepts("temperature", "gpt-5.4-mini")
    assert not provider("openai").accepts("top_k") and provider("vllm").accepts("top_k")
    assert not provider("mistral").accepts("seed")


REFUSED = {
    "a price without a document": '[[models]]\nmatch = "m"\ninput = 1.0\noutput = 2.0\n',
    "a price without a day": '[[models]]\nmatch = "m"\ninput = 1.0\noutput = 2.0\nurl = "https://x.example/p"\n',
    "half a price": '[[models]]\nmatch = "m"\ninput = 1.0\nurl = "https://x.example/p"\ndate = 2026-01-01\n',
    "a negative price": '[[models]]\nmatch = "m"\ninput = -1.0\noutput = 2.0\nurl = "https://x.example/p"\n'
                        "date = 2026-01-01\n",
    "an endless price": '[[models]]\nmatch = "m"\ninput = inf\noutput = 2.0\nurl = "https://x.example/p"\n'
                        "date = 2026-01-01\n",
    "terms without a document": '[terms]\nclass = "allowed"\n',
    "limits without a document": "[limits]\nrequests_per_minute = 60\n",
    "a batch without a document": '[batch]\nkind = "openai"\n',
    "a kind of trace without a document": '[[models]]\nmatch = "m"\ntrace_kind = "raw"\n',
    "a plain http document": '[terms]\nclass = "allowed"\nurl = "http://x.example/t"\ndate = 2026-01-01\n',
    "an unknown key": "colour = 3\n[terms]\n",
    "an unknown class": '[terms]\nclass = "fine"\n',
    "not TOML": "[[[\n",
}


@pytest.mark.parametrize("problem", sorted(REFUSED))
def test_a_file_with_an_uncited_or_wrong_fact_is_refused(problem: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    head = 'title = "Odd"\nengine = "openai_compatible"\nbase_url = "https://odd.example/v1"\n'
    path.write_text(head)
    assert read_provider(path).name == "odd"
    path.write_text(head + REFUSED[problem])
    with pytest.raises(LocalDistillError, match=r"odd\.toml"):
        read_provider(path)


@pytest.mark.parametrize("base", ["http://odd.example/v1", "https://127.0.0.1/v1"])
def test_a_remote_provider_lives_abroad_and_behind_https(base: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(f'title = "Odd"\nengine = "openai_compatible"\nbase_url = "{base}"\n')
    with pytest.raises(LocalDistillError):
        read_provider(path)


def test_costs_by_hand() -> None:
    price = Price(0.15, 0.60, cached_input=0.075)
    usage = Usage(prompt_tokens=1000, completion_tokens=10, cached_tokens=400)
    assert cost_nano_usd(price, usage) == 600 * 150 + 400 * 75 + 10 * 600
    assert cost_nano_usd(Price(0.15, 0.60), usage) == 1000 * 150 + 10 * 600
    assert cost_nano_usd(Price(0.0001, 0), Usage(prompt_tokens=1)) == 1, "a tenth of a nano-dollar is rounded up"
    assert cost_nano_usd(Price(0.0001, 0), Usage(prompt_tokens=10)) == 1, "and ten tenths are one"
    cached = Price(4, 20, 0.2, 5)
    assert cost_nano_usd(cached, Usage(100, 0, 0, 20, cache_write_tokens=30)) == 50 * 4_000 + 20 * 200 + 30 * 5_000
    assert worst_nano_usd(cached, 100, 10) == 100 * 5_000 + 10 * 20_000
    assert Price(0.3, 1.2, 0.006).times(0.5) == Price(0.15, 0.6, 0.003)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_a_price_is_a_finite_number_of_dollars(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Price(value, 1.0)


dollars = st.integers(0, 10**9).map(lambda n: n / 10**6)
prices = st.builds(Price, dollars, dollars, st.none() | dollars, st.none() | dollars)
tokens = st.integers(-5, 10**7)


@given(prices, tokens, tokens, tokens, tokens)
def test_a_cost_is_the_exact_sum_rounded_up_and_never_above_the_worst_case(
    price: Price, prompt: int, new: int, cached: int, written: int
) -> None:
    cost = cost_nano_usd(price, Usage(prompt, new, 0, cached, cache_write_tokens=written))
    prompt, new = max(0, prompt), max(0, new)
    cached = min(max(0, cached), prompt)
    written = min(max(0, written), prompt - cached)

    def exact(value: float | None) -> Fraction:
        return Fraction(str(price.input if value is None else value)) * 1000

    total = (
        (prompt - cached - written) * exact(price.input) + cached * exact(price.cached_input)
        + written * exact(price.cache_write) + new * exact(price.output)
    )
    assert cost == math.ceil(total) and isinstance(cost, int)
    assert cost <= worst_nano_usd(price, prompt, new)


@given(prices, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_worst_case_grows_with_every_token(price: Price, prompt: int, new: int, more: int) -> None:
    here = worst_nano_usd(price, prompt, new)
    assert here <= worst_nano_usd(price, prompt + more, new) and here <= worst_nano_usd(price, prompt, new + more)


def test_reasoning_is_priced_apart_where_a_price_says_so() -> None:
    usage = Usage(prompt_tokens=10, completion_tokens=100, reasoning_tokens=80)
    assert cost_nano_usd(Price(1.0, 2.0), usage) == 10_000 + 200_000
    assert cost_nano_usd(Price(1.0, 2.0, reasoning=8.0), usage) == 10_000 + 20 * 2_000 + 80 * 8_000
    assert worst_nano_usd(Price(1.0, 2.0, reasoning=8.0), 10, 100) == 10_000 + 100 * 8_000
    assert Price(1.0, 2.0, reasoning=8.0).times(0.5) == Price(0.5, 1.0, reasoning=4.0)
