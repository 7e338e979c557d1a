"""How far the present work is: what is done, a bar, the pace, and when it will be over."""

from __future__ import annotations

from textual.widgets import Static

from tui.state import RunView
from tui.text import joined, line, shown

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


class ShareBar(Static):
    """A share of the whole, as long as there is room, and in per cent."""

    _share = 0.0

    def show(self, share: float) -> None:
        """Draw `share`, 0 to 1."""
        self._share = share
        self.on_resize()

    def on_resize(self) -> None:
        """Draw it as long as there is room now."""
        drawn = bar(self._share, max(10, self.size.width - 7), TRACK)
        self.update(joined(shown(drawn, "$primary on $panel"), shown(f" {100 * self._share:>4.0f} %", "bold")),
                    layout=False)


class WorkLine(Static):
    """The work of one run, on one or two lines."""

    _view: RunView | None = None

    def show(self, view: RunView) -> None:
        """Draw what `view` says."""
        self._view = view
        self.on_resize()

    def on_resize(self) -> None:
        """Draw it as wide as there is room now."""
        view = self._view
        if view is None:
            return
        if not view.is_alive:
            took = f" after {duration(view.elapsed_s)}" if view.elapsed_s else ""
            self.update(shown(f"{line(view.run_id)} is {line(view.state)}{took}", "$foreground-muted"))
            return
        width = max(8, min(40, self.size.width - 44))
        parts = [shown(f"{line(view.stage)}: {line(view.label)}  ", "bold")]
        if view.total:
            parts += [shown(bar(view.done / view.total, width, TRACK), "$primary on $panel"),
                      shown(f" {view.done:,.0f}/{view.total:,.0f} {line(view.unit)}")]
        if view.rate:
            parts.append(shown(f"  {view.rate:,.1f}/s", "$foreground-muted"))
        if view.remaining_s is not None:
            parts.append(shown(f"  {duration(view.remaining_s)} left", "$foreground-muted"))
        for name, value in view.counters.items():
            if value:
                style = "$error" if name == "errors" else "$foreground-muted"
                parts.append(shown(f"  {counter(name, value)}", style))
        self.update(joined(*parts))
