"""Which host an address means, and whether that is this machine; who answers behind an engine. Keys, money and terms of
use hang on the answers, so they are given in one place and fail closed: what cannot be read is no host, no name but
`localhost` is this machine, and an engine that says nothing is a stranger's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Who:
    """Who answers behind an engine with certain options, as the engine itself says."""

    hosts: tuple[str, ...]
    """Every host that is asked. An empty name: one that nobody stated, which is a stranger's; a host on this machine
    brings no terms. No hosts at all: nobody is asked, all is computed or looked up here."""
    provider: str = ""
    """The provider that the options say is behind it; its terms count beside those of the hosts."""
    key_names: tuple[str, ...] = ()
    """Names of the keys that it looks for."""
    costs: bool = True
    """Answers may cost money; what they cost is unknown until the engine states a price."""


THIS_MACHINE = Who(hosts=(), costs=False)
"""For engines that ask nobody."""


def stated(options: Mapping[str, object], key: str) -> tuple[str, ...]:
    """What the options of an engine and its `endpoints` give for `key`, in order, each once."""
    pool = options.get("endpoints")
    rows = [options, *(pool if isinstance(pool, list | tuple) else ())]
    return tuple(dict.fromkeys(str(row[key]) for row in rows if isinstance(row, Mapping) and row.get(key)))


def unsaid(options: Mapping[str, object]) -> Who:
    """Whom an engine that does not say it is taken to ask: a stranger, and whoever its options seem to name."""
    hosts = (*map(host_of, stated(options, "base_url")), "")
    return Who(hosts, str(options.get("provider") or ""), stated(options, "api_key_env"))


def who_of(engine: Any, options: Mapping[str, object]) -> Who:
    """What the engine class `engine` says of itself with these options, checked or not (see `Engine.who`)."""
    said = getattr(engine, "who", unsaid)(options)
    return said if isinstance(said, Who) else unsaid(options)


@lru_cache(maxsize=256)  # asked about one address for every request
def host_of(address: str) -> str:
    """The host of a URL, of `host:port` or of a bare host, in lower case; an empty string when there is none."""
    text = address.strip()
    if text.count(":") > 1 and "/" not in text and not text.startswith("["):
        text = f"[{text}]"
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        _ = parts.port
        return (parts.hostname or "").lower()
    except ValueError:
        return ""


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """True when `host` is this machine by name or number, without asking a resolver."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
