"""Near-duplicates of long texts beside datasketch, both with 128 permutations at a similarity of 0.7 of their 3-grams:
the index alone, given the n-grams, and the whole with cutting the texts; what is kept is compared with exact
similarities. The peer runs in its own interpreter.

    python -m benchmarks.near_duplicates --peer-python P [--texts 20000]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

THRESHOLD, NGRAM = 0.7, 3


def corpus(count: int, words: int = 400, seed: int = 1) -> list[str]:
    """Random texts, a third of them others with some words changed."""
    chance = random.Random(seed)
    known, made = [f"w{number}" for number in range(5000)], list[list[str]]()
    for number in range(count):
        text = list(chance.choice(made)) if number % 3 == 2 else [chance.choice(known) for _ in range(words)]
        for _ in range(chance.choice((0, 2, 8, 16, 40)) if number % 3 == 2 else 0):
            text[chance.randrange(words)] = chance.choice(known)
        made.append(text)
    return [" ".join(text) for text in made]


def shingles(text: str) -> list[str]:
    """The n-grams of a text."""
    words = text.split()
    return [" ".join(words[at:at + NGRAM]) for at in range(len(words) - NGRAM + 1)]


def peer(texts: list[str]) -> dict[str, object]:
    """datasketch at its best: updates in batches. Its index says what to keep."""
    from datasketch import MinHash, MinHashLSH

    begun = time.process_time()
    cut = [shingles(text) for text in texts]
    cutting = time.process_time() - begun
    index, kept = MinHashLSH(threshold=THRESHOLD, num_perm=128), []
    for number, tokens in enumerate(cut):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([token.encode() for token in tokens])
        if not any(True for _ in index.query(sketch)):
            index.insert(number, sketch)
            kept.append(number)
    return {"index_s": time.process_time() - begun - cutting, "all_s": time.process_time() - begun, "kept": kept}


def ours(texts: list[str]) -> dict[str, object]:
    """Our index with its exact comparisons; the cutting is timed once more by itself."""
    from localdistill.core.borders import BORDERS
    from localdistill.texts.near import NearTexts
    from localdistill.texts.ngrams import WordGrams

    list(NearTexts(THRESHOLD, NGRAM).look_through(texts[:2]))  # libraries are loaded
    near, cutter = NearTexts(THRESHOLD, NGRAM), WordGrams(NGRAM)
    begun = time.process_time()
    kept = [number for number, found in enumerate(near.look_through(texts)) if found is None]
    whole = time.process_time() - begun
    begun = time.process_time()
    for at in range(0, len(texts), BORDERS.near_texts):
        cutter.rows_of(texts[at:at + BORDERS.near_texts])
    return {"index_s": whole - (time.process_time() - begun), "all_s": whole, "kept": kept}


def exact(texts: list[str]) -> list[int]:
    """What exact similarities keep: every text is compared with all before that share an n-gram."""
    of: dict[str, list[int]] = {}
    sets, kept = dict[int, frozenset[str]](), []
    for number, text in enumerate(texts):
        own = frozenset(shingles(text))
        near = {other for token in own for other in of.get(token, ())}
        if all(len(own & sets[other]) < THRESHOLD * len(own | sets[other]) for other in near):
            kept.append(number)
            sets[number] = own
            for token in own:
                of.setdefault(token, []).append(number)
    return kept


def main() -> None:
    """Print both and the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python", default="")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    texts = corpus(chosen.texts)
    if chosen.as_peer:
        print(json.dumps(peer(texts)))
        return
    from localdistill.safety.children import output_of  # the peer does without us

    right = set(exact(texts))
    sides = {"ours": ours(texts)}
    if chosen.peer_python:
        command = [chosen.peer_python, str(Path(__file__)), "--as-peer", "--texts", str(chosen.texts)]
        sides["datasketch"] = json.loads(output_of(command, 3600) or b"")
    print(f"{chosen.texts:,} texts of 400 words, {len(right):,} kept by exact similarity; CPU time, "
          f"python {sys.version[:6]}")
    for name, side in sides.items():
        kept = set(side["kept"])
        print(f"{name}: index {1e6 * side['index_s'] / len(texts):.0f} us a text, with cutting "
              f"{1e6 * side['all_s'] / len(texts):.0f} us; kept {len(kept):,}, Jaccard with the exact set "
              f"{len(kept & right) / len(kept | right):.4f}")
    if len(sides) == 2:
        ratio = {key: sides["datasketch"][key] / sides["ours"][key] for key in ("index_s", "all_s")}
        print(f"ratio: index {ratio['index_s']:.1f}, with cutting {ratio['all_s']:.1f}")


if __name__ == "__main__":
    main()
