"""Rows to measure with: answered questions with reasoning, of the size of real traces (about 1.9 kB), whose words are
as unevenly frequent as those of a language. The same rows for the same number."""

from __future__ import annotations

import json
import random
from itertools import accumulate
from pathlib import Path

WORDS, LETTERS = 20_000, "etaoinshrdlucmfwypvbgkqjxz"
BLOCK = 200


def write_rows(path: Path, count: int, words: int = 290) -> int:
    """Write `count` rows as messages, one in ten a copy of an earlier one, one in ten without an answer that is right;
    returns the bytes."""
    chance = random.Random(7)
    known = ["".join(chance.choices(LETTERS, range(26, 0, -1), k=chance.randint(2, 9))) for _ in range(WORDS)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(WORDS)))
    kept: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            if number % 10 == 9:
                file.write(kept[number % len(kept)])
                continue
            text = " ".join(chance.choices(known, cum_weights=weights, k=words))
            right = number % 10 != 3
            row = {"messages": [
                {"role": "user", "content": f"Ann has {number} apples and finds {number % 97} more. How many now?"},
                {"role": "assistant", "reasoning_content": text,
                 "content": f"The answer is {number + number % 97 + (not right)}."}],
                "reference": str(number + number % 97), "verified": right}
            line = json.dumps(row) + "\n"
            file.write(line)
            if len(kept) < BLOCK:
                kept.append(line)
    return path.stat().st_size
