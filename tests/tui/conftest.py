"""Tests that drive the whole app wait for what a screen shows, and a busy machine can outlast their patience: they
belong to the slow proofs (`make test-all`). What can be tested without a running app stays in the default run, and
what is typed does too: it waits for files and for words, however long they take."""

from __future__ import annotations

from pathlib import Path

import pytest

WITHOUT_AN_APP = {"test_rules", "test_state", "test_charts", "test_progress", "test_recipe_fields"}
IN_THE_DEFAULT_RUN = {"test_typing"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here that needs a running app."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.stem not in WITHOUT_AN_APP | IN_THE_DEFAULT_RUN:
            item.add_marker(pytest.mark.slow)
