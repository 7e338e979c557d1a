"""Known providers and servers, as data: one TOML file each. A fact that ages stands there only with the document that
states it. Nothing here opens a connection or reads a key."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from localdistill.core.errors import LocalDistillError, UsageError, nearest
from localdistill.providers.files import (
    BatchEndpoint,
    PromptLogprobs,
    Provider,
    ProviderModel,
    RateLimits,
    Terms,
    TermsClass,
)
from localdistill.providers.hosts import host_of, is_loopback
from localdistill.providers.who import THIS_MACHINE, Who, stated, unsaid, who_of
from localdistill.spending.prices import NANO_PER_USD, Price, charged_nano_usd, cost_nano_usd, worst_nano_usd

__all__ = [
    "NANO_PER_USD",
    "THIS_MACHINE",
    "BatchEndpoint",
    "Price",
    "PromptLogprobs",
    "Provider",
    "ProviderModel",
    "RateLimits",
    "Terms",
    "TermsClass",
    "Who",
    "charged_nano_usd",
    "cost_nano_usd",
    "host_of",
    "is_loopback",
    "provider",
    "provider_names",
    "provider_of_url",
    "read_provider",
    "stated",
    "unsaid",
    "who_of",
    "worst_nano_usd",
]

_FOLDER = Path(__file__).parent


def read_provider(path: Path) -> Provider:
    """The provider that a file describes; LocalDistillError with the file and every key that is wrong."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        return Provider.model_validate({**data, "name": path.stem})
    except ValidationError as error:
        lines = [f"{path.name}: {'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise LocalDistillError("\n".join(lines), "correct the provider's file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LocalDistillError(f"{path.name}: cannot be read: {error}", "correct the provider's file") from None


@cache
def _known() -> dict[str, Provider]:
    return {path.stem: read_provider(path) for path in sorted(_FOLDER.glob("*.toml"))}


def provider_names() -> list[str]:
    """The names of all known providers, sorted."""
    return list(_known())


def provider(name: str) -> Provider:
    """The provider `name`; UsageError with the nearest name when it is not known."""
    known = _known()
    if name not in known:
        raise UsageError(f"there is no provider '{name}'{nearest(name, known)}", f"known: {', '.join(known)}")
    return known[name]


def provider_of_url(base_url: str) -> Provider | None:
    """The provider whose host `base_url` names, or None. Servers on this machine are never told apart by address."""
    host = host_of(base_url)
    if not host or is_loopback(host):
        return None
    return next((known for known in _known().values() if host in known.hosts), None)
