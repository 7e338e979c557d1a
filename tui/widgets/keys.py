"""The line of keys at the bottom: those that work now, with what they do. One widget that redraws itself, because
Textual's own footer makes and styles a widget for every key at each change of focus, which is most of the time that
another screen takes to come."""

from __future__ import annotations

from textual import events
from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from tui.text import joined, line, shown


class Keys(Static):
    """Keys that work now. Where there is no room for all, those that work everywhere stay; F1 lists every key. A click
    on one is a press of it."""

    def __init__(self) -> None:
        super().__init__()
        self._spans: list[tuple[int, int, str]] = []
        """Where each key stands: from column, to column, and what to press."""

    def on_mount(self) -> None:
        """Hear of every change of what keys do."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def on_resize(self) -> None:
        """There may be room for more, or for less."""
        self._draw()

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        at = event.get_content_offset(self)
        for begin, end, key in self._spans:
            if at is not None and begin <= at.x < end:
                self.app.simulate_key(key)

    def _changed(self, screen: Screen[object]) -> None:
        if screen is self.screen and self.is_attached:
            self._draw()

    def _draw(self) -> None:
        own: dict[str, tuple[Binding, bool]] = {}
        everywhere: dict[str, tuple[Binding, bool]] = {}
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show:
                (everywhere if node is self.app else own).setdefault(binding.action, (binding, enabled))
        room = self.size.width - sum(self._width(binding) for binding, _ in everywhere.values())
        parts: list[Content] = []
        self._spans, at = [], 0
        for group in (own, everywhere):
            for binding, enabled in group.values():
                width = self._width(binding)
                if group is own and at + width > room:
                    continue
                self._spans.append((at, at + width - 1, binding.key))
                parts += [shown(self._key_text(binding), "bold $accent" if enabled else "$foreground-muted"),
                          shown(f" {line(binding.description)} ", "" if enabled else "$foreground-muted")]
                at += width
        self.update(joined(*parts), layout=False)

    def _key_text(self, binding: Binding) -> str:
        return line(self.app.get_key_display(binding))

    def _width(self, binding: Binding) -> int:
        return len(self._key_text(binding)) + len(line(binding.description)) + 2
