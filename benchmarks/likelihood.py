"""Multiple choice by likelihood in torch beside lm-eval's `hf`, on one model and the same questions:

    python -m benchmarks.likelihood MMLU_DEV.jsonl MMLU_TEST.jsonl --peer-python P

The random model of `benchmarks.evaluation`, five worked examples, one thread. Options are scored as letters, or as
texts. lm-eval runs at each batch size that is given and its best counts. Times are CPU times of a whole process without
the loading of the model; every score is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.evaluation import SHOTS, cpu_seconds, make_student, peers
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Continuation, Message, Request

LETTERS = "ABCD"


def main() -> None:
    """Make the model, let both score, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dev", type=Path, help="MMLU, rows for worked examples")
    parser.add_argument("test", type=Path, help="MMLU, rows to answer")
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with lm-eval and torch")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    given = parser.parse_args()
    machine.describe(["torch", "transformers"])
    machine.check_idle(given.busy)
    dev, test = ([json.loads(line) for line in path.read_text().splitlines()] for path in (given.dev, given.test))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        student = make_student(folder / "student", [{"question": row["question"], "answer": " ".join(row["choices"])}
                                                    for row in (*dev, *test)])
        for by in ("texts", "letters"):
            task = {"student": str(student), "dtype": given.dtype, **asked(dev, test[:given.items], by == "letters")}
            (folder / "task.json").write_text(json.dumps(task))
            measure(folder, task, by, given)
    machine.check_idle(True)


def asked(dev: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], letters: bool) -> dict[str, Any]:
    """Each prompt, and what may follow it."""
    def question(row: dict[str, Any]) -> str:
        listed = [f"{letter}. {text}" for letter, text in zip(LETTERS, row["choices"])] if letters else []
        return "\n".join([row["question"], *listed, "Answer:"])

    def right(row: dict[str, Any]) -> str:
        return row["answer"] if letters else row["choices"][LETTERS.index(row["answer"])]

    shots = "".join(f"{question(row)} {right(row)}\n\n" for row in dev[:SHOTS])
    return {"prompts": [shots + question(row) for row in rows],
            "continuations": [[f" {one}" for one in (LETTERS if letters else row["choices"])] for row in rows]}


def measure(folder: Path, task: dict[str, Any], by: str, given: argparse.Namespace) -> None:
    """Both, on one task."""
    scores, seconds = ours(task)
    machine.say(f"{by}: ours {seconds:.1f} CPU s for {len(task['prompts'])} items, {len(scores)} continuations")
    best = 0.0
    for batch, found in peers(given, folder, f"{by}: "):
        error = max(abs(one - other) for one, other in zip(scores, found["texts"], strict=True))
        machine.say(f"{by}: lm-eval {found['version']}, batch {batch}: {found['seconds']:.1f} CPU s, largest "
                    f"difference of a score {error:.1e}")
        best = min(best or found["seconds"], found["seconds"])
    if best:
        machine.say(f"{by}: ratio to its best: {best / seconds:.2f}")


def ours(task: dict[str, Any]) -> tuple[list[float], float]:
    """Scores in order, and CPU seconds."""
    from localdistill.engines.transformers import TransformersEngine

    engine = TransformersEngine(TransformersEngine.Options(model=task["student"], dtype=task["dtype"], threads=1))
    _ = engine.model
    requests = [Request(str(place), (Message("user", prompt),), continuations=tuple(map(Continuation, many)))
                for place, (prompt, many) in enumerate(zip(task["prompts"], task["continuations"]))]
    began = cpu_seconds()
    found = {reply.request_id: reply for reply in engine.answer(iter(requests), silent, Cancel())}
    seconds = cpu_seconds() - began
    engine.close()
    return [one.total for request in requests for one in found[request.id].continuations], seconds


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
