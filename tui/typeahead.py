"""Type-ahead: keys, clicks and pastes are handled one after the other, each to its end, so that what is typed faster
than the screen follows still reaches what has the focus by then. Textual hands a key to the widget that has the focus
when the key comes in, while the key before it may still be on its way to moving the focus, or to opening a window.

A key that was typed before the window in front could be seen is text for the field of that window, or nothing: it is
never taken for a command."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.message import Message
from textual.screen import Screen

from tui.widgets.fields import BURST_S, takes_text

MOST_ROUNDS = 12
"""Looks at a screen that never comes to rest (a model writes on it) before the next key is handled all the same."""
LOOK_AGAIN_S = 0.05
LINE_ENDS = ("enter", "ctrl+j")
LEAVES = "ctrl+q"
"""Is never kept waiting."""


class Passed(Message):
    """A marker: all that came before it has been handled, by every widget up to the app."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class TypeAhead:
    """What was typed and not handled yet."""

    def __init__(self, app: App[None], route: Callable[[events.Event], Awaitable[None]],
                 dropped: Callable[[], None]) -> None:
        """route: hands an event to what has the focus. dropped: told when a key was left out, once per window."""
        self._app, self._route, self._dropped = app, route, dropped
        self._held: deque[events.Event] = deque()
        self._is_loose = False
        """Text went to a field, and nobody waited for what follows from it."""
        self._marker = 0
        """The number of the newest marker; an older one that comes through late counts for nothing."""
        self._round = 0
        """How many markers were sent for what was handled last; 0 when nothing is waited for."""
        self._origin: DOMNode = app
        self._at: DOMNode = app
        self._place: tuple[object, object] = (None, None)
        self._looks = False
        self._window = 0
        """Counts the windows that came to the front or went."""
        self._is_unseen = False
        self._seen_at = 0.0
        self._painted_at: float | None = 0.0
        """When what is in front was first painted; None until it is."""
        self._closed_one = False
        self._said = False

    def goes_on_after(self, key: events.Key) -> bool:
        """More came behind `key`, too fast for a hand: it stands inside of a text that was pasted or sent."""
        behind = self._held[0] if self._held else None
        return isinstance(behind, events.Key) and behind.time - key.time < BURST_S and (
            behind.is_printable or behind.key in LINE_ENDS)

    async def take(self, event: events.Event) -> None:
        """Handle an event in its turn."""
        if isinstance(event, events.Key) and event.key == LEAVES:
            await self._route(event)
            return
        self._held.append(event)
        await self._go_on()

    async def press(self, key: events.Key) -> None:
        """Handle a key before all that waits: a click was meant as this key."""
        self._held.appendleft(key)
        await self._go_on()

    # ---- windows

    def front_changed(self, screen: Screen[object]) -> None:
        """Another screen is in front. When a window opened or closed, nothing is handled until it can be seen."""
        was_window, self._closed_one = self._closed_one, screen.is_modal
        if not (screen.is_modal or was_window or self._is_unseen):
            return
        self._window += 1
        self._said = False
        self._painted_at = None
        self._is_unseen = screen.call_after_refresh(self._saw, self._window)

    def painted(self) -> None:
        """Something is about to be written to the terminal: from here on it can be answered."""
        if self._painted_at is None:
            self._painted_at = monotonic()

    def _saw(self, window: int) -> None:
        if window == self._window:
            self._is_unseen, self._seen_at = False, self._painted_at or monotonic()
            self._app.call_later(self._go_on)

    def _is_blind(self, event: events.Event) -> bool:
        """It was typed before what is in front could be seen, and is no text for a field of a window that opened."""
        if event.time >= self._seen_at or not isinstance(event, events.Key | events.Paste):
            return False
        return not (self._app.screen.is_modal and takes_text(self._app.focused))

    # ---- one after the other

    async def _go_on(self) -> None:
        while self._held and not self._is_waiting:
            event = self._held[0]
            goes_on = _is_text(event) and takes_text(self._app.focused)
            if self._is_loose and not goes_on and isinstance(event, events.Key | events.MouseDown):
                self._settle()
                return
            self._held.popleft()
            if self._is_blind(event):
                if not self._said:
                    self._said = True
                    self._dropped()
                continue
            self._origin = self._app.focused or self._app.screen
            await self._route(event)
            if goes_on:
                self._is_loose = True
            elif not isinstance(event, events.MouseMove | events.MouseScrollDown | events.MouseScrollUp):
                self._settle()

    @property
    def _is_waiting(self) -> bool:
        return self._is_unseen or self._round > 0

    def _settle(self) -> None:
        """Let nothing else in until what was handled last has had all its consequences."""
        self._round = 0
        self._place = (None, None)
        self._ask()

    def _ask(self) -> None:
        """Send the next marker: twice the way that the key went, for what its handlers sent after it; then behind a
        refresh of what has the focus now."""
        self._round += 1
        self._marker += 1
        if self._round <= 2 and _is_there(self._origin):
            self._at = self._origin
            self._at.post_message(Passed(self._marker))
        else:
            self._at = self._app.focused or self._app.screen
            self._at.call_after_refresh(self._refreshed, self._marker)
        if not self._looks:
            self._looks = True
            self._app.set_timer(LOOK_AGAIN_S, partial(self._look, self._marker))

    def _refreshed(self, marker: int) -> None:
        self._app.call_later(self.passed, marker)

    async def _look(self, marker: int) -> None:
        """A marker that was under way in something that is gone comes back by itself."""
        self._looks = False
        if self._round and marker == self._marker and not _is_there(self._at):
            await self.passed(marker)
        elif self._round:
            self._looks = True
            self._app.set_timer(LOOK_AGAIN_S, partial(self._look, self._marker))

    async def passed(self, marker: int) -> None:
        """A marker came through."""
        if marker != self._marker or not self._round or not self._app.screen_stack:  # the app may be ending
            return
        place = (self._app.screen, self._app.focused)
        is_at_rest = self._round > 2 and place == self._place and not any(
            node.message_queue_size for node in self._app.screen.walk_children(with_self=True))
        self._place = place
        if not is_at_rest and self._round < MOST_ROUNDS:
            self._ask()
            return
        self._round, self._is_loose = 0, False
        await self._go_on()


def _is_text(event: events.Event) -> bool:
    return isinstance(event, events.Paste) or (isinstance(event, events.Key) and event.is_printable)


def _is_there(node: DOMNode) -> bool:
    """Not: it runs. A screen that has just been made will, and what was sent to it waits there."""
    return node.is_attached
