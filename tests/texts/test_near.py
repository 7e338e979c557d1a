"""Near-duplicates, checked against exact Jaccard similarities."""

import random
import sys

import pytest

from localdistill.core.borders import BORDERS
from localdistill.texts.near import NearTexts, similarity

WORDS = [f"w{number}" for number in range(300)]


def corpus(seed: int, count: int) -> list[str]:
    """Random texts, half of them others with a few words changed."""
    chance = random.Random(seed)
    texts: list[list[str]] = []
    for number in range(count):
        words = list(chance.choice(texts)) if number % 2 and texts else [chance.choice(WORDS) for _ in range(60)]
        for _ in range(chance.choice((0, 1, 2, 4, 8)) if number % 2 else 0):
            words[chance.randrange(60)] = chance.choice(WORDS)
        texts.append(words)
    return [" ".join(words) for words in texts]


def exact(texts: list[str], threshold: float, ngram: int) -> list[bool]:
    """Whether each text stays, by comparing it with all that stayed."""
    kept: list[frozenset[str]] = []
    verdicts = []
    for text in texts:
        words = text.split()
        own = frozenset(" ".join(words[at:at + ngram]) for at in range(len(words) - ngram + 1))
        verdicts.append(all(similarity(own, other) < threshold for other in kept))
        if verdicts[-1]:
            kept.append(own)
    return verdicts


@pytest.mark.parametrize("without", [False, True])
def test_what_is_kept_is_what_exact_similarity_keeps(without: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if without:
        monkeypatch.setitem(sys.modules, "rensa", None)
    else:
        pytest.importorskip("rensa")
    texts = corpus(3, 400)
    monkeypatch.setattr(BORDERS, "near_texts", 64)
    ours = [found is None for found in NearTexts(0.7, 3).look_through(texts)]
    theirs = exact(texts, 0.7, 3)
    both, either = (sum(a and b for a, b in zip(ours, theirs)), sum(a or b for a, b in zip(ours, theirs)))
    assert both / either >= 0.98 and 200 < sum(ours) < 400
    assert not without or ours == theirs


def test_the_nearest_is_named_with_the_exact_similarity() -> None:
    texts = ["a b c d", "e f g h", "A b, c d", "e f g h", " ", "", "\ud800 x", "\ud800 x"]
    assert list(NearTexts(0.5, 1).look_through(texts)) == [
        None, None, (0, 0.8), (1, 1.0), None, None, None, (6, 1.0)]


def test_numbers_count_as_equal_where_asked() -> None:
    texts = ["A hen lays 3 eggs in 7 days", "A hen lays 5 eggs in 9 days"]
    assert list(NearTexts(0.9, 2).look_through(texts)) == [None, None]
    assert list(NearTexts(0.9, 2, mask_numbers=True).look_through(texts)) == [None, (0, 1.0)]


def test_texts_without_blanks_are_cut_at_marks() -> None:
    long = ",".join(WORDS)
    first, second, third = NearTexts(0.9, 3).look_through([long, f"{long},w0", "w0,w1"])
    assert first is third is None and second == (0, pytest.approx(1, abs=0.01))
