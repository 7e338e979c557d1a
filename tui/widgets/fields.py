"""Fields to type in, and which of them can be read. A key that somebody types or pastes where it could be read goes to
the field of the window in which nothing can be read, or nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Input, TextArea

from localdistill import looks_like_key
from tui.ui import ui_of

FREE_TEXT = "free-text"
"""The class of a field for prose: it takes any text as it is, with its line breaks."""
VARIABLE = "variable"
"""The class of a field for the name of an environment variable, where people put the key itself."""
BURST_S = 0.01
"""Keys that follow each other faster than this were not pressed by a hand."""


def without(bindings: Sequence[BindingType], key: str) -> list[BindingType]:
    """The keys of a field but `key`, which does something else on its screen."""
    return [binding for binding in bindings if not (isinstance(binding, Binding) and key in binding.key)]


def takes_text(node: object) -> bool:
    """What is typed becomes text there."""
    return isinstance(node, Input) or (isinstance(node, TextArea) and not node.read_only)


def masked_of(screen: Screen[object]) -> Input | None:
    """The field of the window in front in which nothing can be read."""
    return next((box for box in screen.query(Input) if box.password), None) if screen.is_modal else None


def hide(key: str, screen: Screen[object], say: Callable[[str], None]) -> None:
    """Put a key where it cannot be read, if the window in front has such a field, else nowhere."""
    masked = masked_of(screen)
    if masked is None:
        say("that looks like an API key: it was not taken, because it could be read here; k on Teachers keeps one")
        return
    masked.value, masked.cursor_position = key, len(key)
    screen.set_focus(masked)
    say("taken as the key, where nothing is shown")


class OpenInput(Input):
    """One line that can be read, and therefore takes no key."""

    _hid_at = float("-inf")

    def on_key(self, event: events.Key) -> None:
        """Look at what the line would hold. The rest of a key that came at once goes where its beginning went."""
        if not event.is_printable or event.character is None:
            return
        if self.screen.focused is not self or event.time - self._hid_at < BURST_S:
            masked = masked_of(self.screen)
            if masked is not None:
                masked.insert_text_at_cursor(event.character)
        else:
            start, end = sorted(self.selection)
            text = self.value[:start] + event.character + self.value[end:]
            if not looks_like_key(text):
                return
            self.clear()
            hide(text, self.screen, ui_of(self).say_aloud)
        self._hid_at = event.time
        event.stop()
        event.prevent_default()
