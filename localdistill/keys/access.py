"""Finds the key for a host: in the environment, the keyring or the user's file, if that host may have it.

A key is bound to its host. A stored key is returned for the host it was stored with; an environment variable that a
provider's file names, for that provider's hosts; any other, for this machine; and each for hosts that the user
approved. So a recipe with a foreign `base_url` gets no key. A key is never an argument, a log line or part of an
error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from localdistill.core.errors import LocalDistillError, UsageError, nearest
from localdistill.keys.storage import (
    CONFIG_ENV,
    Approval,
    Key,
    Source,
    StoredKey,
    exclusive,
    keyring_get,
    keyring_remove,
    keyring_set,
    keys_path,
    read_keys,
    write_keys,
)
from localdistill.providers import Provider, host_of, is_loopback, provider, provider_names
from localdistill.safety.children import given_secrets, hold_back
from localdistill.safety.secrets import know

__all__ = [
    "CONFIG_ENV", "Approval", "Key", "KeyEntry", "allow", "approvals", "entries", "find_key", "keys_path",
    "know_keys", "may_go_to", "remove_key", "store_key", "target_of", "variable_of",
]

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class KeyEntry:
    """What may be shown of a key: everything but the key."""

    name: str
    """The environment variable's name."""
    host: str
    source: Source


def find_key(env_name: str, host: str) -> Key | None:
    """The key called `env_name` for `host`, or None when there is none: the environment variable, else the system's
    keyring, else the user's file.

    UsageError when the variable is set, may not go to `host`, and no key is stored for it; the hint is the command
    that approves.
    """
    host = host_of(host)
    if not env_name or not host:
        return None
    hold_back(env_name)
    found = Key(os.environ.get(env_name, ""), env_name, host, "environment")
    if not found.is_empty and may_go_to(env_name, host):
        return _checked(found)
    stored = _stored_key(env_name, host)
    if stored is None and not found.is_empty:
        raise UsageError(
            f"the key in {env_name} is not sent to {host}: it belongs to {_belongs_to(env_name)}",
            f"if {host} may have it: localdistill keys allow {env_name} {host}",
        )
    return stored


def know_keys(env_names: Iterable[str]) -> None:
    """From now on texts are freed of the keys with these names, for whatever host: those that this process was given,
    and those that are stored. Where the stored ones cannot be read, nobody else could read them either."""
    for secret in given_secrets():
        know(secret)
    wanted = set(env_names)
    with contextlib.suppress(LocalDistillError):
        for kept in read_keys().keys:
            key = (kept.key or keyring_get(kept.name, kept.host)) if kept.name in wanted else None
            if key is not None and key.is_sendable:
                know(key.reveal())


def may_go_to(env_name: str, host: str) -> bool:
    """True when the environment variable `env_name` may be sent to `host`."""
    host = host_of(host)
    if not host:
        return False
    owners = _owners(env_name)
    if owners:
        own = any(host in owner.hosts or (owner.is_local and is_loopback(host)) for owner in owners)
    else:
        own = is_loopback(host)
    return own or Approval(env_name, host) in approvals()


def variable_of(name: str) -> str:
    """The environment variable that a person means by the name of a provider or of the variable itself.

    UsageError never repeats `name`, which may be a key typed in the wrong place.
    """
    known = provider_names()
    if name in known:
        variable = provider(name).api_key_env
        if not variable:
            raise UsageError(f"{name} needs no key", "give the name of an environment variable instead")
        return variable
    if _VARIABLE.fullmatch(name):
        return name
    raise UsageError(
        f"this is neither a provider nor the name of an environment variable{nearest(name, known)}",
        f"providers: {', '.join(known)}. The key itself is asked for, never given on the command line",
    )


def target_of(name: str, host: str = "") -> tuple[str, str]:
    """The variable and the host that a person means by `name` (a provider or a variable) and, if given, `host`."""
    variable = variable_of(name)
    if host and not host_of(host):
        raise UsageError("--host: is not a host", "example: --host api.example.com")
    owner = provider(name) if name in provider_names() else next(iter(_owners(variable)), None)
    where = host_of(host) or (owner.hosts[0] if owner else "")
    if not where:
        raise UsageError(f"{variable}: which host may have this key?", f"localdistill keys set {variable} --host HOST")
    return variable, where


