"""Whoever adds a member of any kind writes its file and one line, and edits nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.widening.adding import ADDITIONS, widened

OWED = ("test_contracts.py", "test_house.py", "test_readme.py", "test_recipe.py", "test_drafts.py", "formats",
        "graders", "objectives", "filters", "store", "stages", "recipes", "tui/test_rules.py", "tui/test_recipe.py")
"""What tells whether a member is well with the rest; `python -m tests.widening.adding` makes a tree to run all in."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_member_of_every_kind_and_a_column_cost_one_file_and_one_line(tmp_path: Path) -> None:
    root = tmp_path / "wide"
    *members, column = widened(root)
    assert len(members) == len(ADDITIONS)
    for said in members:
        assert len(re.findall(r"\| +\d+", said)) == 2 and re.search(r"__init__\.py +\| +1 \+\n", said), said
    assert re.findall(r"(\w+\.py) +\| +(\d+)", column) == [("records.py", "2"), ("schema.py", "1")], column
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow",
                          *(f"tests/{name}" for name in OWED)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
                         capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
