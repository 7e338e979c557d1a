"""Every test of the store runs twice: as it ships, and with every border between parts at 2, so that whatever comes in
parts comes in several. Tests that set borders themselves, or whose subject is not reading and writing, run once."""

from __future__ import annotations

from dataclasses import fields

import pytest

from localdistill.store import reading
from localdistill.store.batch_sizes import BORDERS

ROWS_OF_A_PART = 2


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("whole") is None:
        metafunc.fixturenames.append("part_rows")
        metafunc.parametrize("part_rows", [None, ROWS_OF_A_PART], indirect=True, ids=["whole", "parts"])


@pytest.fixture
def part_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of every part, each in a session of its own."""
    if request.param is not None:
        monkeypatch.setattr(reading, "BUDGET_S", 0.0)
        for border in fields(BORDERS):
            monkeypatch.setattr(BORDERS, border.name, request.param)
