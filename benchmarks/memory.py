"""Predicted against measured memory of trainings: what `plan`, `doctor` and the student picker say beforehand, and what
a process had at its peak.

    python -m benchmarks.memory [--device cpu] [--only TEXT] [--keep FOLDER]

Students of random weights in three architectures, of several widths, depths and vocabularies, on rows of several
lengths, held in every way that the machine has. Each training is a process of its own and makes one step. On a CPU its
peak is the memory that it had to have: its own (`RssAnon`, read fifty times a second), and what it read of the
student's files, which lie in memory as long as they are computed with. On a GPU it is what torch counts. Memory hardly
depends on what else runs, so that a busy machine is no obstacle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine
from localdistill.safety.children import NOTHING, ends_within, start_module

LOOK_S = 0.02
LOOKS_AT_FILES = 25
"""Every so many looks the files count too, which takes longer to ask."""
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-small": ("LlamaForCausalLM", {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 12,
                                         "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 32_000}),
    "llama-wide": ("LlamaForCausalLM", {"hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 6,
                                        "num_attention_heads": 12, "num_key_value_heads": 4, "vocab_size": 49_152,
                                        "tie_word_embeddings": False}),
    "qwen2-0.5b": ("Qwen2ForCausalLM", {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                                        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936}),
    "qwen2-flat": ("Qwen2ForCausalLM", {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8,
                                        "num_attention_heads": 12, "num_key_value_heads": 12, "vocab_size": 64_000}),
    "gemma3-270m": ("Gemma3ForCausalLM", {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18,
                                          "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
                                          "vocab_size": 262_144, "sliding_window": 512}),
}


@dataclass(frozen=True)
class Cell:
    """One training."""

    shape: str
    tokens: int
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """As it stands in the table."""
        told = " ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.shape} {self.tokens} {told}".strip()


def cells() -> list[Cell]:
    """Thirty of them."""
    found = [Cell(shape, tokens, {"dtype": dtype})
             for shape in ("llama-small", "llama-wide", "qwen2-flat", "gemma3-270m")
             for tokens in (256, 1024) for dtype in ("float32", "bfloat16")]
    found += [Cell("qwen2-0.5b", tokens, {"dtype": "bfloat16"}) for tokens in (256, 700, 2048)]
    found += [Cell(shape, tokens, {"dtype": "bfloat16", "quantization": "nf4"})
              for shape, tokens in (("llama-wide", 512), ("qwen2-flat", 1024), ("qwen2-0.5b", 512))]
    found += [Cell(shape, tokens, {"dtype": "bfloat16", "gradient_checkpointing": True})
              for shape, tokens in (("llama-small", 2048), ("llama-wide", 1024), ("qwen2-0.5b", 2048),
                                    ("gemma3-270m", 1024))]
    found += [Cell("llama-small", 512, {"dtype": "bfloat16", "rank": 128}),
              Cell("llama-wide", 512, {"dtype": "float32", "micro_tokens": 8192}),
              Cell("qwen2-flat", 256, {"dtype": "bfloat16", "micro_tokens": 512}),
              Cell("llama-small", 4096, {"dtype": "bfloat16"})]
    return found


def student_of(shape: str, place: Path) -> Path:
    """The student in the shape of this name, made where it does not lie there yet."""
    import torch
    import transformers

    from localdistill.modelfiles.architectures import ARCHITECTURES
    from tests.tiny_models import tiny_tokenizer

    folder = place / shape
    if not (folder / "model.safetensors").is_file():
        tiny_tokenizer(folder)
        name, settings = SHAPES[shape]
        config = getattr(transformers, ARCHITECTURES[name].config_class)(**{
            "max_position_embeddings": 8192, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": 2,
            "pad_token_id": 0, **settings})
        torch.set_default_dtype(torch.bfloat16)
        getattr(transformers, name)(config).save_pretrained(folder)
        torch.set_default_dtype(torch.float32)
    return folder


def predicted(cell: Cell, student: Path, device: str) -> dict[str, int]:
    """What is said beforehand, part by part, in bytes."""
    from localdistill.modelfiles.folder import ModelFolder
    from localdistill.modelfiles.hardware import look_at_hardware
    from localdistill.modelfiles.shape import shape_of
    from localdistill.trainers.torch.options import TorchOptions
    from localdistill.trainers.torch_lora import TorchLoraTrainer

    trainer = TorchLoraTrainer(TorchOptions(**cell.options, device=device))
    return dict(trainer.estimate(shape_of(ModelFolder.open(student)), cell.tokens, look_at_hardware()).parts)


def train(cell: Cell, student: Path, device: str, output: Path) -> None:
    """One step on rows of `cell.tokens`, a fifth of each a prompt; leaves what torch counts on a GPU in `peak`."""
    from localdistill.core.events import Cancel, silent
    from localdistill.trainers.torch.options import TorchOptions
    from localdistill.trainers.torch_lora import TorchLoraTrainer
    from tests.trainers.rows import job, random_rows

    count = max(1, max(1024, cell.options.get("micro_tokens", 0)) // cell.tokens)
    rows = random_rows(count, cell.tokens, cell.tokens)
    for row in rows:
        prompt = cell.tokens // 5
        row["weights"] = [0.0] * prompt + [1.0] * (cell.tokens - prompt)
    options = TorchOptions(**cell.options, device=device, max_steps=1, batch_rows=count)
    result = TorchLoraTrainer(options).train(job(student, output, rows), silent, Cancel())
    (output / "peak").write_text(str(result.peak_memory_bytes))


def measured(cell: Cell, student: Path, device: str) -> int:
    """Bytes at the peak of a process of its own."""
    with tempfile.TemporaryDirectory() as output:
        told = json.dumps([cell.shape, cell.tokens, cell.options])
        child = start_module("benchmarks.memory", "--one", told, str(student), device, output, stdin=NOTHING)
        own = files = looks = 0
        while not ends_within(child, LOOK_S):
            own, looks = max(own, _anonymous(child.pid)), looks + 1
            if looks % LOOKS_AT_FILES == 0:
                files = max(files, _mapped(child.pid, student))
        if child.wait():
            raise SystemExit(f"{cell.name}: its process failed; run it alone: --only '{cell.name}'")
        return own + files if device == "cpu" else int((Path(output) / "peak").read_text())


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def _mapped(pid: int, student: Path) -> int:
    try:
        maps = psutil.Process(pid).memory_maps()
    except (psutil.Error, OSError):
        return 0
    return sum(one.rss for one in maps if one.path.startswith(str(student.resolve())))


def main() -> None:
    """Measure, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="cells whose names hold this")
    parser.add_argument("--keep", type=Path, help="where the students lie between runs")
    parser.add_argument("--one", nargs=4, metavar=("CELL", "STUDENT", "DEVICE", "OUTPUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        shape, tokens, options = json.loads(given.one[0])
        train(Cell(shape, tokens, options), Path(given.one[1]), given.one[2], Path(given.one[3]))
        return
    machine.describe(("torch", "transformers"))
    with tempfile.TemporaryDirectory() as name:
        place = given.keep or Path(name)
        off = []
        for cell in cells():
            if given.only not in cell.name:
                continue
            student = student_of(cell.shape, place)
            parts = predicted(cell, student, given.device)
            began, peak = time.monotonic(), measured(cell, student, given.device)
            said = sum(parts.values())
            off.append(said / peak - 1)
            shown = ", ".join(f"{part} {size / 1e6:.0f}" for part, size in parts.items())
            machine.say(f"{cell.name}: predicted {said / 1e6:.0f} MB, measured {peak / 1e6:.0f} MB, "
                        f"{100 * off[-1]:+.0f} % ({time.monotonic() - began:.0f} s; {shown})")
    if off:
        far = [100 * abs(one) for one in off]
        machine.say(f"{len(off)} trainings: off by {statistics.median(far):.0f} % in the middle, {max(far):.0f} % at "
                    f"most; too low for {sum(one < 0 for one in off)}")


if __name__ == "__main__":
    sys.exit(main())
