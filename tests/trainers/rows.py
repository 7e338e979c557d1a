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
    """The dataset table of `rows`."""
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def job(student: Path, output: Path, rows: list[dict[str, Any]], **changes: Any) -> TrainingJob:
    """A training of `student` on `rows` into `output`."""
    values: dict[str, Any] = {
        "arm": "arm", "student": student, "rows": table(rows), "stop_token_id": STOP, "tag_token_ids": (),
        "objective": SftObjective(), "output": output, "seed": 3,
    }
    return TrainingJob(**(values | changes))
