"""What API keys look like, so that one is neither shown nor kept where it was put by mistake. Loads next to nothing."""

from __future__ import annotations

import re

HIDDEN = "***"
"""Stands where a key stood."""
_SURE = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|rk|gsk|csk|xai|pplx|nvapi|r8|gh[opsu]|glpat|fw|tgp)[-_](?=[\w-]*\d)(?=[\w-]*?[A-Za-z0-9]{16})[\w-]+"
    r"|hf_[A-Za-z0-9]{16,}|AIza[\w-]{30,}|A[KS]IA[A-Z0-9]{16})(?![A-Za-z0-9])")
"""How issuers of keys let them begin, with more behind it than a word of a language has."""
_ISSUED = re.compile(r"(?:sk|gsk|csk|hf|xai|pplx|nvapi|r8|ghp|glpat|fw|tgp)[-_][\w.+/=-]{4,}"
                     r"|AIza[\w-]{8,}")
"""The same, for a word of which nobody knows that it is anything else."""
_RANDOM = re.compile(r"[A-Za-z0-9]{20,}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGEST = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})")
_AROUND = re.compile(r"^(?:export\s+)?[A-Za-z_]\w*\s*=\s*|^(?:authorization:\s*)?bearer\s+", re.IGNORECASE)
_NO_KEY = re.compile(r"[a-z]\w*:.*|(?:/|~/|\./|\.\./).*|.*\.[a-z]{2,5}\d?")
"""A path, an address, a file's name, a digest with its kind."""
_FEWEST_DIGITS = 3
_PRIVATE = re.compile(r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----")


def is_surely_key(text: str) -> bool:
    """True for one word that begins as issuers let keys begin and is as long as one: no model, file or host is called
    so. For what refuses a name."""
    return _SURE.fullmatch(text.strip()) is not None


def looks_like_key(text: str) -> bool:
    """True for one word that is made like an API key: it begins as issuers let keys begin, or is long and random. So
    that it is not shown where somebody put it by mistake; names of models, files, hosts and digests are none."""
    word = _AROUND.sub("", text.strip()).strip("\"'`; ")
    if not word or any(letter.isspace() for letter in word):
        return False
    if is_surely_key(word) or _ISSUED.fullmatch(word) or _UUID.fullmatch(word):
        return True
    if _NO_KEY.fullmatch(word):
        return False
    return any(sum(letter.isdigit() for letter in run) >= _FEWEST_DIGITS and any(letter.isalpha() for letter in run)
               and not _DIGEST.fullmatch(run) for run in _RANDOM.findall(word))


def without_keys(text: str) -> str:
    """`text` with `HIDDEN` in place of every word that surely is a key."""
    return _SURE.sub(HIDDEN, text)


def keys_in(text: str) -> int:
    """How many words of `text` surely are keys, and how many blocks of private keys begin in it."""
    return sum(1 for _ in _SURE.finditer(text)) + len(_PRIVATE.findall(text))
