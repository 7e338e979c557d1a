"""Every screen at 80x24 and 140x45, compared with accepted pictures.

To accept new pictures, after looking at them: python -m pytest tests/tui/test_snapshots.py --snapshot-update
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui import prepared
from tests.tui.snapshots import Scene, opened
from tui.conversation import ChatExchange, Conversation
from tui.menu import MENU


async def _conversed(pilot: Pilot[None]) -> None:
    """Two conversations that are over; no model is asked for a picture."""
    page: Any = pilot.app.screen
    question = "Ada has 3 apples and picks 2 more. How many apples has Ada now?"
    thought = "Ada begins with 3 apples.\nThen 2 come along: 3 + 2 = 5.\nSo there are 5."
    student, teacher = page._conversations[0], Conversation(Path("/models/teacher.gguf"), "teacher of garden-1")
    student.exchanges = (
        ChatExchange(question, thought, "The answer is 5.", "done", tokens=42, seconds=0.5),
        ChatExchange("And with 4 more?", "", "The answer", "done", "stopped", tokens=2, seconds=0.1))
    teacher.exchanges = (
        ChatExchange(question, thought, "The answer is 5.", "done", tokens=58, seconds=1.0),
        ChatExchange("And with 4 more?", "", "", "failed", "the prompt has 6,050 tokens; the context holds 1,024",
                 "shorten the conversation or raise context_tokens"))
    page._conversations.append(teacher)
    page._draw()
    page.query_one("#line", Input).blur()


SCENES = (
    Scene("home", "home"),
    Scene("home-empty", "home", workspace="empty"),
    Scene("collect-living", "collect", workspace="collecting"),
    Scene("traces", "traces"),
    Scene("select", "select"),
    Scene("formats", "formats"),
    Scene("train", "train"),
    Scene("evaluate", "evaluate"),
    Scene("export", "export"),
    Scene("export-empty", "export", workspace="empty"),
    Scene("chat", "chat", steps=_conversed),
    Scene("chat-unfolded", "chat", ("ctrl+t",), _conversed),
    Scene("runs", "runs"),
    Scene("recipe", "recipe"),
    Scene("teachers", "teachers"),
    Scene("help", "home", ("f1",)),
    Scene("palette", "home", ("colon",)),
)
CASES = [pytest.param(scene, size, id=f"{scene.name}-{size[0]}x{size[1]}")
         for scene in SCENES for size in scene.sizes]


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A finished run, one that collects, and an empty folder; all three are called `garden`."""
    roots = {name: tmp_path_factory.mktemp(name) / "garden" for name in ("finished", "collecting", "empty")}
    roots["empty"].mkdir()
    prepared.make(roots["finished"])
    with prepared.collecting(roots["collecting"]):
        yield roots


@pytest.fixture
def in_utc() -> Iterator[None]:
    """Times of day are those of UTC, and afterwards those of the machine again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.slow
@pytest.mark.usefixtures("in_utc")
@pytest.mark.parametrize(("scene", "size"), CASES)
def test_picture(scene: Scene, size: tuple[int, int], workspaces: dict[str, Path], snap_compare: Any,
                 monkeypatch: pytest.MonkeyPatch) -> None:
    app, before = opened(scene, workspaces[scene.workspace], monkeypatch)
    assert snap_compare(app, terminal_size=size, run_before=before)


def test_every_screen_has_a_picture() -> None:
    assert {entry.name for entry in MENU} <= {scene.screen for scene in SCENES}
