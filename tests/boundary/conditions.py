"""What is done to a command before it begins, in its own process: see `running.run(before=...)`."""

from __future__ import annotations

from typing import NoReturn


def interrupt_listing() -> None:
    """Whoever lists runs is interrupted."""
    from localdistill.workspace.run_listing import RunListing

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    RunListing.look = interrupted  # type: ignore[method-assign]
