"""API keys as the terminal UI needs them: listed, kept, forgotten and allowed by the name of a provider or a variable.
What a key may do is decided in `keys`; nothing here gives one back."""

from __future__ import annotations

from dataclasses import dataclass

from localdistill.keys import access as keys


@dataclass(frozen=True)
class KeyLine:
    """One key or one approval in a listing; never the key."""

    name: str
    """The environment variable's name."""
    host: str
    source: str
    """`environment`, `keyring`, `file`, or `approved`: the user's word that the variable may go to the host."""


def list_keys() -> list[KeyLine]:
    """What `localdistill keys list` prints. LocalDistillError when the user's file is open to others or damaged."""
    found = [KeyLine(entry.name, entry.host, entry.source) for entry in keys.entries()]
    return found + [KeyLine(given.name, given.host, "approved") for given in keys.approvals()]


def key_target(name: str, host: str = "") -> tuple[str, str]:
    """The variable and the host that a key for `name` (a provider or a variable) is for. UsageError when unclear."""
    return keys.target_of(name, host)


def keep_key(name: str, text: str, host: str = "") -> KeyLine:
    """Keep the key `text` for `name`: in the system's keyring where it works, else in the user's file. UsageError when
    it cannot be a key; no message repeats it."""
    variable, where = keys.target_of(name, host)
    entry = keys.store_key(keys.Key(text, variable, where, "file"))
    return KeyLine(entry.name, entry.host, entry.source)


def forget_key(name: str, host: str = "") -> list[KeyLine]:
    """Forget what is kept for `name`, and the approvals. UsageError when there is nothing."""
    gone = keys.remove_key(keys.variable_of(name), host)
    return [KeyLine(entry.name, entry.host, entry.source) for entry in gone]


def allow_key(variable: str, host: str) -> KeyLine:
    """Approve that the environment variable is sent to `host`."""
    given = keys.allow(variable, host)
    return KeyLine(given.name, given.host, "approved")
