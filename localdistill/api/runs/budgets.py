"""What a run has spent and may spend. Reads the run's spend ledger and never writes to it, so it is safe while the run
lives; the ledger itself is `spending.ledger`."""

from __future__ import annotations

from dataclasses import dataclass

from localdistill.core.errors import LocalDistillError
from localdistill.spending.reading import NANO, read_ledger
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class Budget:
    """Money of one run, in US dollars."""

    run_id: str
    calls: int
    """Paid calls that were begun."""
    spent_usd: float
    """What ended calls did cost, or were reserved with where nobody saw the cost. Where the ledger is not whole: the
    whole cap, or without one what is known of it, open calls included."""
    open_usd: float
    """What is reserved for calls whose end is not written down yet."""
    cap_usd: float | None
    """None: no cap."""
    problem: str = ""
    """Why more may have been spent, or may be: what is wrong with the ledger, or with what holds the cap. Empty when
    both are whole."""


def budget_of(run: RunFolder) -> Budget:
    """The money of `run` now."""
    book = read_ledger(run.calls, run.proof_of_calls)
    cap, unknown = _cap_of(run)
    is_open = 0 if book.problem else book.entries.open_nano
    return Budget(run.id, book.entries.calls, (book.counted(cap) - is_open) / NANO, is_open / NANO, cap,
                  "; ".join(filter(None, (book.problem, unknown))))


def _cap_of(run: RunFolder) -> tuple[float | None, str]:
    """The cap, and why it is not known."""
    try:
        stated = run.request().get("max_usd")
        return float(stated) if stated is not None else run.recipe().max_usd, ""
    except LocalDistillError as error:
        return None, f"what it may spend is not known: {error.message}"
    except (OSError, ValueError, KeyError, TypeError):
        return None, "what it may spend is not known"
