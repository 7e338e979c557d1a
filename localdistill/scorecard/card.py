"""What a score card holds: one line per model, comparisons in pairs, the items that flipped. Values only: how they are
worked out is in `scorecard.building`, how they look on paper in `scorecard.text`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localdistill.core.errors import LocalDistillError

Verdict = Literal["better", "worse", "cannot tell"]
FamilyName = Literal["base", "arms"]


@dataclass(frozen=True)
class ItemResult:
    """One model's reply to one item."""

    prompt_id: str
    score: float
    """0..1."""
    finished: bool
    """The reply ended by itself."""
    hit_limit: bool
    """The reply was cut at the token limit."""
    answer_tokens: int
    """New tokens, reasoning included."""
    extracted: str = ""
    """What the grader took for the answer."""
    output: str = ""
    group: str = ""
    """Value of the item's breakdown, for example its number of steps; empty for none."""
    error: str = ""
    """Why there is no reply at all, for example a prompt that does not fit; it counts as wrong."""


@dataclass(frozen=True)
class Contestant:
    """One measured model: the base, or one arm trained with one seed."""

    name: str
    seed: int
    format: str
    thinks: bool
    trained_tokens: int
    stopped_early: str
    """Why training stopped before its last step; empty when it did not."""
    items: tuple[ItemResult, ...]


@dataclass(frozen=True)
class GroupScore:
    """Score on the items of one group, over all seeds."""

    group: str
    items: int
    score: float


@dataclass(frozen=True)
class Row:
    """One model's line: figures are means over its seeds."""

    name: str
    format: str
    thinks: bool
    seeds: tuple[int, ...]
    items: int
    score: float
    interval: tuple[float, float]
    seed_scores: tuple[float, ...]
    finished_share: float
    limit_share: float
    score_finished: float | None
    """Score on the replies that finished; None when none did."""
    mean_answer_tokens: float
    trained_tokens: int
    stopped_early: str
    groups: tuple[GroupScore, ...]


@dataclass(frozen=True)
class Flip:
    """An item that one model gets right and the other does not."""

    prompt_id: str
    first_output: str
    second_output: str
    first_extracted: str = ""
    second_extracted: str = ""


@dataclass(frozen=True)
class Comparison:
    """`first` against `second` on the same items; differences are first minus second."""

    family: FamilyName
    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    """95 %, of this comparison alone."""
    p_value: float
    p_adjusted: float
    """After Holm inside the family."""
    verdict: Verdict
    detectable: float
    """Smallest true difference that this comparison finds with 80 % probability."""
    won: int
    lost: int
    method: str
    flips_won: tuple[Flip, ...] = ()
    flips_lost: tuple[Flip, ...] = ()
    same_text: int | None = None
    """Items to which both wrote the same text; None where several seeds were compared."""


@dataclass(frozen=True)
class ScoreCard:
    """All of one task."""

    task: str
    grader: str
    base: str
    is_guard: bool
    items: int
    seeds: int
    """Seeds of the arm with the fewest (0 without arms)."""
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    scope: str
    """What the verdicts speak of, in a sentence."""
    forms_of: str = ""
    """The trained model whose forms (merged, exported files) the rows are; empty when they are contestants."""

    def row(self, name: str) -> Row:
        """The line of one model. Raises KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScoreCard:
        """The card that `to_json` wrote. Raises LocalDistillError when fields are missing or unknown."""
        try:
            rows = tuple(Row(**{**row, "seeds": tuple(row["seeds"]), "interval": _pair(row["interval"]),
                                "seed_scores": tuple(row["seed_scores"]),
                                "groups": tuple(GroupScore(**group) for group in row["groups"])})
                         for row in data["rows"])
            comparisons = tuple(Comparison(**{**entry, "interval": _pair(entry["interval"]),
                                              "flips_won": tuple(Flip(**flip) for flip in entry["flips_won"]),
                                              "flips_lost": tuple(Flip(**flip) for flip in entry["flips_lost"])})
                                for entry in data["comparisons"])
            return cls(**{**data, "rows": rows, "comparisons": comparisons})
        except (KeyError, TypeError, ValueError) as error:
            raise LocalDistillError(f"the score card cannot be read: {error}",
                                    "it may come from another version; evaluate again") from error


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return low, high
