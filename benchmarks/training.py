"""LoRA training of a student of 0.5B in torch beside TRL, and two parts of it by themselves:

    python -m benchmarks.training --peer-python P [--traces FILE] [--keep FOLDER] [--parts steps head attention]

Random weights in the shape of Qwen2.5-0.5B (494 M, bfloat16, tied, vocabulary of 151,936) with an adapter of rank 16
on all linear layers, the same on both sides. One batch of eight rows is trained on again and again, 85 % of each row;
FILE (JSON rows whose longest text is a trace) gives the rows the lengths of real traces, of which the first eight up to
--cap tokens are taken. One thread; CPU seconds of each step behind the first, and what the process held at its peak.
TRL runs at its defaults, and at its best settings: weights in bfloat16, activations kept, rows without padding, in one
piece and in pieces of two rows. A ratio is printed only where the losses are equal to three decimals. Every figure is a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from localdistill.safety.children import output_of

WIDTH, VOCABULARY, STOP, ROWS = 896, 151_936, 2, 8
LENGTHS = (262, 311, 358, 402, 431, 476, 529, 575)
"""Of eight rows of R1-Distill's answers to GSM8K with their questions, 418 tokens on the average."""
CHARS_PER_TOKEN = 3.5
SETTINGS: dict[str, dict[str, Any]] = {
    "TRL, defaults": {},
    "TRL, best": {"weights": "bfloat16", "gradient_checkpointing": False, "padding_free": True},
    "TRL, best, two rows at once": {"weights": "bfloat16", "gradient_checkpointing": False, "padding_free": True,
                                    "at_once": 2},
}


def make_task(place: Path, traces: Path | None, cap: int, steps: int) -> Path:
    """The rows, and where model and adapter lie."""
    import random

    from benchmarks.export import made

    made(place)
    lengths = list(LENGTHS)
    if traces is not None:
        texts = [max((value for value in row.values() if isinstance(value, str)), key=len)
                 for row in json.loads(traces.read_text())]
        lengths = [tokens for text in texts if (tokens := round(len(text) / CHARS_PER_TOKEN)) <= cap][:ROWS]
    draw = random.Random(0)
    ids = [[*(draw.randrange(3, VOCABULARY) for _ in range(length - 1)), STOP] for length in lengths]
    task = {"student": str(place / "student"), "adapter": str(place / "adapter"), "ids": ids, "steps": steps,
            "prompts": [max(1, round(0.15 * length)) for length in lengths]}
    file = place / "task.json"
    file.write_text(json.dumps(task))
    return file


def train_ours(task: dict[str, Any]) -> dict[str, Any]:
    """Losses, and CPU seconds at the end of every step."""
    import pyarrow as pa
    import torch

    from localdistill.core.events import Cancel, Event, Measured
    from localdistill.objectives.sft import SftObjective
    from localdistill.trainers.job import TrainingJob
    from localdistill.trainers.torch_lora import TorchLoraTrainer

    torch.set_num_threads(1)
    losses, seconds = list[float](), list[float]()

    def emit(event: Event) -> None:
        if isinstance(event, Measured) and event.name == "loss":
            losses.append(event.value)
            seconds.append(time.process_time())

    weights = [[0.0] * prompt + [1.0] * (len(row) - prompt)
               for row, prompt in zip(task["ids"], task["prompts"], strict=True)]
    rows = pa.table({"row_id": [str(number) for number in range(len(weights))],
                     "input_ids": pa.array(task["ids"], pa.list_(pa.int32())),
                     "weights": pa.array(weights, pa.list_(pa.float32()))})
    options = TorchLoraTrainer.Options(
        rank=16, alpha=32, learning_rate=1e-4, warmup_share=0, schedule="constant", batch_rows=len(weights),
        epochs=task["steps"], threads=1, device="cpu", checkpoint_every_s=0)
    with tempfile.TemporaryDirectory() as output:
        job = TrainingJob("arm", Path(task["student"]), rows, STOP, (), SftObjective(), Path(output),
                          start_adapter=Path(task["adapter"]))
        TorchLoraTrainer(options).train(job, emit, Cancel())
    return {"losses": losses, "seconds": seconds}


def head_ours(_: dict[str, Any]) -> dict[str, Any]:
    """CPU seconds of the loss head over 1,024 positions of which every other one is trained, and how far its gradient
    is from that of whole logits."""
    import torch

    from localdistill.trainers.torch.head import FusedHead, HeadValues

    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    hidden = torch.randn(512, WIDTH).bfloat16()
    listed = torch.randint(VOCABULARY, (512, 1))
    fused, found, seconds = FusedHead(head), None, []
    for _ in range(3):
        began = time.process_time()
        _, found = fused.pull(hidden, listed, frozenset(),
                              lambda part, here: HeadValues(torch.full_like(here.logprobs, -1.0)))
        seconds.append(time.process_time() - began)
    whole = hidden.clone().requires_grad_()
    torch.nn.functional.cross_entropy(head(whole).float(), listed[:, 0], reduction="sum").backward()
    assert found is not None and whole.grad is not None
    error = float((found.hidden.float() - whole.grad.float()).norm() / whole.grad.float().norm())
    return {"seconds": min(seconds), "error": error}


