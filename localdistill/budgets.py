"""What a run has spent and may spend. Reads the run's book of calls and never writes to it, so it is safe while the run
lives; the book itself is `callbook`."""

from __future__ import annotations

from dataclasses import dataclass

from localdistill.callbook import NANO
from localdistill.errors import LocalDistillError
from localdistill.journal import decode
from localdistill.run_folder import RunFolder


@dataclass(frozen=True)
class Budget:
    """Money of one run, in US dollars."""

    run_id: str
    calls: int
    """Paid calls that were begun."""
    spent_usd: float
    """What ended calls did cost, or were reserved with where nobody saw the cost."""
    open_usd: float
    """What is reserved for calls whose end is not written down yet."""
    cap_usd: float | None
    """None: no cap."""


def budget_of(run: RunFolder) -> Budget:
    """The money of `run` now. Lines that cannot be read are passed over, as the run itself does."""
    reserved: dict[int, int] = {}
    calls = spent = 0
    try:
        with open(run.calls, "rb") as handle:
            for line in handle:
                record = decode(line.rstrip(b"\n"))
                if record is None:
                    continue
                ticket = int(record["call"])
                if "reserved" in record:
                    reserved[ticket] = int(record["reserved"])
                    calls += 1
                elif ticket in reserved:
                    worst, cost = reserved.pop(ticket), record.get("cost")
                    spent += worst if cost is None else int(cost)
    except FileNotFoundError:
        pass
    return Budget(run.id, calls, spent / NANO, sum(reserved.values()) / NANO, _cap_of(run))


def _cap_of(run: RunFolder) -> float | None:
    try:
        stated = run.request().get("max_usd")
        return float(stated) if stated is not None else run.recipe().max_usd
    except (OSError, ValueError, KeyError, TypeError, LocalDistillError):
        return None
