"""`localdistill scores`: cards as text and JSON, and what turned for one arm."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from localdistill.cli import main
from localdistill.scorecard import ScoreCards
from tests.tui.garden import garden

Ran = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ran:
    """`localdistill scores ...` on the prepared workspace: exit code, stdout, stderr."""
    def ran(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["localdistill", "scores", *arguments, "--workspace", str(garden())])
        with pytest.raises(SystemExit) as ended:
            main()
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return ran


def test_all_cards_are_printed(run: Ran) -> None:
    code, out, _ = run()
    assert code == 0
    assert "pantry: 300 items" in out and "guard task" in out and "forms of arm 'full_trace'" in out
    assert "could be seen" in out and "One seed per arm" in out


def test_flips_of_one_arm_come_with_both_outputs(run: Ran) -> None:
    code, out, _ = run("--flips", "answer_only")
    assert code == 0
    assert "pantry: answer_only against base" in out and "[won] " in out and "reference: " in out
    assert "  answer_only: " in out and "  base: " in out


def test_json_reads_back(run: Ran) -> None:
    code, out, _ = run("garden-1", "--json")
    data = json.loads(out)
    assert code == 0 and data["run"] == "garden-1" and data["best"] == "full_trace"
    cards = ScoreCards.from_bytes(json.dumps({"version": 1, "cards": data["cards"]}).encode(), "cards").cards
    assert [card.task for card in cards] == ["pantry", "pantry_guard"]
    code, out, _ = run("--flips", "Q4_K_M", "--json")
    flips = json.loads(out)["flips"]
    assert {flip["first"] for flip in flips} == {"Q4_K_M"} and {"side", "question", "first_output"} <= set(flips[0])


def test_an_unknown_arm_names_the_known_ones(run: Ran) -> None:
    code, _, err = run("--flips", "full_trac")
    assert code == 2 and "did you mean" in err and "answer_only" in err
