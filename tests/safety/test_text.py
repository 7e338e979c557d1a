from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localdistill.safety.text import display_safe


@pytest.mark.parametrize("hostile", [
    "\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m", "\x9d0;title\x9c", "\x00", "\x7f", "a\rb", "\x08\x08",
    "\u202eevil", "\u2066x\u2069", "zero\u200bwidth", "\u200d", "\ufeffbom", "\ud800", "\u2028", "\U000e0041tag",
])
def test_hostile_characters_become_visible(hostile: str) -> None:
    shown = display_safe(hostile)
    assert shown != hostile
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in shown)
    shown.encode("utf-8")


def test_text_that_is_harmless_stays() -> None:
    text = "Grüße,\n\tΣ x² ≤ 3 → 你好 😀 ```code```"
    assert display_safe(text) == text
    assert display_safe("a\r\nb") == "a\nb"


@given(st.text(st.characters()))
def test_nothing_that_steers_a_terminal_is_left_and_twice_is_once(text: str) -> None:
    shown = display_safe(text)
    assert not any(c not in "\n\t" and (ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000) for c in shown)
    assert display_safe(shown) == shown
