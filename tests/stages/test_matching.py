"""Which prompts arms train on and how much rows count: exact shares, as many prompts as can be, each counting once."""

from __future__ import annotations

import random
from itertools import product

import pytest

from localdistill.core.errors import UsageError
from localdistill.stages.matching import Bundle, Match, Offer, match, quotas


def offer(name: str, prompts: str, share: float | None = None, weight: float = 1.0) -> Offer:
    """One bundle for each letter."""
    return Offer(name, {prompt: [Bundle()] * prompts.count(prompt) for prompt in prompts}, share, weight)


def counted(found: Match) -> dict[str, float]:
    """What each prompt counts in the arm."""
    held: dict[str, float] = {}
    for part in found.weights:
        for prompt, weights in part.items():
            held[prompt] = held.get(prompt, 0.0) + sum(weights)
    return held


def test_arms_train_on_the_prompts_that_all_of_them_serve() -> None:
    prompts, found = match({"a": [offer("a", "pqr")], "b": [offer("b", "qqrs")]}, 0)
    assert prompts == {"q", "r"}
    assert found["a"] == Match(({"q": [1.0], "r": [1.0]},), 0)
    assert found["b"].weights[0] == {"q": [0.5, 0.5], "r": [1.0]} and found["b"].several == 1
    assert counted(found["a"]) == counted(found["b"]) == {"q": 1.0, "r": 1.0}


def test_what_all_rows_share_is_no_weight() -> None:
    _, found = match({"a": [offer("a", "ppqq")]}, 0)
    assert found["a"].weights[0] == {"p": [1.0, 1.0], "q": [1.0, 1.0]} and found["a"].several == 2


def test_parts_without_shares_add_up_to_one_by_their_weights() -> None:
    _, found = match({"a": [offer("long", "ppq", weight=3.0), offer("short", "pqr")]}, 0)
    long, short = found["a"].weights
    assert long == {"p": [0.375, 0.375], "q": [0.75]} and short == {"p": [0.25], "q": [0.25], "r": [1.0]}
    assert counted(found["a"]) == {"p": 1.0, "q": 1.0, "r": 1.0} and found["a"].several == 2


def test_rows_of_different_epochs_do_not_share_a_weight() -> None:
    bundles = {"p": [Bundle(epoch=0), Bundle(epoch=1)], "q": [Bundle(), Bundle(3.0)], "r": [Bundle(), Bundle(epoch=0)]}
    _, found = match({"a": [Offer("a", bundles)]}, 0)
    assert found["a"].weights[0] == {"p": [1.0, 1.0], "q": [0.25, 0.75], "r": [0.5, 0.5]}
    assert found["a"].several == 2


def test_shares_are_whole_numbers_that_add_up() -> None:
    assert quotas([0.2, 0.8], 10) == [2, 8] and quotas([0.2, 0.8], 7) == [1, 6]
    assert quotas([1 / 3, 1 / 3, 1 / 3], 10) == [4, 3, 3] and quotas([0.1] * 10, 30) == [3] * 10
    for total in range(40):
        assert sum(quotas([0.15, 0.35, 0.5], total)) == total


def test_a_part_serves_its_share_of_the_prompts() -> None:
    letters = "abcdefghij"
    arms = {"mix": [offer("long", letters, 0.2), offer("short", letters, 0.8)], "other": [offer("o", letters)]}
    prompts, found = match(arms, 3)
    long, short = found["mix"].weights
    assert (len(long), len(short), found["mix"].wanting) == (2, 8, ()) and prompts == set(letters)
    assert set(long).isdisjoint(short) and counted(found["mix"]) == dict.fromkeys(letters, 1.0)
    assert match(arms, 3)[1] == found and match(arms, 4)[1] != found
    weighed = match({"mix": [offer("long", letters, 0.2, 2.0), offer("short", letters * 2, 0.8)]}, 3)[1]["mix"]
    assert {sum(own) for own in weighed.weights[0].values()} == {2.0}
    assert {sum(own) for own in weighed.weights[1].values()} == {1.0}


