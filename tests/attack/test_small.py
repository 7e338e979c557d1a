"""A small attack in `make test-all`, with the kinds that need no finished workspace."""

from __future__ import annotations

import pytest

from tests.attack.__main__ import main
from tests.attack.kinds import KINDS, kind_called


@pytest.mark.slow
def test_a_small_attack_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in KINDS if not kind_called(name).needs_workspace]
    assert names
    code = main(["--kinds", ",".join(names), "--faults", "600"])
    assert code == 0, capsys.readouterr().out
