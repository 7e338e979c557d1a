"""Which exported file is recommended: the smallest whose loss against the 16-bit one is known to be small, by the cards
that were measured."""

from __future__ import annotations

from collections.abc import Mapping

from localdistill.scorecard import ContestantResult, FileChoice, ItemResult, ScoreCard, build_files_card, choose_file

SIZES = {"F16": 100, "Q8_0": 50, "Q6_K": 40, "Q4_0": 25}


def form(name: str, wrong: range) -> ContestantResult:
    """A form that misses these of 300 items."""
    items = tuple(ItemResult(str(place), float(place not in wrong), True, False, 9) for place in range(300))
    return ContestantResult(name, 0, "", False, 0, "", items)


def card(wrong: Mapping[str, range], task: str = "sums", is_guard: bool = False) -> ScoreCard:
    return build_files_card([form(name, missed) for name, missed in wrong.items()], next(iter(wrong)), task, "math",
                            is_guard, "arm 'a'")


def choice(*cards: ScoreCard, tolerance: float = 0.05, sizes: Mapping[str, int] | None = None) -> FileChoice:
    made = choose_file(cards, sizes or SIZES, tolerance)
    assert made is not None
    return made


SAME = range(100)
GOOD = {"F16": SAME, "Q8_0": SAME, "Q6_K": range(102), "Q4_0": range(140)}


def test_the_smallest_file_whose_loss_is_known_to_be_small_is_taken() -> None:
    made = choice(card(GOOD))
    assert (made.form, made.against) == ("Q6_K", "F16")
    assert {one.form: one.verdict for one in made.files} == {
        "F16": "reference", "Q8_0": "good", "Q6_K": "good", "Q4_0": "worse"}
    assert "Take Q6_K (0.0 MB): the smallest file that stays within 5 points of F16 (sums -0.7, " in made.sentence
    assert made.worse == ("Q4_0 got worse: sums -13.3, -17.2 to -9.4",) and made.unclear == ()


def test_a_loss_on_a_guard_counts_as_on_a_target() -> None:
    guard = card({**GOOD, "Q6_K": range(130)}, "rules", is_guard=True)
    made = choice(card(GOOD), guard)
    assert made.form == "Q8_0" and made.worse[0].startswith("Q6_K got worse: rules -10.0")


def test_a_loss_that_may_be_just_what_is_allowed_is_not_below_it() -> None:
    measured = card({"F16": SAME, "Q6_K": range(102)})
    low = measured.comparisons[0].interval[0]
    assert [choice(measured, tolerance=allowed).form for allowed in (-low, -low + 1e-9)] == ["F16", "Q6_K"]


def test_what_cannot_be_told_is_not_recommended() -> None:
    made = choice(card(GOOD), tolerance=0.015)
    assert made.form == "Q8_0"
    assert [text[:45] for text in made.unclear] == ["Q6_K was not shown to be as good: sums -0.7, "]
    missing = choice(card(GOOD), card({name: SAME for name in ("F16", "Q8_0")}, "more"))
    assert missing.form == "Q8_0" and "Q6_K was not shown to be as good: it was not measured on more" in missing.unclear


def test_where_no_smaller_one_is_good_the_source_is_taken_if_it_is_a_file() -> None:
    bad = {"F16": SAME, "Q4_0": range(140)}
    sizes = {"F16": 100, "Q4_0": 25}
    alone = choice(card(bad), sizes=sizes)
    assert alone.sentence == "Take F16: no smaller file was shown to stay within 5 points of it."
    merged = choice(card({"merged": SAME, "Q4_0": range(140)}), sizes={"Q4_0": 25})
    assert (merged.form, merged.against) == ("", "merged") and merged.sentence.startswith("No file is recommended")


def test_nothing_measured_is_no_choice() -> None:
    assert choose_file((), SIZES, 0.05) is None


def test_a_file_that_got_better_is_as_good() -> None:
    assert choice(card({"F16": SAME, "Q4_0": range(60)}), sizes={"F16": 100, "Q4_0": 25}).form == "Q4_0"
