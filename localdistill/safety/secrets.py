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
_WRITTEN = re.compile(
    r"\\\\*(?:u00([2-7][0-9a-fA-F])|x([2-7][0-9a-fA-F])|([^\w\s\"\\]))|%(?:25)*([2-7][0-9a-fA-F])"
    r"|&#(?:[xX]0*([2-7][0-9a-fA-F])|0*(\d{2,3}));")  # every way begins with a letter of its own: that is quick
"""One visible letter that is escaped (JSON, JavaScript, Markdown), percent-encoded or an entity, also several times."""
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
        return self._cut_out(text) if self._forms and _WRITTEN.search(text) else text

    def _cut_out(self, text: str) -> str:
        """The same where letters of the key may be written otherwise: what they mean is looked through."""
        parts, starts, ends, last = list[str](), list[int](), list[int](), 0
        for found in _WRITTEN.finditer(text):
            before = range(last, found.start())
            parts += [text[last:found.start()], _meant(found)]
            starts += [*before, found.start()]
            ends += [*(place + 1 for place in before), found.end()]
            last = found.end()
        parts.append(text[last:])
        starts += range(last, len(text))
        ends += range(last + 1, len(text) + 1)
        meant = "".join(parts)
        spans = sorted({(starts[place], ends[place + len(form) - 1]) for form in self._forms
                        for place in _places(meant, form)})
        kept, last = list[str](), 0
        for start, end in spans:
            if start >= last:
                kept += [text[last:start], HIDDEN]
            last = max(last, end)
        return "".join([*kept, text[last:]])

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


def _meant(found: re.Match[str]) -> str:
    """The letter that `_WRITTEN` found."""
    escaped, hexadecimal, plain, percent, entity, number = found.groups()
    if plain or number:
        return plain or chr(int(number))
    return chr(int(escaped or hexadecimal or percent or entity, 16))


def _places(text: str, form: str) -> Iterator[int]:
    place = text.find(form)
    while place >= 0:
        yield place
        place = text.find(form, place + len(form))


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
