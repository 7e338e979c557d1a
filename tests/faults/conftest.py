"""What tests of servers' faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import FaultServer, fault_server


@pytest.fixture
def server() -> Iterator[FaultServer]:
    """A fault server that plays nothing special yet."""
    with fault_server() as running:
        yield running
