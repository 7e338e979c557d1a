"""The chain as one line of stages, each with its state."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import Static

from tui.text import joined, line, shown

_MARKS = {"done": ("✓", "$success"), "reused": ("✓", "$foreground-muted"), "running": ("▶", "$primary"),
          "waiting": ("·", "$foreground-muted"), "failed": ("✗", "$error"),
          "stopped": ("■", "$warning")}


class Pipeline(Static):
    """The stages of a run, in order, with a mark for the state of each."""

    def show(self, stages: Sequence[tuple[str, str]]) -> None:
        """Draw (stage, state) pairs; `absent` ones are left out. Wraps where the screen is narrow."""
        parts: list[Content] = []
        for name, state in stages:
            if state == "absent":
                continue
            mark, style = _MARKS.get(state, ("?", "$warning"))
            if parts:
                parts.append(shown("  → ", "$foreground-muted"))
            parts.append(shown(f"{mark}\u00a0{line(name)}", f"bold {style}" if state == "running" else style))
        self.update(joined(*parts) if parts else shown("no stages", "$foreground-muted"))
