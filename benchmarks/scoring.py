"""Scoring with a shared prefix by the transformers engine, beside a plain loop over the same model in the same process.

    python -m benchmarks.scoring [--items 12] [--hidden 512] [--layers 8] [--threads 1] [--repeats 3] [--busy]

Every item is a question behind the same five worked examples, with four continuations: a text each, or a letter each.
loop: one forward pass for each continuation over all its tokens, logits of the continuation alone.
padded: the same in batches of eight, padded to the longest, nothing shared; both are what likelihood usually costs.

Weights are random and small, in the shape of Qwen3 with 32,000 rows of vocabulary: the ratios say what sharing saves,
not how fast a real model is. What both sides find is compared before anything is timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Continuation, Message, Request
from localdistill.engines.transformers import TransformersEngine
from tests.tiny_models import CORPUS, tiny_model

SHOTS = "\n\n".join(f"{CORPUS[0]} {CORPUS[1]} {CORPUS[2]} Example {number}." for number in range(5))
TEXTS = tuple(f" {n} apples are left, so the answer is {n}" for n in ("12", "7", "5", "17"))
LETTERS = ("A", "B", "C", "D")
PADDED_ROWS = 8
MOST_ERROR = 1e-3


def requests(items: int, continuations: tuple[str, ...]) -> list[Request]:
    """Questions behind one beginning, `continuations` behind each."""
    questions = (f"{SHOTS}\n\nQuestion {n}: a farmer has {n + 20} apples and gives away {n + 3}." for n in range(items))
    return [Request(str(number), (Message("user", text),), continuations=tuple(map(Continuation, continuations)))
            for number, text in enumerate(questions)]


def rows_of(engine: TransformersEngine, asked: list[Request]) -> list[tuple[list[int], int]]:
    """The tokens of every prefix with its continuation, and where the continuation begins."""
    return [([*target.prefix, *target.ids], len(target.prefix))
            for request in asked for target in engine._targets(request)]


def looped(model: Any, rows: list[tuple[list[int], int]]) -> list[float]:
    """One forward pass for each row."""
    found = []
    with torch.inference_mode():
        for ids, begin in rows:
            own = torch.tensor(ids[begin:])
            logits = model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=len(own) + 1).logits[0, :-1]
            found.append(float(logits.log_softmax(-1)[range(len(own)), own].sum()))
    return found


def padded(model: Any, rows: list[tuple[list[int], int]]) -> list[float]:
    """One forward pass for eight rows, padded on the left."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(rows), PADDED_ROWS):
            part = rows[start:start + PADDED_ROWS]
            longest, most = max(len(ids) for ids, _ in part), max(len(ids) - begin for ids, begin in part)
            table = torch.tensor([[0] * (longest - len(ids)) + ids for ids, _ in part])
            mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in part])
            logits = model(input_ids=table, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                           use_cache=False, logits_to_keep=most + 1).logits[:, :-1].log_softmax(-1)
            for (ids, begin), scores in zip(part, logits):
                own = ids[begin:]
                found.append(float(scores[-len(own):][range(len(own)), own].sum()))
    return found


def measure(engine: TransformersEngine, asked: list[Request], name: str, repeats: int) -> None:
    """Both peers beside the engine."""
    def ours() -> list[float]:
        replies = {reply.request_id: reply for reply in engine.answer(iter(asked), silent, Cancel())}
        return [one.total for request in asked for one in replies[request.id].continuations]

    rows, model = rows_of(engine, asked), engine.model
    machine.say(f"{name}: {len(asked)} items, {len(rows)} continuations, prefixes of {rows[0][1]} tokens, "
                f"{sum(len(ids) - begin for ids, begin in rows) / len(rows):.1f} tokens each")
    peers: dict[str, Callable[[], list[float]]] = {
        "loop": lambda: looped(model, rows), "padded": lambda: padded(model, rows)}
    for peer, work in peers.items():
        error = max(abs(a - b) for a, b in zip(ours(), work(), strict=True))
        assert error < MOST_ERROR, f"{peer} finds something else: {error}"
        found = machine.compare(work, ours, repeats)
        low, high = found.spread()
        theirs, mine = (statistics.median(sample.cpu_s for sample in side) for side in (found.peer, found.ours))
        machine.say(f"{name}: {found.ratio():.1f} times as fast as {peer} (pairs {low:.1f} to {high:.1f}), with "
                    f"{theirs / mine:.1f} times less CPU; largest difference of a sum {error:.1e}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    machine.add_arguments(parser)
    for name, value in (("items", 12), ("hidden", 512), ("layers", 8), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    machine.describe(["torch", "transformers"])
    machine.check_idle(given.busy)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        student = tiny_model(Path(folder) / "m", "qwen3", hidden=given.hidden, layers=given.layers, vocab_size=32_000,
                             max_position_embeddings=4096, initializer_range=0.02)
        options = {"model": str(student), "dtype": "float32", "threads": given.threads}
        engine = TransformersEngine(TransformersEngine.Options.model_validate(options))
        for name, continuations in (("texts", TEXTS), ("letters", LETTERS)):
            measure(engine, requests(given.items, continuations), name, given.repeats)
        engine.close()


if __name__ == "__main__":
    main()
