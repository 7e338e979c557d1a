"""The command palette's list: what can be done on the screen in front, and everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.commands import Command
from tui.ui import ui_of


class Palette(Provider):
    """The actions of the app and of the screen in front."""

    @property
    def _commands(self) -> list[tuple[Command, Callable[[], Awaitable[None]]]]:
        ui = ui_of(self.screen)
        return [(command, partial(ui.perform, command)) for command in ui.commands_now()]

    async def discover(self) -> Hits:
        """Everything, before anything is typed."""
        for command, callback in self._commands:
            yield DiscoveryHit(command.title, callback, help=_help(command))

    async def search(self, query: str) -> Hits:
        """What matches."""
        matcher = self.matcher(query)
        for command, callback in self._commands:
            if (score := matcher.match(command.title)) > 0:
                yield Hit(score, matcher.highlight(command.title), callback, help=_help(command))


def _help(command: Command) -> str:
    parts = (command.help, f"({command.key})" if command.key else "",
             f"localdistill {command.twin}" if command.twin else "")
    return "  ·  ".join(filter(None, parts))
