"""The student that most trainings here are of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of random weights."""
    return tiny_model(tmp_path_factory.mktemp("student") / "llama", hidden=32)