def test_a_share_that_cannot_be_filled_shrinks_every_arm_and_is_said() -> None:
    arms = {"mix": [offer("long", "ab", 0.5), offer("short", "abcdefgh", 0.5)], "other": [offer("o", "abcdefgh")]}
    prompts, found = match(arms, 0)
    long, short = found["mix"].weights
    assert (len(long), len(short)) == (2, 2) and set(long) == {"a", "b"}
    assert prompts == set(long) | set(short) == set(counted(found["other"]))
    assert found["mix"].wanting == (
        "part 'long' can serve 2 of the 4 prompts that its share of 0.5 comes to",
        "so it trains on 4 of 8 prompts, and every arm with it")
    assert found["other"].wanting == ()


def best(parts: list[Offer], shares: list[float], prompts: list[str]) -> int:
    """The most prompts that can be handed out in exact shares, by trying everything."""
    most = 0
    for given in product(range(-1, len(parts)), repeat=len(prompts)):
        counts = [given.count(n) for n in range(len(parts))]
        fits = all(n < 0 or prompt in parts[n].bundles for prompt, n in zip(prompts, given, strict=True))
        if fits and counts == quotas(shares, sum(counts)):
            most = max(most, sum(counts))
    return most


@pytest.mark.parametrize("seed", range(25))
def test_as_many_prompts_are_handed_out_as_any_way_could(seed: int) -> None:
    draw = random.Random(seed)
    shares = draw.choice([[0.5, 0.5], [0.2, 0.8], [0.5, 0.25, 0.25], [0.6, 0.3, 0.1]])
    prompts = list("abcdefg"[:draw.randint(1, 7 if len(shares) == 2 else 6)])
    parts = [Offer(str(n), {p: [Bundle()] for p in prompts if draw.random() < 0.6}, share)
             for n, share in enumerate(shares)]
    served = sorted(set().union(*(part.bundles for part in parts)))
    found, matched = match({"mix": parts}, seed)
    sizes = [len(own) for own in matched["mix"].weights]
    assert sizes == quotas(shares, len(found)) and len(found) == best(parts, shares, served)
    for part, own in zip(parts, matched["mix"].weights, strict=True):
        assert set(own) <= set(part.bundles)
    assert bool(matched["mix"].wanting) is (len(found) < len(served))


@pytest.mark.parametrize("seed", range(10))
def test_arms_with_shares_agree_on_the_prompts_that_each_has_need_of(seed: int) -> None:
    arms = {"one": [offer("a", "ab", 0.5), offer("b", "abcdefgh", 0.5)],
            "two": [offer("c", "gh", 0.5), offer("d", "abcdefgh", 0.5)], "three": [offer("e", "abcdefgh")]}
    prompts, found = match(arms, seed)
    assert prompts == set("abgh")
    for name in arms:
        assert set(counted(found[name])) == prompts
    for name, part in (("one", "a"), ("two", "c")):
        assert [len(own) for own in found[name].weights] == [2, 2]
        assert found[name].wanting == (
            f"part '{part}' can serve 2 of the 4 prompts that its share of 0.5 comes to",
            "so it trains on 4 of 8 prompts, and every arm with it")


def test_which_part_serves_a_prompt_is_left_to_chance() -> None:
    arms = {"mix": [offer("long", "abcdefgh", 0.5), offer("short", "abcdefgh", 0.5)]}
    given = {tuple(sorted(match(arms, seed)[1]["mix"].weights[0])) for seed in range(20)}
    assert len(given) > 10 and {letter for own in given for letter in own} == set("abcdefgh")


@pytest.mark.parametrize(("shares", "said"), [
    ((0.5, None), "some of its parts have a share"), ((0.5, 0.4), "add up to 0.9, not to 1"),
    ((1.5, -0.5), "a share of -0.5"),
])
def test_shares_that_mean_nothing_are_refused(shares: tuple[float | None, ...], said: str) -> None:
    with pytest.raises(UsageError, match=f"arm 'mix': .*{said}"):
        match({"mix": [offer(str(n), "ab", share) for n, share in enumerate(shares)]}, 0)
