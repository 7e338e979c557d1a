"""API keys as the terminal UI needs them: listed, kept, forgotten and allowed by the name of a provider or a variable.
What a key may do is decided in `keys`; nothing here gives one back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from localdistill.keys import access as keys

_ISSUED = re.compile(r"(?:sk|gsk|csk|hf|xai|pplx|nvapi|r8|ghp|glpat|fw|tgp)[-_][\w.+/=-]{4,}"
                     r"|AIza[\w-]{8,}")
"""How issuers of keys let them begin."""
_RANDOM = re.compile(r"[A-Za-z0-9]{20,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGEST = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})")
_AROUND = re.compile(r"^(?:export\s+)?[A-Za-z_]\w*\s*=\s*|^(?:authorization:\s*)?bearer\s+", re.IGNORECASE)
_NO_KEY = re.compile(r"[a-z]\w*:.*|(?:/|~/|\./|\.\./).*|.*\.[a-z]{2,5}\d?")
"""A path, an address, a file's name, a digest with its kind."""
_FEWEST_DIGITS = 3


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


def looks_like_key(text: str) -> bool:
    """True for one word that is made like an API key: it begins as issuers let keys begin, or is long and random. So
    that it is not shown where somebody put it by mistake; names of models, files, hosts and digests are none."""
    word = _AROUND.sub("", text.strip()).strip("\"'`; ")
    if not word or any(letter.isspace() for letter in word):
        return False
    if _ISSUED.fullmatch(word) or _UUID.fullmatch(word):
        return True
    if _NO_KEY.fullmatch(word):
        return False
    return any(sum(letter.isdigit() for letter in run) >= _FEWEST_DIGITS and any(letter.isalpha() for letter in run)
               and not _DIGEST.fullmatch(run) for run in _RANDOM.findall(word))


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
