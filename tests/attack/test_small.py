"""A small attack in `make test-all`, on what needs no workspace and on a finished one."""

from __future__ import annotations

import pytest

from tests.attack.__main__ import main
from tests.attack.kinds import KINDS, kind_called


@pytest.mark.slow
@pytest.mark.parametrize(("needs_workspace", "faults"), [(False, 600), (True, 40)])
def test_a_small_attack_finds_nothing(needs_workspace: bool, faults: int, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in KINDS if kind_called(name).needs_workspace == needs_workspace]
    assert names
    code = main(["--kinds", ",".join(names), "--faults", str(faults)])
    assert code == 0, capsys.readouterr().out
