"""Keeps the prompts from which most is to be learned: those that are solved sometimes (DeepDistill, arXiv 2504.17565,
algorithm 1). The label `pass_rate` says how much the verdicts of a prompt vary, the label `prompt_kind` its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import FilterSample
from localdistill.filters.choosing import Chooses


class VariationFilter(Chooses):
    """The `variation` filter. A prompt without a right answer goes; of one whose verdicts vary more than the threshold
    the right answers stay; of the others a share, by kind."""

    name = "variation"
    version = 1

    class Options(BaseOptions):
        """Options of `variation`."""

        above: float = Field(default=0.5, ge=0)
        """Coefficient of variation of a prompt's verdicts above which it is kept: 0.5 is four right answers of five, 1
        two of four. The authors state none; the histogram of `pass_rate_variation` shows what is left."""
        above_by_kind: dict[str, float] = Field(default_factory=dict)
        """The same for kinds of prompts of their own, for example { code = 0.8 }."""
        least_score: float = Field(default=0.99, ge=0, le=1)
        """Score that an answer must exceed to stay."""
        easy: dict[str, float] = Field(default_factory=dict)
        """Share of the prompts below the threshold that stay all the same, by kind, for example { other = 0.5, chat =
        0.5 } as the authors do; which ones is decided by the prompt alone."""

    @classmethod
    def samples(cls) -> Sequence[FilterSample]:
        """Rows and which of them stay."""
        hard = {"pass_rate": 0.25, "pass_rate_variation": 1.7, "prompt_kind": "math"}
        never, always = hard | {"pass_rate": 0.0, "pass_rate_variation": None}, hard | {"pass_rate_variation": 0.0}
        rows = [hard | {"score": 1.0}, hard | {"score": 0.0}, never | {"score": 0.0}, always | {"score": 1.0},
                always | {"score": 1.0, "prompt_kind": "other"}]
        unsaid = {"pass_rate": None, "pass_rate_variation": None, "prompt_kind": None, "score": None}
        return (
            FilterSample([*rows, unsaid], [True, False, False, False, False, False]),
            FilterSample(rows, [True, False, False, False, True], options={"easy": {"other": 1.0}}),
            FilterSample(rows, [False, False, False, False, False], options={"above_by_kind": {"math": 2.0}}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def sql(self) -> str:
        """The three branches in order; never null."""
        chosen = self.options
        above = _by_kind(chosen.above_by_kind, chosen.above)
        shares = {kind: f"'{round(share * 0xFFFFFFFF):08x}'" for kind, share in chosen.easy.items()}
        easy = f"substr(md5(prompt_id), 1, 8) <= {_by_kind(shares, None)}" if shares else "FALSE"
        return (f"CASE WHEN coalesce(pass_rate, 0) = 0 THEN FALSE WHEN pass_rate_variation > {above} "
                f"THEN coalesce(score > {chosen.least_score!r}, FALSE) ELSE coalesce({easy}, FALSE) END")

    def why(self, row: Mapping[str, Any]) -> str:
        """Which branch it fell into."""
        if not row.get("pass_rate"):
            return "no answer to its prompt is right" if row.get("pass_rate") == 0 else "nobody judged its prompt"
        kind = row.get("prompt_kind")
        varies = float(row.get("pass_rate_variation") or 0)
        above = self.options.above_by_kind.get(str(kind), self.options.above)
        if varies > above:
            return f"its prompt varies by {varies:.2f}, and it is not right"
        return f"its prompt is solved {row['pass_rate']:.0%} of the time and varies by {varies:.2f} only"


def _by_kind(values: Mapping[str, object], otherwise: object) -> str:
    """SQL: the value for the row's kind, else another."""
    last = "NULL" if otherwise is None else repr(otherwise)
    if not values:
        return last
    cases = " ".join(f"WHEN '{kind.replace(chr(39), chr(39) * 2)}' THEN {value}" for kind, value in values.items())
    return f"CASE prompt_kind {cases} ELSE {last} END"
