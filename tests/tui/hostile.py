"""Texts that try to steer a terminal, and what must never come out of a screen."""

from __future__ import annotations

import re

from textual.app import App
from textual.strip import Strip

HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ \x9b31m \x9d0;x\x9c "
    "\u202eright to left\u2066isolate\u200bzero \x00\x08\x0e\x7f [red]markup[/red] [@click=app.quit]run[/] "
    "[link=http://evil]go[/link] \r\nline two\tafter a tab \ud83d {{x}} %s \u2028 end"
)
LONG = "x" * 100_000
FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]")


def screen_text(app: App[object]) -> str:
    """Every line of the screen in front, as its strips hold it."""
    strips: list[Strip] = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


def assert_harmless(app: App[object]) -> str:
    """The screen's text; AssertionError when something in it could steer a terminal or is a link or an action."""
    strips: list[Strip] = app.screen._compositor.render_strips()
    for strip in strips:
        found = FORBIDDEN.search(strip.text)
        assert found is None, f"{found!r} in {strip.text!r}"
        for segment in strip:
            style = segment.style
            assert style is None or not style.link
            assert style is None or "@click" not in (style.meta or {}) or "evil" not in str(style.meta)
            assert segment.control is None
    return screen_text(app)
