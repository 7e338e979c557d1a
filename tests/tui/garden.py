"""The prepared workspace, made once per process, and copies of it for tests that change something."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from textual.widgets import OptionList, Static

from tests.tui import prepared
from tui.app import LocalDistillApp
from tui.widgets.drawn import Drawn


@cache
def garden() -> Path:
    """A finished run with everything; only to be looked at."""
    root = Path(tempfile.mkdtemp(prefix="garden-")) / "garden"
    prepared.make(root)
    return root


def copied(place: Path) -> Path:
    """A copy that a test may change."""
    root = place / "garden"
    shutil.copytree(garden(), root)
    return root


def text_of(app: LocalDistillApp, selector: str) -> str:
    """What a Static of the screen in front holds, or all rows of a list."""
    found: Any = app.screen.query_one(selector)
    if isinstance(found, OptionList):
        return "\n".join(str(found.get_option_at_index(i).prompt) for i in range(found.option_count))
    if isinstance(found, Drawn):
        return found.text
    assert isinstance(found, Static)
    return str(found.content)
