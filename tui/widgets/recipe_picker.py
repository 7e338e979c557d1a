"""Recipes to choose from: the files of a folder, then what ships, and the text of the one under the cursor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localdistill import RecipeDraft, shipped_recipes
from tui.text import line, shown
from tui.ui import Ui, ui_of
from tui.widgets.facts import MUTED
from tui.widgets.toml_pane import toml

NO_RECIPES = ("localdistill.toml", "tui.toml", "pyproject.toml")


@dataclass(frozen=True)
class Found:
    """The recipes there are."""

    own: tuple[Path, ...]
    shipped: tuple[Path, ...]


def recipes_of(root: Path) -> Found:
    """The recipes of a folder, and what ships."""
    own = sorted(path for path in root.glob("*.toml") if path.name not in NO_RECIPES)
    return Found(tuple(own), tuple(shipped_recipes()))


class RecipePicker(Horizontal):
    """The list and a preview."""

    DEFAULT_CSS = """
    RecipePicker { height: 1fr; }
    RecipePicker OptionList { width: 34; max-width: 40%; }
    RecipePicker #preview { padding: 0 1; scrollbar-size-vertical: 1; }
    """

    class Picked(Message):
        """Somebody took a recipe."""

        def __init__(self, path: Path, is_shipped: bool) -> None:
            super().__init__()
            self.path, self.is_shipped = path, is_shipped

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._found = Found((), ())

    @property
    def ui(self) -> Ui:
        """The app."""
        return ui_of(self)

    def compose(self) -> Iterable[Widget]:
        """List left, preview right."""
        yield OptionList(id="recipe-list", markup=False)
        with VerticalScroll(id="preview"):
            yield Static(shown("looking for recipes ...", MUTED), id="preview-text")

    def look(self) -> None:
        """Read what is there now."""
        root = self.ui.workspace.root
        self.ui.jobs.do(lambda: recipes_of(root), self._show, group="recipes")

    def _show(self, found: Found) -> None:
        self._found = found
        listing = self.query_one(OptionList)
        before = self.chosen
        listing.clear_options()
        if found.own:
            listing.add_option(Option(shown("in this folder", "bold"), disabled=True))
        listing.add_options([Option(shown(f"  {line(path.name, 60)}"), id=str(path)) for path in found.own])
        listing.add_option(Option(shown("shipped: copied, then changed", "bold"), disabled=True))
        listing.add_options([Option(shown(f"  {line(path.stem, 60)}"), id=str(path)) for path in found.shipped])
        ids = [option.id for option in listing.options]
        listing.highlighted = ids.index(str(before)) if str(before) in ids else 1

    @property
    def chosen(self) -> Path | None:
        """The recipe under the cursor."""
        listing = self.query_one(OptionList)
        place = listing.highlighted
        option = listing.get_option_at_index(place) if place is not None and place < listing.option_count else None
        return Path(option.id) if option is not None and option.id else None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Preview it."""
        event.stop()
        if event.option_id:
            path = Path(event.option_id)
            self.ui.jobs.do(lambda: RecipeDraft.open(path).text, self._preview, group="preview",
                            failed=lambda error: self._preview(error.message))

    def _preview(self, text: str) -> None:
        self.query_one("#preview-text", Static).update(toml(text))
        self.query_one("#preview").scroll_home(animate=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Tell who took it."""
        event.stop()
        if event.option_id:
            path = Path(event.option_id)
            self.post_message(self.Picked(path, path in self._found.shipped))
