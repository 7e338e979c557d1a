"""Which host an address means, and whether that is this machine. Keys, money and terms of use hang on the answers, so
they are given in one place and fail closed: what cannot be read is no host, and no name but `localhost` is this
machine."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit


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
