"""What a run has spent, read from its ledger of calls while it may be writing."""

from __future__ import annotations

from pathlib import Path

from localdistill import RunFolder, SpendLedger, budget_of, parse_recipe

RECIPE = 'name = "r"\nmax_usd = 2.0\n[traces]\nfiles = ["x"]\n'


def run_in(folder: Path) -> RunFolder:
    return RunFolder.create(folder, parse_recipe(RECIPE), RECIPE, {"stages": ["collect"], "base": str(folder)})


def test_spent_reserved_and_cap(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert budget_of(run) == budget_of(run)
    assert (budget_of(run).spent_usd, budget_of(run).calls, budget_of(run).cap_usd) == (0.0, 0, 2.0)
    ledger = SpendLedger(run.calls, 2.0)
    tickets = [ledger.reserve(500_000_000) for _ in range(3)]
    assert tickets[0] is not None and tickets[1] is not None
    ledger.settle(tickets[0], 100_000_000)
    ledger.settle(tickets[1], None)
    found = budget_of(run)
    assert (found.calls, found.spent_usd, found.open_usd) == (3, 0.6, 0.5)
    with open(run.calls, "ab") as handle:
        handle.write(b"torn line")
    assert budget_of(run) == found
    run.amend_request(max_usd=5)
    assert budget_of(run).cap_usd == 5.0
    ledger.close()


def test_a_cap_that_cannot_be_read_is_said_and_is_not_none_at_all(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert budget_of(run).problem == ""
    (run.path / "resolved.json").write_text("{}")
    found = budget_of(RunFolder(run.path))
    assert found.cap_usd is None and found.problem.startswith("what it may spend is not known: the recipe of run")
