"""What a training in MLX holds in memory: the output projection, the way back through the layers, and making a base of
few bits; each beside the plain way. What MLX itself counts at its peak, above what it held before.

    python -m benchmarks.mlx_memory [--repeats 3]

head: log-probabilities of 1,024 trained positions over 32,000 tokens and their gradient: all logits at once, mlx-lm's
    own loss under `mx.checkpoint`, and our chunks.
layers: one step of LoRA (rank 8) on 1,536 tokens through 12 layers of width 256: every activation kept, layers
    recomputed as mlx-lm's `grad_checkpoint` does it, and ours, layer by layer.
base: a student of 12 layers of width 512 in 4 bits: all of it loaded and then quantized, ours, layer by layer, and
    loading what was kept.

Every figure is a process of its own, for a peak cannot be forgotten. Memory hardly depends on what else runs, so that
a busy machine is no obstacle.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine
from localdistill.safety.children import output_of

POSITIONS, VOCABULARY, WIDTH = 1024, 32_000, 256
LAYERS, ROWS, LENGTH = 12, 6, 256
SIDES = {"head": ("full", "checkpointed", "ours"), "layers": ("plain", "checkpointed", "ours"),
         "base": ("whole", "ours", "kept")}
WORDS = {"head": "1,024 positions, 32,000 tokens", "layers": "12 layers, 1,536 tokens", "base": "12 layers in 4 bits"}


def above(work: Callable[[], object]) -> int:
    """Bytes that `work` holds at its peak, above what is held before."""
    import mlx.core as mx

    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    work()
    return int(mx.get_peak_memory()) - int(before)


# ---- the output projection


def head(side: str) -> int:
    """See the module."""
    import mlx.core as mx
    import numpy as np

    mx.random.seed(1)
    weight, hidden = mx.random.normal((VOCABULARY, WIDTH)) * 0.05, mx.random.normal((POSITIONS, WIDTH))
    listed = mx.random.randint(0, VOCABULARY, (POSITIONS, 1))
    mx.eval(weight, hidden, listed)

    def loss(given: Any, tokens: Any) -> Any:
        logits = given @ weight.T
        return -(mx.take_along_axis(logits, tokens, axis=-1)[:, 0] - mx.logsumexp(logits, axis=-1)).sum()

    def whole() -> None:
        mx.eval(mx.value_and_grad(loss)(hidden, listed))

    def checkpointed() -> None:
        def part(at: int) -> Any:
            return mx.checkpoint(lambda given: loss(given, listed[at:at + 128]))

        def all_parts(given: Any) -> Any:
            return sum((part(at)(given[at:at + 128]) for at in range(0, POSITIONS, 128)), mx.array(0.0))

        mx.eval(mx.value_and_grad(all_parts)(hidden))

    def ours() -> None:
        from types import SimpleNamespace

        from localdistill.trainers.mlx.head import ChunkedHead
        from localdistill.trainers.stepping import PositionValues

        owner = SimpleNamespace(model=SimpleNamespace(lm_head=SimpleNamespace(weight=weight)), head=None, tags=())
        made: Any = ChunkedHead(owner, False)  # type: ignore[arg-type]
        made.pull(hidden, listed, frozenset(),
                  lambda part, values: PositionValues(np.ones((part.stop - part.start, 1), np.float32)))

    return above({"full": whole, "checkpointed": checkpointed, "ours": ours}[side])


# ---- the layers


def layers(side: str) -> int:
    """See the module."""
    import mlx.core as mx
    from mlx import nn

    from localdistill.core.events import silent
    from localdistill.objectives.sft import SftObjective
    from localdistill.trainers._rows import read_rows
    from localdistill.trainers.backend import StepWork
    from localdistill.trainers.mlx.backend import MlxBackend
    from localdistill.trainers.mlx.options import MlxOptions
    from tests.tiny_models import tiny_model
    from tests.trainers.rows import job, random_rows, table

    with tempfile.TemporaryDirectory() as name:
        student = tiny_model(Path(name) / "student", hidden=WIDTH, layers=LAYERS)
        rows = random_rows(ROWS, LENGTH, LENGTH)
        backend, data = MlxBackend(MlxOptions(rank=8, dtype="float32")), read_rows(table(rows))
        backend.load(job(student, Path(name), rows), data, silent)
        if side == "ours":
            work = StepWork(data, range(ROWS), SftObjective())
            return above(lambda: backend.accumulate(work))
        from mlx_lm.tuner.trainer import grad_checkpoint

        model = backend.adapted.model
        ids = mx.array(data.ids.reshape(ROWS, LENGTH).astype("int32"))
        if side == "checkpointed":
            grad_checkpoint(model.layers[0])

        def loss(own: Any) -> Any:
            return nn.losses.cross_entropy(own(ids[:, :-1]), ids[:, 1:]).mean()

        return above(lambda: mx.eval(nn.value_and_grad(model, loss)(model)))


# ---- a base of few bits


def base(side: str) -> int:
    """See the module."""
    import mlx.core as mx

    from localdistill.modelfiles.folder import ModelFolder
    from localdistill.modelfiles.mlx_held import load_held, write_held
    from localdistill.modelfiles.mlx_models import build_mlx_model, quantize_layers, stored_weights
    from tests.tiny_models import tiny_model

    with tempfile.TemporaryDirectory() as name:
        folder = ModelFolder.open(tiny_model(Path(name) / "student", hidden=512, layers=LAYERS))
        (kept := Path(name) / "held").mkdir()

        def whole() -> None:
            weights = stored_weights(folder)
            model = build_mlx_model(folder, weights, mx.float32)
            mx.eval(model.parameters())
            quantize_layers(model, "4bit", 64)
            mx.eval(model.parameters())

        def ours() -> None:
            write_held(folder, "4bit", "float32", kept)

        if side == "kept":
            ours()
            return above(lambda: load_held(folder, "4bit", "float32", kept))
        return above({"whole": whole, "ours": ours}[side])


def figure(what: str, side: str) -> int:
    """One figure, of a process of its own."""
    said = output_of([sys.executable, "-m", "benchmarks.mlx_memory", "--one", what, side], 600)
    if said is None:
        raise SystemExit(f"{what}, {side}: its process failed; run it alone: --one {what} {side}")
    return int(said.split()[-1])


def main() -> None:
    """Measure, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "SIDE"), help="print one figure, in bytes")
    given = parser.parse_args()
    if given.one:
        machine.say(str({"head": head, "layers": layers, "base": base}[given.one[0]](given.one[1])))
        return
    machine.describe(("mlx", "mlx-lm"))
    for what, sides in SIDES.items():
        for side in sides:
            found = [figure(what, side) for _ in range(given.repeats)]
            machine.say(f"{what} ({WORDS[what]}), {side}: {statistics.median(found) / 1e6:.0f} MB "
                        f"({min(found) / 1e6:.0f} to {max(found) / 1e6:.0f})")


if __name__ == "__main__":
    main()
