"""How far the present work is: what is done, a bar, the pace, and when it will be over."""

from __future__ import annotations

from textual.content import Content

from tui.state import RunView
from tui.text import joined, line, shown
from tui.widgets.drawn import Drawn

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float, width: int, track: str = " ") -> str:
    """`width` cells, filled to `share` in steps of an eighth; `track` shows what is left where colours may not."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[part] if part else "")).ljust(width, track)


TRACK = "─"


def counter(name: str, value: float) -> str:
    """One counter of a work as people read it: `$0.0182`, `3 errors`, `0.567 loss`, `2,049 tokens/s`."""
    if name == "usd":
        return f"${value:,.4f}"
    figure = f"{value:,.0f}" if value % 1 == 0 or abs(value) >= 100 else f"{value:.3g}"
    return f"{figure} {line(name).replace('_per_s', '/s').replace('_', ' ')}"


def duration(seconds: float) -> str:
    """`42 s`, `3:07 min` or `2:05 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


class ShareBar(Drawn):
    """A share of the whole, as long as there is room, and in per cent."""

    _share = 0.0

    def show(self, share: float) -> None:
        """Draw `share`, 0 to 1."""
        if self._share != share:
            self._share = share
            self.redraw()

    def drawn(self, width: int) -> Content:
        """One line."""
        return joined(shown(bar(self._share, max(10, width - 7), TRACK), "$primary on $panel"),
                      shown(f" {100 * self._share:>4.0f} %", "bold"))


class WorkLine(Drawn):
    """The work of one run, on one or two lines."""

    _view: RunView | None = None

    def show(self, view: RunView) -> None:
        """Draw what `view` says."""
        self._view = view
        self.redraw()

    def drawn(self, width: int) -> Content:
        """What is done, a bar, the pace, what is left."""
        view = self._view
        if view is None:
            return Content("")
        if not view.is_alive:
            took = f" after {duration(view.elapsed_s)}" if view.elapsed_s else ""
            return shown(f"{line(view.run_id)} is {line(view.state)}{took}", "$foreground-muted")
        parts = [shown(f"{line(view.stage)}: {line(view.label)}  ", "bold")]
        if view.total:
            parts += [shown(bar(view.done / view.total, max(8, min(40, width - 44)), TRACK), "$primary on $panel"),
                      shown(f" {view.done:,.0f}/{view.total:,.0f} {line(view.unit)}")]
        if view.rate:
            parts.append(shown(f"  {view.rate:,.1f}/s", "$foreground-muted"))
        if view.remaining_s is not None:
            parts.append(shown(f"  {duration(view.remaining_s)} left", "$foreground-muted"))
        for name, value in view.counters.items():
            if value:
                style = "$error" if name == "errors" else "$foreground-muted"
                parts.append(shown(f"  {counter(name, value)}", style))
        return joined(*parts)
