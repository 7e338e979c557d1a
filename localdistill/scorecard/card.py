"""What a score card holds: one line per model, comparisons in pairs, the items that flipped. Values only: how they are
worked out is in `scorecard.building`, how they look on paper in `scorecard.text`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from localdistill.core.errors import LocalDistillError
from localdistill.core.stored import Stored

Verdict = Literal["better", "worse", "cannot tell"]
FamilyName = Literal["base", "arms"]
GUARD_MARGIN = 0.05
"""How much of a guard's score may be lost, where nobody said it."""
RIGHT = 0.5
"""From this score on a reply, or an item, counts as right."""
SEEDS_FOR_FORMATS = 3
"""With so many seeds the variance between them can be estimated, and a verdict may speak of a format."""


@dataclass(frozen=True)
class SampleResult:
    """One reply to one item; the fields as of `ItemResult`."""

    score: float
    finished: bool
    hit_limit: bool
    answer_tokens: int
    extracted: str = ""
    output: str = ""


@dataclass(frozen=True)
class ItemResult:
    """One model's reply to one item, or what several replies came to together."""

    prompt_id: str
    score: float
    """0..1; the mean of several replies."""
    finished: bool
    """The reply ended by itself; all of several did."""
    hit_limit: bool
    """The reply was cut at the token limit; one of several was."""
    answer_tokens: int
    """New tokens, reasoning included; the mean of several replies."""
    extracted: str = ""
    """What the grader took for the answer."""
    output: str = ""
    category: str = ""
    """What kind of item it is, for example its number of steps; empty for none."""
    error: str = ""
    """Why there is no reply at all, for example a prompt that does not fit; it counts as wrong."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the task measured beside the score, by name."""
    undecided: str = ""
    """Why nobody could say whether it is right; it counts as wrong."""
    samples: tuple[SampleResult, ...] = ()
    """The replies one by one, where there are several; `output` and `extracted` are then of the first."""

    @property
    def replies(self) -> tuple[SampleResult, ...]:
        """Every reply, also where it is one."""
        return self.samples or (SampleResult(self.score, self.finished, self.hit_limit, self.answer_tokens,
                                             self.extracted, self.output),)


@dataclass(frozen=True)
class ContestantResult:
    """What one contestant answered: the base, one arm trained with one seed, or a form of one."""

    name: str
    seed: int
    format: str
    thinks: bool
    trained_tokens: int
    stopped_early: str
    """Why training stopped before its last step; empty when it did not."""
    items: tuple[ItemResult, ...]
    served: Mapping[str, str] = field(default_factory=dict)
    """What made its answers: engine, arithmetic, how weights are held, template."""
    kept: str = ""
    """Which of its weights came out, and why; empty where they are the last ones of a training as planned."""


@dataclass(frozen=True)
class CategoryScore:
    """Score on the items of one category, over all seeds."""

    category: str
    items: int
    score: float


@dataclass(frozen=True)
class MetricMean:
    """What a task measured beside the score, over all seeds."""

    name: str
    mean: float
    items: int
    """That have a value."""


@dataclass(frozen=True)
class AtK:
    """A share at k replies to each item."""

    k: int
    share: float
    is_sure: bool
    """There are at least 2k replies to each item; with fewer the estimate rests on few subsets that overlap."""


@dataclass(frozen=True)
class ScoreRow:
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
    categories: tuple[CategoryScore, ...]
    metrics: tuple[MetricMean, ...] = ()
    undecided: int = 0
    """Items that nobody could judge, over all seeds: they count as wrong."""
    samples: int = 1
    """Replies to each item."""
    error_items: float | None = None
    """Standard error of the score from the choice of items; None where items have one reply, or several seeds do."""
    error_samples: float | None = None
    """The same from the chance in the replies."""
    pass_at: tuple[AtK, ...] = ()
    majority_at: tuple[AtK, ...] = ()
    difficulty: tuple[CategoryScore, ...] = ()
    """Scores by how often the base gets an item right; empty where it has too few replies."""
    loops: int | None = None
    """Replies that end in one block of tokens again and again, over all seeds."""
    unextracted: int | None = None
    """Replies that ended by themselves and from which no answer could be taken, over all seeds; None where the grader
    takes none out."""
    served: Mapping[str, str] = field(default_factory=dict)
    """What made the answers: engine, arithmetic, how weights are held, template; empty in older cards."""
    kept: tuple[str, ...] = ()
    """Which weights came out, and why, of the seeds where there is something to say."""


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
    rows: tuple[ScoreRow, ...]
    comparisons: tuple[Comparison, ...]
    scope: str
    """What the verdicts speak of, in a sentence."""
    forms_of: str = ""
    """The trained model whose forms (merged, exported files) the rows are; empty when they are contestants."""
    metrics: Mapping[str, str] = field(default_factory=dict)
    """What each metric of the rows means."""
    margin: float = GUARD_MARGIN
    """What may be lost of the score, 0..1, where the task is a guard; cards of older versions say nothing of it."""
    sampler: str = ""
    """How replies were drawn, in words; cards of older versions say nothing of it."""
    leaks: tuple[str, ...] = ()
    """What of the scores may be memory, in sentences."""

    def row(self, name: str) -> ScoreRow:
        """The line of one model. Raises KeyError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class ScoreCards(Stored):
    """The cards of one evaluation, one per task, as they are kept."""

    cards: tuple[ScoreCard, ...]

    @classmethod
    def from_older(cls, data: Any, version: int) -> Any:
        """Before there were versions: the cards alone, and categories under another name."""
        return {"cards": [older_card(card) for card in data]}


def older_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card from before there were versions."""
    rows = [{**row, "categories": [{**found, "category": found["group"]} for found in row["groups"]]}
            for row in card["rows"]]
    return {**card, "rows": rows}


def items_to_text(items: Iterable[ItemResult]) -> str:
    """Results as lines of JSON."""
    return "".join(json.dumps(dataclasses.asdict(item), ensure_ascii=True) + "\n" for item in items)


def items_from_text(text: str, where: str) -> tuple[ItemResult, ...]:
    """What `items_to_text` wrote, also in versions that called the category a group. LocalDistillError when it holds
    something else."""
    try:
        rows = [json.loads(line) for line in text.splitlines()]
        return tuple(_item_of({"category" if key == "group" else key: value for key, value in row.items()})
                     for row in rows)
    except (ValueError, TypeError, AttributeError) as error:
        raise LocalDistillError(f"{where} is damaged: {error}", "") from error


def _item_of(row: Mapping[str, Any]) -> ItemResult:
    return ItemResult(**{**row, "samples": tuple(SampleResult(**one) for one in row.get("samples", ()))})
