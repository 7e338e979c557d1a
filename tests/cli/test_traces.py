"""The commands that show what the screens Traces, Select and Formats show."""

from __future__ import annotations

import json

from tests.cli.test_cli import run
from tests.tui.chain import QUESTIONS, doubling, hostile
from tests.tui.hostile import FORBIDDEN


def test_traces_in_another_order_and_of_a_selection() -> None:
    root = doubling()
    worst = json.loads(run("traces", "--order", "score", "--limit", "6", "--json", cwd=root).stdout)
    assert [row["score"] for row in worst] == [0.0] * 5 + [1.0]
    kept = json.loads(run("traces", "--selection", "doubling", "--limit", "99", "--json", cwd=root).stdout)
    assert len(kept) == QUESTIONS - 5 and all(row["score"] == 1 for row in kept)
    wrong = run("traces", "--order", "scor", cwd=root)
    assert wrong.returncode == 2 and "did you mean 'score'" in wrong.stderr


def test_selections_and_datasets() -> None:
    root = doubling()
    [row] = json.loads(run("selections", "--json", cwd=root).stdout)
    assert (row["name"], row["kept"], row["removed"]) == ("doubling", QUESTIONS - 5, {"verified": 5, "duplicates": 0})
    assert "verified 5, duplicates 0" in run("selections", cwd=root).stdout
    short, long = json.loads(run("datasets", "--json", cwd=root).stdout)
    assert (short["arm"], len(short["lengths"]), short["limit"], long["thinks"]) == ("short", QUESTIONS - 5, 64, True)
    assert "answer_only@1" in run("datasets", "last", cwd=root).stdout


def test_hostile_texts_reach_no_terminal() -> None:
    root = hostile()
    for arguments in (("traces", "--order", "newest"), ("selections",)):
        out = run(*arguments, cwd=root)
        assert out.returncode == 0, out.stderr
        assert not FORBIDDEN.search(out.stdout.replace("\t", " "))
