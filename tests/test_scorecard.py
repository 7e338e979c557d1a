"""Score cards: figures, families, verdicts, wording by seeds, flips, round trip, width."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import pytest

from localdistill.core.errors import LocalDistillError
from localdistill.scorecard import (
    ContestantResult,
    ItemResult,
    ScoreCard,
    ScoreCards,
    build_forms_card,
    build_score_card,
    to_markdown,
    to_text,
)
from localdistill.scorecard.card import items_from_text, items_to_text


def contestant(name: str, scores: Sequence[float], seed: int = 0, stopped: str = "", trained: int = 1000,
               cut: int = 0) -> ContestantResult:
    """One model with these scores; the last `cut` replies hit the limit."""
    items = tuple(
        ItemResult(f"p{place}", score, finished=place < len(scores) - cut, hit_limit=place >= len(scores) - cut,
                   answer_tokens=10 + place % 3, extracted=str(score), output=f"{name} on {place}",
                   category=str(1 + place % 2))
        for place, score in enumerate(scores))
    return ContestantResult(name, seed, "f", False, trained, stopped, items)


def card_of(*contestants: ContestantResult) -> ScoreCard:
    return build_score_card(contestants, base="base", task="stories", grader="exact")


LOW, HIGH = [1.0] * 20 + [0.0] * 80, [1.0] * 60 + [0.0] * 40


def test_a_row_shows_all_items_finished_ones_and_the_limit() -> None:
    row = card_of(contestant("base", LOW, trained=0), contestant("a", HIGH, cut=30)).row("a")
    assert row.score == pytest.approx(0.6)
    assert row.finished_share == pytest.approx(0.7) and row.limit_share == pytest.approx(0.3)
    assert row.score_finished == pytest.approx(60 / 70)
    assert row.interval[0] == pytest.approx(0.502, abs=1e-3)
    assert row.trained_tokens == 1000 and 10 <= row.mean_answer_tokens <= 12
    assert [(found.category, found.items) for found in row.categories] == [("1", 50), ("2", 50)]
    assert sum(found.score * found.items for found in row.categories) == pytest.approx(60)


def test_nothing_finished_has_no_score_of_finished() -> None:
    assert card_of(contestant("a", LOW, cut=100)).row("a").score_finished is None


def test_families_verdicts_and_holm() -> None:
    near = [1.0] * 22 + [0.0] * 78
    card = card_of(contestant("base", LOW), contestant("a", HIGH), contestant("b", near))
    found = {(entry.first, entry.second): entry for entry in card.comparisons}
    assert set(found) == {("a", "base"), ("b", "base"), ("a", "b")}
    assert found["a", "base"].family == found["b", "base"].family == "base" and found["a", "b"].family == "arms"
    assert found["a", "base"].verdict == "better" and found["a", "b"].verdict == "better"
    assert found["b", "base"].verdict == "cannot tell"
    assert (found["a", "base"].won, found["a", "base"].lost) == (40, 0)
    assert found["a", "base"].p_value == pytest.approx(2 / 2**40)
    assert found["a", "base"].p_adjusted == pytest.approx(2 * found["a", "base"].p_value)
    assert found["a", "b"].p_adjusted == found["a", "b"].p_value
    assert found["a", "base"].interval[0] > 0 and 0 < found["b", "base"].detectable < 1


def test_worse_is_said_too() -> None:
    card = card_of(contestant("base", HIGH), contestant("a", LOW))
    assert card.comparisons[0].verdict == "worse" and card.comparisons[0].difference == pytest.approx(-0.4)


def test_an_arm_that_was_stopped_early_is_shown_and_never_ranked() -> None:
    card = card_of(contestant("base", LOW), contestant("a", HIGH, stopped="time budget"), contestant("b", HIGH))
    assert card.row("a").stopped_early == "time budget"
    assert all("a" not in (entry.first, entry.second) for entry in card.comparisons)
    assert "a was stopped early (time budget): shown, not ranked" in to_text(card)


def test_one_seed_speaks_of_models_and_three_of_formats() -> None:
    one = card_of(contestant("base", LOW), contestant("a", HIGH))
    assert one.seeds == 1 and "these trained models only" in one.scope and "these trained models only" in " ".join(
        to_text(one).split())
    three = card_of(contestant("base", LOW), *(contestant("a", HIGH[seed:] + HIGH[:seed], seed) for seed in range(3)))
    assert three.seeds == 3 and "of the formats" in three.scope and "trained models only" not in to_text(three)
    assert three.row("a").seeds == (0, 1, 2)


def test_seeds_that_disagree_widen_the_interval_until_nothing_can_be_told() -> None:
    steady = [contestant("a", [1.0] * 60 + [0.0] * 40, seed) for seed in range(3)]
    swinging = [contestant("a", [1.0] * count + [0.0] * (100 - count), seed) for seed, count in enumerate((5, 75, 100))]
    base = contestant("base", [1.0] * 40 + [0.0] * 60)
    assert card_of(base, *steady).comparisons[0].verdict == "better"
    assert card_of(base, *swinging).comparisons[0].verdict == "cannot tell"


def test_flips_name_items_and_both_outputs() -> None:
    scores = [*LOW]
    scores[0], scores[50] = 0.0, 1.0
    entry = card_of(contestant("base", LOW), contestant("a", scores)).comparisons[0]
    assert [flip.prompt_id for flip in entry.flips_won] == ["p50"]
    assert [flip.prompt_id for flip in entry.flips_lost] == ["p0"]
    assert entry.flips_lost[0].first_output == "a on 0" and entry.flips_lost[0].second_output == "base on 0"


def test_models_must_have_answered_the_same_items() -> None:
    with pytest.raises(LocalDistillError, match="'a' and 'base' did not answer the same items"):
        card_of(contestant("base", LOW), contestant("a", HIGH[:50]))
    with pytest.raises(LocalDistillError, match="no items"):
        card_of(contestant("base", []))


def test_partial_scores_take_the_t_interval() -> None:
    entry = card_of(contestant("base", [0.25, 0.5] * 50), contestant("a", [0.75, 0.5] * 50)).comparisons[0]
    assert "t interval" in entry.method and entry.difference == pytest.approx(0.25)


def test_names_mean_nothing() -> None:
    one = card_of(contestant("base", LOW), contestant("full_trace", HIGH)).comparisons[0]
    other = card_of(contestant("base", LOW), contestant("x", HIGH)).comparisons[0]
    assert (one.difference, one.p_value, one.verdict) == (other.difference, other.p_value, other.verdict)


def test_json_round_trip() -> None:
    card = card_of(contestant("base", LOW, cut=3), *(contestant("a", HIGH, seed) for seed in range(2)))
    assert ScoreCards.from_bytes(ScoreCards((card,)).to_bytes(), "cards") == ScoreCards((card,))
    with pytest.raises(LocalDistillError, match=r"^cards is damaged: cards\.0\.grader: Field required$"):
        ScoreCards.from_bytes(b'{"version": 1, "cards": [{"task": "x"}]}', "cards")


def test_cards_and_items_of_older_versions_called_a_category_a_group() -> None:
    card = card_of(contestant("base", LOW), contestant("a", HIGH))
    text = json.dumps(card.to_json()).replace('"categories":', '"groups":').replace('"category":', '"group":')
    data = json.loads(text)
    assert data["rows"][0]["groups"]
    assert ScoreCards.from_bytes(json.dumps([data]).encode(), "cards").cards == (card,)
    items = contestant("a", HIGH).items
    assert items_from_text(items_to_text(items), "items") == items
    assert items_from_text(items_to_text(items).replace('"category":', '"group":'), "items") == items
    with pytest.raises(LocalDistillError, match=r"^items is damaged: "):
        items_from_text('{"prompt_id": "x", "right": 1}', "items")


def test_text_fits_100_columns_and_markdown_holds_every_model() -> None:
    names = ["a" * 60, "b", "reasoning_then_answer_from_summaries"]
    card = card_of(contestant("base", LOW), *(contestant(name, HIGH, trained=123_456_789) for name in names))
    text, markdown = to_text(card), to_markdown(card)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "60.0%" in text and "could be seen" in text and "BETTER" in text
    assert all(name in markdown for name in names) and "| b vs base | +40.0 |" in markdown


def test_without_a_base_arms_are_paired() -> None:
    card = build_score_card([contestant("a", LOW), contestant("b", HIGH)], base="base", task="t", grader="g",
                            is_guard=True)
    assert [entry.family for entry in card.comparisons] == ["arms"] and card.is_guard and "guard task" in to_text(card)


def test_forms_of_one_model_are_compared_with_it_and_with_nothing_else() -> None:
    forms = [contestant("trained", HIGH, stopped="time"), contestant("merged", HIGH, trained=0, stopped="time"),
             contestant("Q4", LOW, trained=0, stopped="time")]
    card = build_forms_card(forms, "trained", "stories", "exact", is_guard=False, forms_of="arm 'a'")
    found = {(entry.first, entry.second): entry for entry in card.comparisons}
    assert set(found) == {("merged", "trained"), ("Q4", "trained")}
    assert found["Q4", "trained"].verdict == "worse" and found["Q4", "trained"].lost == 40
    assert found["merged", "trained"].verdict == "cannot tell" and found["merged", "trained"].p_adjusted == 1.0
    assert found["merged", "trained"].same_text == 0, "the texts name their model"
    assert ScoreCards.from_bytes(ScoreCards((card,)).to_bytes(), "cards").cards == (card,)
    text = to_text(card)
    assert "forms of arm 'a'" in text and "seed" not in text and "score by category" not in text
    assert "against trained:" in text and "same text on 0 of 100" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_same_text_is_counted_whatever_surrounds_it() -> None:
    one = contestant("trained", LOW)
    other = dataclasses.replace(one, name="F16", items=tuple(
        dataclasses.replace(item, output=f" {item.output}\n" if place < 70 else "else")
        for place, item in enumerate(one.items)))
    [entry] = build_forms_card([one, other], "trained", "t", "g", False, "m").comparisons
    assert (entry.same_text, entry.won, entry.lost) == (70, 0, 0)


def test_several_seeds_have_no_text_in_common() -> None:
    arms = [contestant("a", HIGH, seed=seed) for seed in range(3)]
    [entry] = card_of(contestant("base", LOW), *arms).comparisons
    assert entry.same_text is None and "same text" not in to_text(card_of(contestant("base", LOW), *arms))


def measured(name: str, scores: Sequence[float], seed: int = 0, **metrics: float) -> ContestantResult:
    """A model whose items have metrics: the first item lacks those called `sometimes`, and nobody could judge it."""
    plain = contestant(name, scores, seed)
    items = [dataclasses.replace(item, metrics={**metrics, "place": float(place)}) for place, item in
             enumerate(plain.items)]
    items[0] = dataclasses.replace(items[0], metrics={"place": 0.0}, undecided="the judge says 'pie'")
    return dataclasses.replace(plain, items=tuple(items))


def test_what_a_task_measured_beside_the_score_stands_on_the_card() -> None:
    models = [contestant("base", LOW), *(measured("a", HIGH, seed, margin=2.0 + seed) for seed in range(2))]
    card = build_score_card(models, "base", "t", "g", metrics={"margin": "Nats between the two.", "unused": "?"})
    assert card.metrics == {"place": "", "margin": "Nats between the two."}
    found = {metric.name: metric for metric in card.row("a").metrics}
    assert (found["margin"].mean, found["margin"].items, found["place"].mean) == (pytest.approx(2.5), 198, 49.5)
    assert card.row("base").metrics == () and (card.row("a").undecided, card.row("base").undecided) == (2, 0)
    text, markdown = to_text(card), to_markdown(card)
    assert max(map(len, text.splitlines())) <= 100
    for said in (text, markdown):
        assert "2.5" in said and "49.5" in said and "Nats between the two." in said
        assert "a: 2 of its 200 items could not be judged, and count as wrong" in said
    assert ScoreCards.from_bytes(ScoreCards((card,)).to_bytes(), "cards").cards == (card,)
    assert items_from_text(items_to_text(models[1].items), "items") == models[1].items
    form = build_forms_card([measured("trained", LOW, margin=1.0), measured("F16", LOW, margin=3.0)], "trained", "t",
                            "g", False, "m", {"margin": "Nats."})
    assert "also measured" in to_text(form) and [row.metrics[1].mean for row in form.rows] == [1.0, 3.0]
    assert "also measured" not in to_text(card_of(contestant("base", LOW)))


def test_a_card_from_before_there_were_metrics_is_read() -> None:
    card = card_of(contestant("base", LOW), contestant("a", HIGH))
    kept = json.loads(ScoreCards((card,)).to_bytes())
    del kept["checksum"], kept["cards"][0]["metrics"]
    for row in kept["cards"][0]["rows"]:
        del row["metrics"], row["undecided"]
    assert ScoreCards.from_bytes(json.dumps(kept).encode(), "cards").cards == (card,)
