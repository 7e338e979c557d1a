"""Random runs that pay: providers that fail, lie about what they wrote or bill more than they were told, processes that
die, and books of calls that are damaged. No cap is passed and nothing is forgotten."""

from __future__ import annotations

from random import Random

from tests.attack.ground import Ground
from tests.attack.kind import Ending, Kind
from tests.faults.priced import priced_run


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    out = priced_run(10_000 + 4 * chance.randrange(250_000) + number % 4, ground.empty() / "run")
    what = f"a run that pays, seed {out.seed}, {out.honesty}: {out.faults.total()} faults"
    return Ending("bad", what, "; ".join(out.problems)) if out.problems else Ending("same", what)


KIND = Kind("prices", "runs that pay, under failing and lying providers and damaged books", 200, _attack,
            needs_workspace=False)
