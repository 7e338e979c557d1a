"""Takes keys that are known out of texts, also where they stand escaped, percent-encoded, in hex or in base64: what a
server echoes, what a library says. What a key that nobody knows looks like stands in `core.secrets`.

A key that was cut up, reversed or encrypted is not found: whoever does that has it already.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import cached_property

from localdistill.core.secrets import HIDDEN, without_keys

SHORTEST = 8
"""Shorter ones are no secrets, and cutting them out of texts would only damage those."""
_MAY_BE_WRITTEN_OTHERWISE = ("%", "\\u00", "\\x", "\\/", "\\-", "\\_", "\\+", "&#")
"""One of them is in every text in which a letter of a key is written otherwise."""
_known: dict[str, Cleaner] = {}


class Cleaner:
    """Takes one key out of texts. It never shows the key."""

    __slots__ = ("__dict__", "__key")

    def __init__(self, key: str) -> None:
        self.__key = key if len(key) >= SHORTEST else ""

    def __repr__(self) -> str:
        return "<cleaner of a key>"

    def clean(self, text: str) -> str:
        """`text` with `HIDDEN` in place of the key, however it is written."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        if self._forms and any(mark in text for mark in _MAY_BE_WRITTEN_OTHERWISE):
            text = self._otherwise.sub(HIDDEN, text)
        return text

    def may_go_on(self, text: str) -> int:
        """How many letters at the end of `text` may be the beginning of the key, which the next piece goes on with."""
        most = max((min(len(form) - 1, len(text)) for form in self._forms), default=0)
        return next((size for size in range(most, 0, -1)
                     if any(form.startswith(text[-size:]) for form in self._forms)), 0)

    @cached_property
    def _forms(self) -> tuple[str, ...]:
        """The key as it is, in hex, and what base64 makes of it wherever it stands in what is encoded."""
        data = self.__key.encode("utf-8", "surrogatepass")
        found = [self.__key, data.hex(), data.hex().upper(), *_in_base64(data)] if data else []
        return tuple(dict.fromkeys(found))

    @cached_property
    def _otherwise(self) -> re.Pattern[str]:
        """Every form with any of its letters escaped (JSON, JavaScript, Markdown), percent-encoded or as an entity."""
        return re.compile("|".join("".join(_letter(letter, place) for place, letter in enumerate(form))
                                   for form in self._forms))


def _letter(letter: str, place: int) -> str:
    """A pattern of the ways in which one letter is written."""
    code = ord(letter)
    before = r"\\*" if place and not letter.isalnum() else ""
    return (rf"(?:{before}{re.escape(letter)}|\\+u(?i:{code:04x})|\\+x(?i:{code:02x})|%(?:25)*(?i:{code:02x})"
            rf"|&#0*{code};|&#[xX]0*(?i:{code:x});)")


def _in_base64(data: bytes) -> Iterator[str]:
    """The letters that are the same whatever stands before and behind `data`: one text for each place in a group of
    three bytes, in both alphabets."""
    for before, begin in ((0, 0), (1, 2), (2, 3)):
        padded = bytes(before) + data
        for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
            yield alphabet(padded).decode()[begin:len(padded) * 8 // 6]


class PieceCleaner:
    """Takes the known keys out of a text that comes in pieces, cut anywhere: what may become a key waits for the next
    piece."""

    def __init__(self) -> None:
        self._rest = ""

    def take(self, piece: str) -> str:
        """What of the text so far can be shown."""
        text = without_secrets(self._rest + piece)
        waiting = max((cleaner.may_go_on(text) for cleaner in list(_known.values())), default=0)
        self._rest = text[len(text) - waiting:]
        return text[:len(text) - waiting]

    def end(self) -> str:
        """What was waiting: no key came of it."""
        rest, self._rest = self._rest, ""
        return rest


def know(key: str) -> Cleaner:
    """From now on `without_secrets` takes this key out of texts; what does so for this key alone."""
    if key not in _known:
        _known[key] = Cleaner(key)
    return _known[key]


def without_secrets(text: str) -> str:
    """`text` without the keys that this process knows, and without what surely is one."""
    for cleaner in list(_known.values()):
        text = cleaner.clean(text)
    return without_keys(text)
