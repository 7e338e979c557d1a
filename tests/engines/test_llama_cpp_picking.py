"""Drawing tokens from logits: the distribution that temperature, top-k and top-p mean."""

from __future__ import annotations

import math

import pytest

from localdistill.engines.llama_cpp_native.sampling import drawn_token, score_row

np = pytest.importorskip("numpy")

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2], np.float32))


def shares(temperature: float, top_p: float, top_k: int) -> list[float]:
    """The share of each token over evenly spread chances."""
    counts = np.zeros(len(LOGITS))
    for step in range(2000):
        counts[drawn_token(LOGITS, temperature, top_p, top_k, (step + 0.5) / 2000)] += 1
    return [round(float(c), 3) for c in counts / 2000]


def test_temperature_one_draws_the_distribution_itself() -> None:
    assert shares(1.0, 1.0, 0) == pytest.approx([0.1, 0.4, 0.05, 0.25, 0.2], abs=0.002)


def test_a_lower_temperature_sharpens() -> None:
    squares = [0.01, 0.16, 0.0025, 0.0625, 0.04]
    assert shares(0.5, 1.0, 0) == pytest.approx([s / sum(squares) for s in squares], abs=0.002)


def test_top_k_keeps_the_likeliest() -> None:
    assert shares(1.0, 1.0, 2) == pytest.approx([0, 0.4 / 0.65, 0, 0.25 / 0.65, 0], abs=0.002)
    assert shares(1.0, 1.0, 99) == shares(1.0, 1.0, 0)


@pytest.mark.parametrize(("top_p", "kept"), [(0.3, [1]), (0.5, [1, 3]), (0.8, [1, 3, 4]), (0.9, [0, 1, 3, 4])])
def test_top_p_keeps_the_token_that_crosses_it(top_p: float, kept: list[int]) -> None:
    whole = [0.1, 0.4, 0.05, 0.25, 0.2]
    mass = sum(whole[i] for i in kept)
    expected = [p / mass if i in kept else 0 for i, p in enumerate(whole)]
    assert shares(1.0, top_p, 0) == pytest.approx(expected, abs=0.002)


def test_top_p_counts_what_top_k_and_temperature_left() -> None:
    assert shares(1.0, 0.6, 2) == pytest.approx([0, 1, 0, 0, 0], abs=0.002)  # 0.4 / 0.65 is more than 0.6
    assert shares(0.01, 0.9, 0) == [0, 1, 0, 0, 0]


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0 - 2**-53])
def test_forbidden_tokens_are_never_drawn(chance: float) -> None:
    masked = np.full(50, -np.inf, np.float32)
    masked[[7, 31]] = 0.0, -1.0
    for top_p in (1.0, 0.9):
        assert drawn_token(masked, 1.0, top_p, 0, chance) in (7, 31)


def test_scores_are_logarithms_of_shares() -> None:
    token, logprob, ids, top = score_row(LOGITS + 5, 4, 3)
    assert token == 4 and math.isclose(math.exp(logprob), 0.2, rel_tol=1e-5) and ids == [1, 3, 4]
    assert [round(math.exp(x), 5) for x in top] == [0.4, 0.25, 0.2]
