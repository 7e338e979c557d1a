"""A conversation, newest at the bottom: questions, folded thinking, answers. Only what changed is drawn again, and the
end is followed until somebody scrolls up."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui.conversation import ChatExchange
from tui.text import joined, safe, shown


class ChatLog(VerticalScroll):
    """The exchanges of one conversation."""

    DEFAULT_CSS = """
    ChatLog { height: 1fr; }
    ChatLog > Static { height: auto; margin-bottom: 1; }
    """

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._drawn: list[tuple[ChatExchange, bool]] = []

    def on_mount(self) -> None:
        """Follow the end."""
        self.anchor()

    def show(self, exchanges: Sequence[ChatExchange], unfolded: bool, nothing: Content) -> None:
        """Draw the exchanges; `nothing` where there are none."""
        wanted = [(exchange, unfolded) for exchange in exchanges]
        rows = list(self.query(Static).results(Static))
        for index, item in enumerate(wanted):
            if index >= len(rows):
                self.mount(Static(_exchange(*item)))
            elif index >= len(self._drawn) or self._drawn[index] != item:
                rows[index].update(_exchange(*item))
        for row in rows[max(1, len(wanted)):]:
            row.remove()
        if not wanted and rows:
            rows[0].update(nothing)
        elif not wanted:
            self.mount(Static(joined(nothing)))
        self._drawn = wanted


def _exchange(exchange: ChatExchange, unfolded: bool) -> Content:
    """One exchange as text."""
    parts = [shown("you  ", "bold $primary"), shown(exchange.question, "bold"), Content("\n")]
    if exchange.thinking:
        parts += _thinking(exchange, unfolded)
    if exchange.answer:
        parts.append(shown(exchange.answer.strip() + "\n"))
    return joined(*parts, *_state(exchange))


def _thinking(exchange: ChatExchange, unfolded: bool) -> list[Content]:
    words = len(exchange.thinking.split())
    verb = "thinking" if exchange.is_open and not exchange.answer else "thought"
    if not unfolded:
        return [shown(f"▸ {verb}, {words:,} words\n", "$foreground-muted")]
    lines = safe(exchange.thinking.strip()).split("\n")
    return [shown(f"▾ {verb}, {words:,} words\n", "$foreground-muted"),
            shown("".join(f"│ {text}\n" for text in lines), "$foreground-muted")]


def _state(exchange: ChatExchange) -> list[Content]:
    if exchange.state == "loading":
        return [shown("loading the model ...", "$foreground-muted")]
    if exchange.state == "failed":
        hint = [shown(f"\nnext: {exchange.hint}")] if exchange.hint else []
        return [shown(f"✗ {exchange.ending}", "bold $error"), *hint]
    about = "about " if exchange.is_open else ""
    told = [exchange.ending] if exchange.ending else []
    if exchange.tokens:
        told.append(f"{about}{exchange.tokens:,} tokens")
    if exchange.rate:
        told.append(f"{about}{exchange.rate:,.0f}/s")
    return [shown(("writing  " if exchange.is_open else "") + " · ".join(told), "$foreground-muted")]
