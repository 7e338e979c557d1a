"""Tests that drive the whole app wait for what a screen shows, and a busy machine can outlast their patience: they
belong to the slow proofs (`make test-all`). What can be tested without a running app stays in the default run."""

from __future__ import annotations

from pathlib import Path

import pytest

WITHOUT_AN_APP = {"test_rules", "test_state", "test_charts", "test_progress", "test_recipe_fields"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here that needs a running app."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.stem not in WITHOUT_AN_APP:
            item.add_marker(pytest.mark.slow)
