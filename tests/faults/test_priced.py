"""A cap over random priced runs: whatever a provider does to them, whenever they end, whatever becomes of their ledger
between, and whoever asks: teachers, judges, summarizers, in batches and one by one."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.priced import DAMAGE, faults_of, honesty_of, priced_run
from tests.faults.priced_chains import killed_chain, priced_chain

FEW, MANY = 16, 200


def broken(folder: Path, seeds: range) -> tuple[list[str], Counter[str]]:
    """The promises that runs with these seeds broke, and what the runs met."""
    met, problems = Counter[str](), list[str]()
    for seed in seeds:
        out = priced_run(seed, folder / str(seed))
        problems += [f"{seed} ({honesty_of(seed)}): {problem}" for problem in out.problems]
        met += out.faults
    return problems, met


def test_no_random_run_spends_more_than_its_cap(tmp_path: Path) -> None:
    problems, met = broken(tmp_path, range(FEW))
    assert not problems, "\n".join(problems)
    assert met.total() > 10 * FEW and met["BudgetReached"]


@pytest.mark.slow
def test_no_random_run_of_many_spends_more_than_its_cap(tmp_path: Path) -> None:
    problems, met = broken(tmp_path, range(FEW, FEW + MANY))
    assert not problems, "\n".join(problems)
    kinds = [*faults_of(random.Random(0), 100), *(f"ledger: {kind}" for kind in DAMAGE),
             *(f"a life's end: {how}" for how in ("own", "cancelled", "killed"))]
    assert all(met[kind] for kind in kinds), "every kind of fault was met"


def test_one_cap_is_over_teachers_judges_and_summarizers_across_resumes(tmp_path: Path) -> None:
    for seed in range(2):
        (folder := tmp_path / str(seed)).mkdir()
        out = priced_chain(seed, folder)
        assert not out.problems and out.billed_nano, out


@pytest.mark.slow
def test_one_cap_is_over_all_that_many_random_recipes_ask(tmp_path: Path) -> None:
    for seed in range(2, 30):
        (folder := tmp_path / str(seed)).mkdir()
        out = priced_chain(seed, folder)
        assert not out.problems, out


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_killed_process_forgets_what_it_spent(tmp_path: Path) -> None:
    killed = 0
    for seed in range(5):
        (folder := tmp_path / str(seed)).mkdir()
        out = killed_chain(seed, folder)
        assert not out.problems, out
        killed += out.faults["killed"]
    assert killed
