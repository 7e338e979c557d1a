"""A conversation, newest at the bottom: questions, folded thinking, answers. Only what changed is drawn again, and the
end is followed until somebody scrolls up."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui.conversation import Turn
from tui.text import joined, safe, shown


class ChatLog(VerticalScroll):
    """The turns of one conversation."""

    DEFAULT_CSS = """
    ChatLog { height: 1fr; }
    ChatLog > Static { height: auto; margin-bottom: 1; }
    """

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._drawn: list[tuple[Turn, bool]] = []

    def on_mount(self) -> None:
        """Follow the end."""
        self.anchor()

    def show(self, turns: Sequence[Turn], unfolded: bool, nothing: Content) -> None:
        """Draw the turns; `nothing` where there are none."""
        wanted = [(turn, unfolded) for turn in turns]
        rows = list(self.query(Static).results(Static))
        for index, item in enumerate(wanted):
            if index >= len(rows):
                self.mount(Static(_turn(*item)))
            elif index >= len(self._drawn) or self._drawn[index] != item:
                rows[index].update(_turn(*item))
        for row in rows[max(1, len(wanted)):]:
            row.remove()
        if not wanted and rows:
            rows[0].update(nothing)
        elif not wanted:
            self.mount(Static(joined(nothing)))
        self._drawn = wanted


def _turn(turn: Turn, unfolded: bool) -> Content:
    """One turn as text."""
    parts = [shown("you  ", "bold $primary"), shown(turn.question, "bold"), Content("\n")]
    if turn.thinking:
        parts += _thinking(turn, unfolded)
    if turn.answer:
        parts.append(shown(turn.answer.strip() + "\n"))
    return joined(*parts, *_state(turn))


def _thinking(turn: Turn, unfolded: bool) -> list[Content]:
    words = len(turn.thinking.split())
    verb = "thinking" if turn.is_open and not turn.answer else "thought"
    if not unfolded:
        return [shown(f"▸ {verb}, {words:,} words\n", "$foreground-muted")]
    lines = safe(turn.thinking.strip()).split("\n")
    return [shown(f"▾ {verb}, {words:,} words\n", "$foreground-muted"),
            shown("".join(f"│ {text}\n" for text in lines), "$foreground-muted")]


def _state(turn: Turn) -> list[Content]:
    if turn.state == "loading":
        return [shown("loading the model ...", "$foreground-muted")]
    if turn.state == "failed":
        hint = [shown(f"\nnext: {turn.hint}")] if turn.hint else []
        return [shown(f"✗ {turn.ending}", "bold $error"), *hint]
    about = "about " if turn.is_open else ""
    told = [turn.ending] if turn.ending else []
    if turn.tokens:
        told.append(f"{about}{turn.tokens:,} tokens")
    if turn.rate:
        told.append(f"{about}{turn.rate:,.0f}/s")
    return [shown(("writing  " if turn.is_open else "") + " · ".join(told), "$foreground-muted")]
