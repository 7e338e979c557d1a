"""The base of widgets whose picture depends on the columns that there are."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget


class Drawn(Widget):
    """A picture made for a width. Its height and what is seen come from one function, so that nothing is ever seen
    that was drawn for another width, and a new width needs no drawing of its own."""

    DEFAULT_CSS = "Drawn { height: auto; }"

    _made: tuple[int, Content] | None = None
    """The last picture and its width."""

    def drawn(self, width: int) -> Content:
        """The picture in `width` columns."""
        raise NotImplementedError

    def redraw(self) -> None:
        """What is drawn has changed."""
        self._made = None
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Lines at `width` columns."""
        return self._at(width).get_height(self.styles.get_rules(), width) if width else 0

    def render(self) -> Content:
        """The picture in the columns that there are."""
        return self._at(self.content_size.width)

    def _at(self, width: int) -> Content:
        if self._made is None or self._made[0] != width:
            self._made = width, self.drawn(width)
        return self._made[1]

    @property
    def text(self) -> str:
        """What is seen, without colours."""
        return self.render().plain
