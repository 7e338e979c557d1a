"""Dataset tables and jobs for trainer tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa

from localdistill.objectives.sft import SftObjective
from localdistill.trainers.job import TrainingJob

STOP = 2
SCHEMA = pa.schema([("row_id", pa.string()), ("input_ids", pa.list_(pa.int32())),
                    ("weights", pa.list_(pa.float32())), ("sign", pa.int8()), ("group", pa.string())])


def random_rows(count: int, shortest: int = 6, longest: int = 30, seed: int = 0,
                always: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """`count` rows of random tokens: the first third is prompt, the last token is the stop token."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        length = draw.randint(shortest, longest)
        ids = [draw.randrange(3, 390) for _ in range(length - 1 - len(always))] + [*always, STOP]
        prompt = max(1, length // 3)
        rows.append({"row_id": f"row{number}", "input_ids": ids, "sign": 1, "group": "",
                     "weights": [0.0] * prompt + [1.0] * (length - prompt)})
    return rows


def random_pairs(count: int, shortest: int = 6, longest: int = 30, seed: int = 0) -> list[dict[str, Any]]:
    """`count` groups of a right and a wrong row of random tokens."""
    rows = random_rows(2 * count, shortest, longest, seed)
    for number, row in enumerate(rows):
        row["sign"], row["group"] = (-1 if number % 2 else 1), f"pair{number // 2}"
    return rows


def table(rows: list[dict[str, Any]]) -> pa.Table:
    """The dataset table of `rows`, with the columns of lists that they have beside it."""
    more = [(name, pa.list_(pa.int32() if name == "listed" else pa.float32())) for name in (rows[0] if rows else ())
            if name == "listed" or name.startswith("logprobs_")]
    return pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMA, *more]))


def taught(rows: list[dict[str, Any]], further: int = 2, seed: int = 0) -> list[dict[str, Any]]:
    """The rows with so many tokens listed beside each trained one, and what a teacher gave all of them."""
    draw = random.Random(seed)
    made = []
    for row in rows:
        own = [token for token, weight in zip(row["input_ids"], row["weights"]) if weight > 0]
        listed = [draw.sample([token for token in range(3, 390) if token != one], further) for one in own]
        told = [-draw.uniform(0.2, 4.0) for _ in range(len(own) * (1 + further))]
        made.append({**row, "listed": [token for tokens in listed for token in tokens], "logprobs_teacher": told})
    return made


def job(student: Path, output: Path, rows: list[dict[str, Any]], **changes: Any) -> TrainingJob:
    """A training of `student` on `rows` into `output`."""
    values: dict[str, Any] = {
        "arm": "arm", "student": student, "rows": table(rows), "stop_token_id": STOP, "tag_token_ids": (),
        "objective": SftObjective(), "output": output, "seed": 3,
    }
    return TrainingJob(**(values | changes))
