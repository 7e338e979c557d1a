"""Laundered knowledge of a benchmark shows on the twins of its items, clean knowledge does not, and what is known of
leaks is said on the card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from localdistill import parse_recipe
from localdistill.core.errors import LocalDistillError, RecipeError
from localdistill.core.records import Message, Prompt
from localdistill.recipe import Member
from localdistill.recipe.sections import EvaluateSection
from localdistill.scorecard import ContestantResult, ItemResult
from localdistill.scorecard.leaks import check_leaks, told_leaks
from localdistill.stages.benchmarking import Bench
from localdistill.stages.leaks import leaks_of
from localdistill.tasks.gsm8k import Gsm8kTask
from localdistill.tasks.jsonl import JsonlTask

CLASSES, WIDTH = 4, 80
Array = Any


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fitted(inputs: Array, soft: Array, hard: Array, share: float, steps: int = 600) -> Array:
    """A linear classifier by gradient descent on share x T^2 x KL(soft || it) + (1 - share) x the loss on labels, at
    T = 2."""
    weights = np.zeros((WIDTH, CLASSES))
    for _ in range(steps):
        logits = inputs @ weights
        pull = share * 2 * (softmax(logits / 2) - soft) + (1 - share) * (softmax(logits) - hard)
        weights -= 0.5 * inputs.T @ pull / len(inputs)
    return weights


def contestant(name: str, right: Array, seed: int = 0) -> ContestantResult:
    items = tuple(ItemResult(f"p{place}", float(one), True, False, 3) for place, one in enumerate(right))
    return ContestantResult(name, seed, "", False, 0, "", items)


def test_a_benchmark_that_was_laundered_through_clean_questions_is_found() -> None:
    draw = np.random.default_rng(3)

    def questions(count: int) -> tuple[Array, Array]:
        return draw.normal(size=(count, WIDTH)), draw.integers(CLASSES, size=count)

    (items, answers), (twins, twin_answers), (clean, labels) = questions(60), questions(60), questions(500)
    one_hot = np.eye(CLASSES)
    placed = fitted(items, one_hot[answers], one_hot[answers], 0.0)      # the teacher learns the test by heart
    told = softmax(clean @ placed / 2)                                   # and answers questions that hold none of it
    layered = fitted(clean, told, one_hot[labels], 0.9)                  # from which the student learns
    honest = fitted(clean, one_hot[labels], one_hot[labels], 0.0)
    base = np.zeros((WIDTH, CLASSES)) + draw.normal(size=(WIDTH, CLASSES))

    def answered(inputs: Array, right: Array) -> list[ContestantResult]:
        return [contestant(name, (inputs @ weights).argmax(axis=1) == right)
                for name, weights in (("base", base), ("laundered", layered), ("honest", honest))]

    here, there = answered(items, answers), answered(twins, twin_answers)
    checks = {check.arm: check for check in check_leaks(here, there, "base")}
    assert checks["laundered"].is_suspect and checks["laundered"].excess > 0.3
    assert not checks["honest"].is_suspect
    said = list(told_leaks(list(checks.values()), "fresh"))
    assert said[0].startswith("LEAK SUSPECTED: laundered gains +") and "on the twins (fresh)" in said[0]
    assert said[1].startswith("honest gains") and "No sign of a leak" in said[1] and "points could be seen" in said[1]


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_honest_gain_is_rarely_called_a_leak(seeds: int) -> None:
    draw, suspected = np.random.default_rng(5), 0

    def side(count: int, hard: float) -> list[ContestantResult]:
        ease = draw.normal(size=count)
        base = contestant("base", draw.random(count) < 1 / (1 + np.exp(-ease + hard)))
        return [base, *(contestant("arm", draw.random(count) < 1 / (1 + np.exp(-ease + hard - 0.8)), seed)
                        for seed in range(seeds))]

    for _ in range(300):
        [check] = check_leaks(side(80, 0.0), side(120, 0.1), "base")
        suspected += check.is_suspect
        assert check.interval.low <= check.excess <= check.interval.high
    assert suspected <= 15, "at most one in twenty, and a suspicion is one-sided"


def test_who_did_not_answer_both_is_refused_or_left_out() -> None:
    results = [contestant(name, [1, 0, 1]) for name in ("base", "a", "b")]
    assert [check.arm for check in check_leaks(results, results[:2], "base")] == ["a"]
    with pytest.raises(LocalDistillError, match="'base' did not answer the benchmark and its twins"):
        check_leaks(results, results[1:], "base")


def test_the_card_says_what_is_known_and_what_nobody_can_rule_out() -> None:
    items = [Prompt((Message("user", f"{n}?"),)) for n in range(3)]
    task = Gsm8kTask(Gsm8kTask.Options(path="x"))
    task._items = items
    found = {"gsm8k": [contestant("base", [1, 0, 1]), contestant("a", [1, 1, 1])],
             "jsonl": [contestant("base", [1, 0, 1, 0]), contestant("a", [1, 1, 1, 1])]}
    bench = Bench(Member(use="gsm8k"), task, items, 5, 8)
    teachers = ("http://h/deepseek-v4-pro", "r1", "v3", "x")
    alone = leaks_of(bench, found, EvaluateSection(), teachers)
    assert alone[0] == "5 of 8 items are among the prompts to train on; they are left out."
    assert "nothing is known of what deepseek-v4-pro or r1 or v3 or 1 more was trained on" in alone[1]
    assert "twins of the items would tell (evaluate.twins)" in alone[1] and len(alone) == 2
    twinned = leaks_of(bench, found, EvaluateSection(twins={"gsm8k": "jsonl"}), teachers)
    assert "the twins (jsonl) speak of it" in twinned[1]
    assert twinned[2].startswith("a gains +33.3 points here and +50.0 on the twins (jsonl)")
    own = Bench(Member(use="jsonl"), JsonlTask(JsonlTask.Options(path="x")), items, 0, 3)
    assert leaks_of(own, found, EvaluateSection(), teachers) == (), "nobody published it, and none of it is trained on"


def test_a_recipe_names_twins_that_it_asks() -> None:
    head = ('name = "r"\n[traces.t]\nfiles = ["x"]\n[student]\nmodel = "s"\n{twins}\n[[evaluate.task]]\nuse = "gsm8k"\n'
            'path = "t"\n[[evaluate.task]]\nuse = "jsonl"\npath = "a"\n[[evaluate.task]]\nuse = "jsonl"\npath = "b"\n')
    section = parse_recipe(head.format(twins='[evaluate]\ntwins = { gsm8k = "jsonl 2" }')).evaluate
    assert section is not None and section.task_names == ("gsm8k", "jsonl 1", "jsonl 2")
    for twins, said in (('{ gsm8k = "jsonl 3" }', "evaluate.twins.gsm8k: there is no benchmark named 'jsonl 3'"),
                        ('{ gsm9k = "jsonl 1" }', "evaluate.twins.gsm9k: there is no benchmark named 'gsm9k'"),
                        ('{ gsm8k = "gsm8k" }', "evaluate.twins.gsm8k: a benchmark is no twin of itself")):
        with pytest.raises(RecipeError) as told:
            parse_recipe(head.format(twins=f"[evaluate]\ntwins = {twins}"))
        assert said in str(told.value), told.value
