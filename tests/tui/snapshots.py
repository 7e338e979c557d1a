"""Pictures of screens that are the same on every machine: facts that differ between machines are replaced where all
foreign text passes, nothing moves, and the picture is taken only when no work is left.

To accept new pictures: python -m pytest tests/tui/test_snapshots.py --snapshot-update
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual.pilot import Pilot

import tui.text
from localdistill import display_safe
from tui.app import LocalDistillApp
from tui.widgets.log import SaidLog

Steps = Callable[[Pilot[None]], Awaitable[None]]
SIZES = ((80, 24), (140, 45))
FOLDER = "/home/ada/garden"
_FACTS: tuple[tuple[str, Callable[[re.Match[str]], str] | str], ...] = (
    (r"\b[0-9a-f]{12,64}\b", lambda match: ("0123456789abcdef" * 4)[: len(match[0])]),
    (r"\b\d+ (logical |physical )?cores?\b", "8 cores"),
    (r"\b\d[\d.,]* ([GM]B)( of memory| of disk)? (free|are free|is free)", r"31.4 \1\2 \3"),
    (r"\b\d[\d.,]* ([GM]B) of (\d[\d.,]*) ([GM]B)", r"1.5 \1 of 31.4 \3"),
    (r"\bno (NVIDIA )?GPU seen|NVIDIA [^,(]+ \([^)]*\)", "no NVIDIA GPU seen"),
    (r"\b20\d\d-\d\d-\d\d( |T)\d\d:\d\d", r"2026-09-21\g<1>14:13"),
    (r"\b\d+ (s|min|h|days?) ago\b", r"5 \1 ago"),
)


def masked(root: Path) -> Callable[[str], str]:
    """`display_safe` with the facts of this machine replaced by fixed ones."""
    def safe(text: str) -> str:
        text = display_safe(text).replace(str(root), FOLDER)
        for pattern, fixed in _FACTS:
            text = re.sub(pattern, fixed, text)
        return text

    return safe


@dataclass(frozen=True)
class Scene:
    """One picture: a screen, what is pressed on it, and what else is done."""

    name: str
    screen: str
    press: Sequence[str] = ()
    steps: Steps | None = None
    sizes: Sequence[tuple[int, int]] = SIZES
    workspace: str = "finished"
    """`finished`, `collecting` or `empty`."""


async def calm(pilot: Pilot[None], quiet_s: float = 0.4, timeout_s: float = 20.0) -> None:
    """Wait until no short work is under way and the picture has not changed for a while."""
    deadline, before, since = time.monotonic() + timeout_s, "", time.monotonic()
    while time.monotonic() < deadline:
        await pilot.pause(0.05)
        busy = [w for w in pilot.app.workers if not w.is_finished and w.group not in ("workspace", "follow")]
        strips = pilot.app.screen._compositor.render_strips()
        now = "\n".join(strip.text for strip in strips)
        if busy or now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since >= quiet_s:
            return
    raise AssertionError("the screen did not come to rest")


def opened(scene: Scene, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LocalDistillApp, Steps]:
    """The app for a scene, and what has to be done with it before the picture."""
    monkeypatch.setattr(tui.text, "display_safe", masked(root))
    monkeypatch.setenv("LOCALDISTILL_CONFIG", str(root / "no-config"))
    for name in ("NO_COLOR", *(name for name in os.environ if name.endswith("_API_KEY"))):
        monkeypatch.delenv(name, raising=False)
    app = LocalDistillApp(root, start=scene.screen)
    app.animation_level = "none"

    async def before(pilot: Pilot[None]) -> None:
        await calm(pilot)
        for key in scene.press:
            await pilot.press(key)
            await calm(pilot, 0.15)
        if scene.steps is not None:
            await scene.steps(pilot)
        for line in app.screen.query("Input"):
            line.cursor_blink = False  # type: ignore[attr-defined]
        await calm(pilot)
        for log in app.screen.query(SaidLog):
            log.scroll_end(animate=False, immediate=True)
        await calm(pilot)

    return app, before
