"""Everything that can be done, as a table: what the palette lists, which key it has, and which command of the command
line does the same. Screens add their own actions; nothing can be done that is not here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One action."""

    id: str
    """For `tui.toml`, for example `run.cancel`."""
    title: str
    """`verb: object`, as the palette shows it."""
    twin: str
    """The command of the command line that does the same, for example `runs prune`. Empty only for what moves around
    in the UI itself."""
    action: str
    """Name of the Textual action that does it, for example `screen.cancel_run` or `app.go('home')`."""
    key: str = ""
    """Default key; empty: palette only."""
    help: str = ""
    """One sentence for the palette and F1."""
    in_footer: bool = True
    """Whether the key is shown at the bottom."""
    word: str = ""
    """What the key is called at the bottom; empty: the verb."""

    @property
    def label(self) -> str:
        """The word beside the key at the bottom."""
        return self.word or self.title.partition(":")[0]


def by_id(commands: Iterable[Command]) -> dict[str, Command]:
    """Commands by their id; two with one id are a mistake."""
    found: dict[str, Command] = {}
    for command in commands:
        if command.id in found:
            raise ValueError(f"two actions are called {command.id}")
        found[command.id] = command
    return found
