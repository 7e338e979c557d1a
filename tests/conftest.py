"""What tests of several folders share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from localdistill.keys import CONFIG_ENV


@pytest.fixture
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder of the test's own, no keyring, and no key of the real user."""
    monkeypatch.setenv(CONFIG_ENV, str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "keyring", None)
    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    return tmp_path / "config"