def store_key(key: Key) -> KeyEntry:
    """Keep `key` for its name and host: in the system's keyring where it works, else in the user's file."""
    _checked(key)
    with exclusive():
        content = read_keys()
        others = tuple(kept for kept in content.keys if (kept.name, kept.host) != (key.name, key.host))
        if keyring_set(key):
            kept = StoredKey(key.name, key.host, "keyring")
        else:
            kept = StoredKey(key.name, key.host, "file", key)
        write_keys(dataclasses.replace(content, keys=(*others, kept)))
    return _entry(kept)


def remove_key(env_name: str, host: str = "") -> list[KeyEntry]:
    """Forget the stored keys called `env_name`, of one host or of all, and the approvals; returns the keys' entries.
    UsageError when nothing of that name is stored."""
    host = host_of(host)

    def goes(row: StoredKey | Approval) -> bool:
        return row.name == env_name and (not host or row.host == host)

    with exclusive():
        content = read_keys()
        gone = [kept for kept in content.keys if goes(kept)]
        approved = tuple(given for given in content.approvals if not goes(given))
        if not gone and len(approved) == len(content.approvals):
            known = {kept.name for kept in content.keys}
            raise UsageError(f"no such key is stored{nearest(env_name, known)}", "`localdistill keys list` shows all")
        for kept in gone:
            if kept.source == "keyring":
                keyring_remove(kept.name, kept.host)
        left = tuple(kept for kept in content.keys if not goes(kept))
        write_keys(dataclasses.replace(content, keys=left, approvals=approved))
    return [_entry(kept) for kept in gone]


def allow(env_name: str, host: str) -> Approval:
    """Approve that the environment variable `env_name` is sent to `host`."""
    if not _VARIABLE.fullmatch(env_name):
        raise UsageError(
            "the first word is the name of an environment variable, in capitals",
            "localdistill keys allow MY_KEY api.example.com",
        )
    given = Approval(env_name, host_of(host))
    if not given.host:
        raise UsageError("the second word is a host", f"localdistill keys allow {env_name} api.example.com")
    with exclusive():
        content = read_keys()
        if given not in content.approvals:
            write_keys(dataclasses.replace(content, approvals=(*content.approvals, given)))
    return given


def entries() -> list[KeyEntry]:
    """All keys that would be found, without the keys: stored ones, and set variables that providers name."""
    found = {_entry(kept) for kept in read_keys().keys}
    for name in provider_names():
        known = provider(name)
        if known.api_key_env and os.environ.get(known.api_key_env, "").strip():
            found.add(KeyEntry(known.api_key_env, known.hosts[0], "environment"))
    return sorted(found, key=lambda entry: (entry.name, entry.host, entry.source))


def approvals() -> tuple[Approval, ...]:
    """What the user approved."""
    return read_keys().approvals


def _owners(env_name: str) -> list[Provider]:
    """The providers whose files name this variable."""
    return [known for name in provider_names() if (known := provider(name)).api_key_env == env_name]


def _belongs_to(env_name: str) -> str:
    hosts = dict.fromkeys(host for owner in _owners(env_name) for host in owner.hosts)
    return ", ".join(hosts) or "no provider that is known, so only this machine may have it"


def _checked(key: Key) -> Key:
    """The key, unless it could not stand in a header; the message does not repeat it."""
    if not key.is_sendable:
        where = f"the environment variable {key.name}" if key.source == "environment" else f"the key {key.name}"
        raise UsageError(
            f"{where} is empty, or holds spaces, line breaks or letters that no key has",
            "copy the key again, without quotes",
        )
    know(key.reveal())
    return key


def _stored_key(name: str, host: str) -> Key | None:
    kept = next((kept for kept in read_keys().keys if (kept.name, kept.host) == (name, host)), None)
    if kept is None:
        return None
    key = kept.key or keyring_get(name, host)
    return _checked(key) if key is not None else None


def _entry(kept: StoredKey) -> KeyEntry:
    return KeyEntry(kept.name, kept.host, kept.source)
