"""What tests need that run programs in a jail."""

from __future__ import annotations

import pytest

from localdistill.safety.jail.cells import JailRefused, require_level
from localdistill.safety.jail.running import look_at_jail


def need_jail() -> None:
    """Skip where this machine has no jail: what happens without one has tests of its own."""
    try:
        require_level(look_at_jail(), 1)
    except JailRefused as error:
        pytest.skip(error.message)
