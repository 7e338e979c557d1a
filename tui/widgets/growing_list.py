"""A list that may be very long: its beginning is laid out, and more of it whenever somebody comes to the last line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.text import shown

STEP = 200
"""Entries that are laid out at once."""


class GrowingList(OptionList):
    """Entries with names."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._names: Sequence[str] = ()
        self._draw: Callable[[int], Content] = lambda place: Content("")
        self._laid_out = STEP

    def fill(self, names: Sequence[str], draw: Callable[[int], Content], chosen: str) -> None:
        """Show the entries `names`; `draw(place)` is what one looks like. The cursor goes to the one named `chosen`,
        else to the first."""
        self._names, self._draw = names, draw
        cursor = names.index(chosen) if chosen in names else 0
        self._laid_out = max(self._laid_out, cursor + STEP)
        self._lay_out(cursor)

    def _lay_out(self, cursor: int) -> None:
        options = [Option(self._entry(place), id=name) for place, name in enumerate(self._names[: self._laid_out])]
        if left := len(self._names) - len(options):
            options.append(Option(shown(f"  {left:,} more", "$foreground-muted")))
        self.clear_options()
        self.add_options(options)
        self.highlighted = cursor if options else None

    def _entry(self, place: int) -> Content:
        return self._draw(place)

    def watch_highlighted(self, highlighted: int | None) -> None:
        """The line behind the last entry makes place for more of them, and is the first of these."""
        if highlighted is not None and self._laid_out == highlighted < len(self._names):
            self._laid_out += STEP
            self._lay_out(highlighted)
            return
        super().watch_highlighted(highlighted)

    @property
    def chosen(self) -> str:
        """The name of the entry under the cursor; empty when there is none."""
        place = self.highlighted
        return self._names[place] if place is not None and place < len(self._names) else ""