def attention_ours(_: dict[str, Any]) -> dict[str, Any]:
    """CPU seconds forward and back, of packed attention and of torch's under a dense mask, by tokens."""
    import torch

    from localdistill.trainers.torch.attention import packed_attention

    torch.set_num_threads(1)
    found = {}
    for tokens, rows in ((2048, 8), (8192, 32)):
        ends = [tokens // rows * (number + 1) for number in range(rows)]
        parts = [torch.randn(1, heads, tokens, 64, dtype=torch.bfloat16, requires_grad=True) for heads in (14, 2, 2)]
        owner = torch.arange(tokens) // (tokens // rows)
        mask = (owner[:, None] == owner[None]).tril()[None, None]

        def packed(parts: Sequence[Any] = parts, ends: Sequence[int] = ends) -> Any:
            return packed_attention(None, *parts, None, ends=ends)[0]

        def dense(parts: Sequence[Any] = parts, mask: Any = mask) -> Any:
            return torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask, enable_gqa=True)

        found[tokens] = [min(_once(one, parts) for _ in range(3)) for one in (dense, packed)]
    return {"seconds": found}


def _once(attend: Callable[[], Any], parts: Sequence[Any]) -> float:
    import torch

    began = time.process_time()
    result = attend()
    torch.autograd.grad(result, parts, torch.ones_like(result))
    return time.process_time() - began


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "steps": train_ours, "head": head_ours, "attention": attention_ours}


def run_ours(part: str, file: Path) -> dict[str, Any]:
    """One part, in a process of its own."""
    return _told(output_of([sys.executable, "-m", "benchmarks.training", "--side", part, "--task", str(file)], 36_000))


def run_peer(python: Path, file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """TRL, in a process of its own."""
    return _told(output_of([str(python), str(Path(__file__).with_name("training_peer.py")), str(file),
                            json.dumps(settings)], 36_000))


def _told(said: bytes | None) -> dict[str, Any]:
    if not said:
        raise SystemExit("a side did not run")
    found: dict[str, Any] = json.loads(said.decode().splitlines()[-1])
    return found


def compare_steps(python: Path | None, file: Path, tokens: int) -> None:
    """Speeds and peaks of whole steps."""
    ours = run_ours("steps", file)
    own = _tell_steps("ours", ours, tokens)
    for name, settings in SETTINGS.items() if python else ():
        assert python is not None
        peer = run_peer(python, file, {"what": "steps", **settings})
        speed = _tell_steps(name, peer, tokens)
        apart = max(abs(one - other) for one, other in zip(ours["losses"], peer["losses"], strict=True))
        if apart < 1e-3:
            machine.say(f"{name}: {own / speed:.2f} times as fast, {ours['peak'] / peer['peak']:.2f} of its memory")
        else:
            machine.say(f"{name}: losses are {apart:.4f} apart: no ratio")


def _tell_steps(name: str, side: dict[str, Any], tokens: int) -> float:
    each = (side["seconds"][-1] - side["seconds"][0]) / (len(side["seconds"]) - 1)
    losses = ", ".join(f"{loss:.4f}" for loss in side["losses"])
    machine.say(f"{name}: {each:.1f} CPU s a step, {tokens / each:.0f} tokens a CPU second, peak "
                f"{side['peak'] / 1e9:.2f} GB, losses {losses}")
    return tokens / each


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with trl and torch")
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--cap", type=int, default=700, help="tokens of the longest row")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where the model lies between runs")
    parser.add_argument("--parts", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--task", type=Path)
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    given = parser.parse_args()
    if given.side:
        found = SIDES[given.side](json.loads(given.task.read_text()) if given.task.is_file() else {})
        machine.say(json.dumps(found | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
        return
    machine.describe(["torch", "transformers", "peft"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as folder:
        place = given.keep or Path(folder)
        file = place / "task.json"
        if "steps" in given.parts:
            file = make_task(place, given.traces, given.cap, given.steps)
            compare_steps(given.peer_python, file, sum(map(len, json.loads(file.read_text())["ids"])))
        if "head" in given.parts:
            ours = run_ours("head", file)
            machine.say(f"loss head, ours: {ours['seconds']:.2f} CPU s, gradient {100 * ours['error']:.2f} % from "
                        "whole logits")
            if given.peer_python:
                peer = run_peer(given.peer_python, file, {"what": "head"})
                times = peer["seconds"] / ours["seconds"]
                machine.say(f"loss head, TRL: {peer['seconds']:.2f} CPU s, {times:.1f} times")
        if "attention" in given.parts:
            for tokens, (dense, packed) in run_ours("attention", file)["seconds"].items():
                machine.say(f"attention over {tokens} tokens: {1000 * dense:.0f} ms of CPU under a dense mask, "
                            f"{1000 * packed:.0f} packed, {dense / packed:.1f} times")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
