"""What `best` means: better than the base on the target, worse nowhere, and nothing where that cannot be said."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from localdistill.scorecard import (
    ContestantResult,
    ItemResult,
    ScoreCard,
    build_score_card,
    cautions,
    choose_arm,
    standings_of,
)
from localdistill.stages.outputs import ExportOutput


def model(name: str, right: int, seed: int = 0, stopped: str = "", tokens: int = 10, of: int = 100) -> ContestantResult:
    """A model that gets the first so many items right."""
    items = tuple(ItemResult(f"p{n}", float(n < right), True, False, tokens) for n in range(of))
    return ContestantResult(name, seed, "f", False, 100, stopped, items)


def card(task: str, right: Mapping[str, int], guard: bool = False, stopped: str = "",
         margin: float = 0.1) -> ScoreCard:
    """One seed each; the arm named `stopped` did not train to the end."""
    models = [model(name, count, stopped="time" if name == stopped else "") for name, count in right.items()]
    return build_score_card(models, base="base", task=task, grader="exact", is_guard=guard,
                            margin=margin)


def test_the_highest_score_that_costs_a_guard_is_not_best() -> None:
    cards = [card("sums", {"base": 14, "short": 42, "long": 34}),
             card("manners", {"base": 91, "short": 22, "long": 90}, guard=True)]
    choice = choose_arm(cards)
    assert choice.arm == "long" and "better on sums (+20.0 points)" in choice.reason
    assert [(c.arm, c.may_export) for c in choice.candidates] == [("short", False), ("long", True)]
    assert choice.candidates[0].sentence == (
        "short: better on sums (+28.0 points), worse on manners (guard) (-69.0 points)")


@pytest.mark.parametrize(("right", "why"), [
    ({"base": 0, "a": 0, "b": 0}, "no arm is better than the base on sums"),
    ({"base": 30, "a": 33, "b": 31}, "no arm is better than the base on sums"),
    ({"base": 60, "a": 20, "b": 10}, "no arm is better than the base on sums"),
    ({"base": 60}, "no arm was measured"),
    ({"a": 90, "b": 10}, "no arm is better than the base on sums"),
])
def test_no_arm_is_best_where_none_is_better(right: dict[str, int], why: str) -> None:
    choice = choose_arm([card("sums", right)])
    assert choice.arm == "" and why in choice.reason


def test_without_a_target_or_a_card_nothing_is_best() -> None:
    assert "every task is a guard" in choose_arm([card("manners", {"base": 1, "a": 99}, guard=True)]).reason
    assert choose_arm([]).arm == ""


def test_an_arm_that_was_stopped_early_is_not_known_to_be_better() -> None:
    choice = choose_arm([card("sums", {"base": 10, "a": 90, "b": 50}, stopped="a")])
    assert choice.arm == "b"
    assert "a: not compared with the base on sums: its training was stopped early (time)" in [
        c.sentence for c in choice.candidates]


def test_an_arm_that_no_guard_measured_is_not_taken_for_harmless() -> None:
    sums = card("sums", {"base": 10, "a": 90, "b": 50})
    choice = choose_arm([sums, card("manners", {"base": 90, "b": 90}, guard=True)])
    assert choice.arm == "b"
    assert choose_arm([sums, card("manners", {"a": 90, "b": 90}, guard=True)]).arm == "", "no base, no verdict"


def test_a_guard_must_be_shown_to_hold_and_a_small_known_loss_is_allowed() -> None:
    sums = card("sums", {"base": 10, "a": 90})
    manners = {"base": 90, "a": 88}
    assert choose_arm([sums, card("manners", manners, guard=True)]).arm == "a"
    strict = choose_arm([sums, card("manners", manners, guard=True, margin=0.05)])
    assert strict.arm == "" and "a guard may lose 5 points, and that must be shown" in strict.reason
    assert "where a loss of up to" in strict.candidates[0].sentence


def test_harm_on_a_second_target_counts_too() -> None:
    cards = [card("sums", {"base": 10, "a": 90, "b": 50}), card("proofs", {"base": 80, "a": 20, "b": 82})]
    assert choose_arm(cards).arm == "b"
    assert choose_arm([cards[1], cards[0]]).arm == "", "on the first target b cannot be told from the base"


def test_of_equal_arms_the_one_that_lost_least_then_the_shorter_one_wins_and_the_others_are_named() -> None:
    def sums(**tokens: int) -> ScoreCard:
        models = [model("base", 10), *(model(name, 50, tokens=count) for name, count in tokens.items())]
        return build_score_card(models, base="base", task="sums", grader="exact")

    assert choose_arm([sums(a=40, b=12, c=40)]).arm == "b"
    choice = choose_arm([sums(a=12, b=12, c=12), card("manners", {"base": 90, "a": 88, "b": 90, "c": 89}, guard=True)])
    assert choice.arm == "b" and choice.reason.endswith("; a, c would do too and cannot be told from it")
    assert choose_arm([sums(a=12, b=12)]).arm == "a", "then the order of the recipe"


def test_several_seeds_are_judged_together() -> None:
    swinging = [model("a", count, seed) for seed, count in enumerate((15, 85, 100))]
    steady = [model("b", 60, seed) for seed in range(3)]
    found = build_score_card([model("base", 40), *swinging, *steady], base="base", task="sums", grader="exact")
    assert choose_arm([found]).arm == ""
    calm = build_score_card([model("base", 40), *steady], base="base", task="sums", grader="exact")
    assert choose_arm([calm]).arm == "b"


def test_what_speaks_against_an_arm_and_what_nobody_knows_is_said() -> None:
    sums, manners = (card("sums", {"base": 14, "a": 42, "b": 15}),
                     card("manners", {"base": 91, "a": 22, "b": 90}, guard=True, margin=0.05))
    assert cautions(standings_of([sums, manners], "a")) == ["worse on manners (guard) (-69.0 points)"]
    of_b = cautions(standings_of([sums, manners], "b"))
    assert of_b[0] == "cannot be told from the base on sums (+1.0 points)"
    assert "a loss of up to" in of_b[1] and "manners (guard) is not ruled out" in of_b[1]
    assert cautions(standings_of([sums], "a")) == [
        "no guard task was run: what the training cost elsewhere is not known"]
    assert "evaluates nothing" in cautions(())[0]
    unmeasured = cautions(standings_of([sums, manners], "c"))
    assert len([text for text in unmeasured if "not compared with the base" in text]) == 2


def test_standings_go_through_json() -> None:
    (standing,) = standings_of([card("sums", {"base": 14, "a": 42})], "a")
    left = ExportOutput("b2:x", "a", standings=(standing,))
    assert ExportOutput.from_bytes(left.to_bytes(), "export") == left and standing.interval
    assert (standing.base, standing.score, standing.verdict) == (0.14, 0.42, "better")
