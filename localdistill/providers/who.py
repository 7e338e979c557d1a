"""Who answers behind an engine: its hosts, keys, whether it costs, and the terms that it knows itself. Money, keys and
terms of use hang on the answer, and it fails closed: an engine that says nothing is a stranger's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.providers.files import Terms
from localdistill.providers.hosts import host_of


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
    terms: Terms | None = None
    """The terms of use of those hosts that no provider's file knows, where the engine knows them itself, with the
    document that states them. None: nobody knows them."""


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
