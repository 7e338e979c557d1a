"""Every text that was not written in this package comes to the screen through this file: control characters made
visible, markup never read, lengths bounded."""

from __future__ import annotations

from textual.content import Content

from localdistill import display_safe

LONGEST = 200_000
"""Characters shown of one text; a longer one ends with how much is missing."""


def safe(text: object, longest: int = LONGEST) -> str:
    """`text` without anything that could steer a terminal."""
    whole = str(text)
    cut = whole[:longest]
    more = f" … ({len(whole) - longest:,} characters more)" if len(whole) > longest else ""
    return str(display_safe(cut)) + more


def shown(text: object, style: str = "", longest: int = LONGEST) -> Content:
    """`text` for a widget: safe, in one style, no markup read."""
    return Content.styled(safe(text, longest), style) if style else Content(safe(text, longest))


def line(text: object, longest: int = 400) -> str:
    """`text` as one short safe line, for tables and titles."""
    return " ".join(safe(str(text)[: longest * 4], longest).split())


def fitted(text: object, width: int) -> str:
    """`text` as one line of at most `width` characters, cut with `…`."""
    whole = line(text, 4 * max(1, width))
    return whole if len(whole) <= width else whole[:max(0, width - 1)] + "…"


def joined(*parts: Content | str) -> Content:
    """Parts one after the other; strings are made safe."""
    return Content("").join([part if isinstance(part, Content) else shown(part) for part in parts])
