"""The pictures of README, taken of a finished demo: `python -m tests.tui.pictures WORKSPACE [FOLDER]`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.helpers import REPO
from tests.tui.driving import until
from tests.tui.hostile import screen_text
from tui.app import LocalDistillApp

SIZE = (140, 45)
SCREENS = {"home": "result", "traces": "row 1", "formats": "trained", "train": "loss", "evaluate": "against base",
           "export": "SHA-256"}
"""Screen -> what stands on it once it is whole."""


async def take(workspace: Path, folder: Path) -> None:
    """One picture per screen."""
    for screen, shown in SCREENS.items():
        app = LocalDistillApp(workspace, start=screen)
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda shown=shown, app=app: shown in screen_text(app))  # type: ignore[misc]
            await pilot.pause(1.5)
            app.save_screenshot(f"{screen}.svg", str(folder))


if __name__ == "__main__":
    asyncio.run(take(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else REPO / "docs"))
