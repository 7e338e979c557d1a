"""What becomes of a pasted text: it goes to the field that has the focus, as far as that field can hold it. What is
left out is said, and an API key never goes where it could be read."""

from __future__ import annotations

import re
from collections.abc import Callable

from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from localdistill import looks_like_key
from tui.widgets.fields import FREE_TEXT, VARIABLE, hide, masked_of, takes_text

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_PLAIN = re.compile(r"[a-z][a-z_-]{0,24}|[A-Z][A-Z0-9]*_[A-Z0-9_]*"
                    r"|(?:(?:[a-z0-9-]+\.)+[a-z0-9-]+|localhost)(?::\d+)?|https?://\S+")
"""A provider, a variable, a host."""


def fitting(text: str, field: Widget | None, screen: Screen[object], say: Callable[[str], None]) -> str:
    """The part of `text` that `field` takes; empty when it takes nothing. `say` is told what else becomes of it."""
    if not text.strip():
        return ""
    if field is None or not takes_text(field):
        say("nothing here takes a text; the pasted one was left out")
        return ""
    if field.has_class(FREE_TEXT):
        return text
    if isinstance(field, Input) and field.password:
        return _one_line(text, say).strip()
    if _may_be_key(text.strip(), field, screen):
        hide(_one_line(text, say).strip(), screen, say)
        return ""
    return _one_line(text, say) if isinstance(field, Input) else text


def _may_be_key(text: str, field: Widget, screen: Screen[object]) -> bool:
    """Where a key is asked for, everything may be one that is not surely something else."""
    if field.has_class(VARIABLE) and not _VARIABLE.fullmatch(text):
        return True
    return looks_like_key(text) or (masked_of(screen) is not None and not _PLAIN.fullmatch(text))


def _one_line(text: str, say: Callable[[str], None]) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        say(f"this field holds one line: the first of {len(lines)} was taken")
    return lines[0]
