"""Which exported file is the cheapest good one: the smallest that was not seen to lose more than is allowed against the
16-bit one, on any task. Reads score cards and works out no verdict of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from localdistill.scorecard.card import Comparison, ScoreCard
from localdistill.scorecard.paper import signed

FileVerdict = Literal["reference", "good", "worse", "cannot tell"]


@dataclass(frozen=True)
class FileStanding:
    """One file beside the one that it was made from."""

    form: str
    """Its file type, for example `Q4_K_M`."""
    size_bytes: int
    verdict: FileVerdict
    """`good`: on every task the whole interval of its difference lies above minus the tolerance. `worse`: a task says
    so. `cannot tell`: neither; more items would."""
    why: str
    """In words, with the figures; empty for the reference."""


@dataclass(frozen=True)
class FileChoice:
    """The files of an export, and the one to take."""

    form: str
    """The smallest good one; the reference where none is; empty where that is no file either."""
    against: str
    """The form that all are compared with: the 16-bit file, or the merged model where there is none."""
    tolerance: float
    """What may be lost of a score, 0..1."""
    files: tuple[FileStanding, ...]
    """Largest first."""

    @property
    def sentence(self) -> str:
        """Which one to take, and why."""
        allowed = f"{100 * self.tolerance:g} points"
        if not self.form:
            return f"No file is recommended: none was shown to stay within {allowed} of {self.against}."
        taken = next(one for one in self.files if one.form == self.form)
        if taken.verdict == "reference":
            return f"Take {self.form}: no smaller file was shown to stay within {allowed} of it."
        return (f"Take {self.form} ({taken.size_bytes / 1e6:,.1f} MB): the smallest file that stays within {allowed} "
                f"of {self.against} ({taken.why}).")

    @property
    def worse(self) -> tuple[str, ...]:
        """Which files got worse, in words."""
        return tuple(f"{one.form} got worse: {one.why}" for one in self.files if one.verdict == "worse")

    @property
    def unclear(self) -> tuple[str, ...]:
        """Of which files nobody can tell, in words."""
        return tuple(f"{one.form} was not shown to be as good: {one.why}" for one in self.files
                     if one.verdict == "cannot tell")


def choose_file(cards: Sequence[ScoreCard], sizes: Mapping[str, int], tolerance: float) -> FileChoice | None:
    """The choice among the files with these sizes in bytes, by cards that compare each with their common base; None
    where there are no cards. A file that is missing on one card cannot be told."""
    if not cards:
        return None
    against = cards[0].base
    files = [_standing(form, size, cards, tolerance) for form, size in sizes.items()]
    files.sort(key=lambda one: -one.size_bytes)
    good = [one for one in files if one.verdict == "good"]
    taken = good[-1].form if good else against if against in sizes else ""
    return FileChoice(taken, against, tolerance, tuple(files))


def _standing(form: str, size_bytes: int, cards: Sequence[ScoreCard], tolerance: float) -> FileStanding:
    if form == cards[0].base:
        return FileStanding(form, size_bytes, "reference", "")
    found = {card.task: entry for card in cards for entry in card.comparisons if entry.first == form}
    worse = {task: entry for task, entry in found.items() if entry.verdict == "worse"}
    unclear = {task: entry for task, entry in found.items() if entry.interval[0] <= -tolerance}
    missing = [card.task for card in cards if card.task not in found]
    if worse:
        return FileStanding(form, size_bytes, "worse", _said(worse))
    if missing:
        return FileStanding(form, size_bytes, "cannot tell", f"it was not measured on {', '.join(missing)}")
    if unclear:
        return FileStanding(form, size_bytes, "cannot tell", _said(unclear))
    return FileStanding(form, size_bytes, "good", _said(found))


def _said(found: Mapping[str, Comparison]) -> str:
    return ", ".join(f"{task} {signed(entry.difference)}, {signed(entry.interval[0])} to {signed(entry.interval[1])}"
                     for task, entry in found.items())
