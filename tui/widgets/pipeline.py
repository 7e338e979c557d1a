"""The chain as one line of stages, each with its state."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from tui.text import joined, line, shown
from tui.widgets.drawn import Drawn

_MARKS = {"done": ("✓", "$success"), "reused": ("✓", "$foreground-muted"), "running": ("▶", "$primary"),
          "waiting": ("·", "$foreground-muted"), "failed": ("✗", "$error"),
          "stopped": ("■", "$warning")}
_ARROW = "  → "


class Pipeline(Drawn):
    """The stages of a run, in order, with a mark for the state of each; `absent` ones are left out. Breaks between
    stages where the screen is narrow."""

    _stages: tuple[tuple[str, str], ...] = ()

    def show(self, stages: Sequence[tuple[str, str]]) -> None:
        """Draw (stage, state) pairs."""
        if self._stages != tuple(stages):
            self._stages = tuple(stages)
            self.redraw()

    def drawn(self, width: int) -> Content:
        """The chain, broken between stages where it is longer than `width`."""
        parts: list[Content] = []
        used = 0
        for name, state in self._stages:
            if state == "absent":
                continue
            mark, style = _MARKS.get(state, ("?", "$warning"))
            text = f"{mark} {line(name)}"
            if parts:
                breaks = used + len(_ARROW) + len(text) > width
                parts.append(shown(f"\n{_ARROW.lstrip()}" if breaks else _ARROW, "$foreground-muted"))
                used = len(_ARROW.lstrip()) if breaks else used + len(_ARROW)
            parts.append(shown(text, f"bold {style}" if state == "running" else style))
            used += len(text)
        return joined(*parts) if parts else shown("no stages", "$foreground-muted")
