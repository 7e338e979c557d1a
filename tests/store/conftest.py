"""Every test of the store runs twice: as it ships, and with every border between parts at 2, so that whatever comes in
parts comes in several. Tests that set borders themselves, or whose subject is not reading and writing, run once."""

from __future__ import annotations

import pytest

from localdistill.core.borders import BORDERS
from tests.borders import small_borders


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("whole") is None:
        metafunc.fixturenames.append("part_rows")
        metafunc.parametrize("part_rows", [False, True], indirect=True, ids=["whole", "parts"])


@pytest.fixture
def part_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts, each in a session of its own."""
    if request.param:
        for name, size in small_borders().items():
            monkeypatch.setattr(BORDERS, name, size)
