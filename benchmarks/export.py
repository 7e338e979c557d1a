"""What an export holds in memory and how long it takes: merging beside peft's own, the 16-bit file beside llama.cpp's
own converter, and the parity gate beside loading the model for it; with what its line `trained` takes, by a base held
as it is stored and in NF4.

    python -m benchmarks.export [--shape 1.5B] [--converter FOLDER] [--keep FOLDER]

Random weights in the shape of Qwen2.5-0.5B (494 M) or 1.5B (1,544 M; bfloat16, tied, vocabulary of 151,936) and an
adapter of rank 16 on all linear layers. Every figure is a process of its own; memory is what it had to have at its
peak (`RssAnon`, read twenty times a second), and in brackets with the pages of files that it read, which the system
takes back when it needs them. FOLDER of --converter is `vendor/llama.cpp` of llama-cpp-python's source archive; without
it the converter is left out. --keep names where the model lies between runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine
from localdistill.safety.children import NOTHING, ends_within, start_module

_LOOK_S = 0.05
_SHARED: dict[str, Any] = {
    "vocab_size": 151_936, "num_key_value_heads": 2, "max_position_embeddings": 32_768, "tie_word_embeddings": True,
    "rope_theta": 1e6, "initializer_range": 0.04,
}
SHAPES: dict[str, dict[str, Any]] = {
    "0.5B": {**_SHARED, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
             "num_attention_heads": 14},
    "1.5B": {**_SHARED, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
             "num_attention_heads": 12},
}
_ROWS, _LENGTH = 8, 96
"""Of what is compared with what was trained."""


def made(place: Path) -> None:
    """The student of the shape that `shape.txt` names, else 0.5B, and the adapter, where they do not lie there yet."""
    import torch
    import transformers

    from tests.tiny_models import tiny_adapter, tiny_tokenizer

    student, shape = place / "student", place / "shape.txt"
    if not (student / "model.safetensors").is_file():
        tiny_tokenizer(student)
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(
            **SHAPES[shape.read_text() if shape.is_file() else "0.5B"], bos_token_id=None, eos_token_id=2,
            pad_token_id=0))
        model.save_pretrained(student)
        torch.set_default_dtype(torch.float32)
    if not (place / "adapter").is_dir():
        tiny_adapter(student, place / "adapter", rank=16)


def merge_ours(place: Path) -> None:
    """Our merge."""
    from localdistill.trainers.merge import merge

    merge(place / "student", place / "adapter", place / "merged")


def merge_peft(place: Path) -> None:
    """peft's, in the type of the weights, as its documentation has it."""
    import peft
    import torch
    import transformers

    model = transformers.Qwen2ForCausalLM.from_pretrained(place / "student", dtype=torch.bfloat16)
    peft.PeftModel.from_pretrained(model, str(place / "adapter")).merge_and_unload().save_pretrained(
        place / "merged-peft")


def convert_ours(place: Path) -> None:
    """The 16-bit file, by us."""
    from localdistill.exporters.gguf_parts.writer import convert_to_gguf

    convert_to_gguf(place / "merged", place / "ours.gguf", "F16", used_tokens=2048)


def convert_theirs(place: Path) -> None:
    """The 16-bit file, by llama.cpp's converter. FOLDER is written beside the model by the caller."""
    from tests.llama_cpp_source import convert

    convert(Path((place / "converter.txt").read_text()), "convert_hf_to_gguf.py", "Qwen2ForCausalLM",
            str(place / "merged"), "--outtype", "f16", "--outfile", str(place / "theirs.gguf"))


def gate_ours(place: Path) -> None:
    """The parity gate."""
    from localdistill.core.events import Cancel
    from localdistill.exporters.parity import check_parity

    report = check_parity(place / "merged", place / "ours.gguf", Cancel())
    machine.say("  " + "; ".join(f"{item.name} {item.figure:.3g}" for item in report.items))


def as_trained(place: Path, nf4: bool) -> None:
    """What the gate's line `trained` asks of the trainer."""
    from localdistill.core.events import Cancel
    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.folder import ModelFolder
    from localdistill.modelfiles.held import held_in_nf4
    from localdistill.modelfiles.streamed import StreamedModel
    from localdistill.modelfiles.trained import TrainedRow, logprobs_streamed

    folder = ModelFolder.open(place / "student")
    model = StreamedModel(folder, AdapterFolder.open(place / "adapter", folder),
                          held_in_nf4(folder, "bfloat16") if nf4 else None)
    ids = [tuple((7 * at + row) % 390 + 3 for at in range(_LENGTH)) for row in range(_ROWS)]
    logprobs_streamed(model, [TrainedRow(one, (1.0,) * _LENGTH) for one in ids], Cancel())


def nf4_whole(place: Path) -> None:
    """The same of a base that is in memory as a whole, in NF4."""
    import torch

    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.folder import ModelFolder
    from localdistill.modelfiles.loading import load_causal_model

    folder = ModelFolder.open(place / "student")
    model = load_causal_model(folder, torch.bfloat16, torch.device("cpu"), "nf4")
    AdapterFolder.open(place / "adapter", folder).attach(model)
    with torch.inference_mode():
        for row in range(_ROWS):
            model(torch.tensor([[(7 * at + row) % 390 + 3 for at in range(_LENGTH)]])).logits[0].float().log_softmax(-1)


def load_only(place: Path) -> None:
    """Nothing but the model in float32, as a gate that does not stream would need it."""
    import torch

    from localdistill.modelfiles.folder import ModelFolder
    from localdistill.modelfiles.loading import load_causal_model

    model = load_causal_model(ModelFolder.open(place / "merged"), torch.float32, torch.device("cpu"))
    with torch.inference_mode():
        model(torch.tensor([list(range(3, 99))]))


PARTS: dict[str, Callable[[Path], None]] = {
    "made": made, "merge, ours": merge_ours, "merge, peft": merge_peft, "convert, ours": convert_ours,
    "convert, llama.cpp": convert_theirs, "gate, ours": gate_ours, "loading it for a gate": load_only,
    "as trained, ours": lambda place: as_trained(place, False), "in NF4, ours": lambda place: as_trained(place, True),
    "in NF4, loaded": nf4_whole,
}


def measured(name: str, place: Path) -> None:
    """Run one part in a process of its own; with those that it starts itself, what they hold at once."""
    begin, anonymous, resident = time.perf_counter(), 0, 0
    child = start_module("benchmarks.export", "--part", name, "--keep", str(place), stdin=NOTHING)
    while not ends_within(child, _LOOK_S):
        anon, rss = _held(child.pid)
        anonymous, resident = max(anonymous, anon), max(resident, rss)
    if child.wait():
        raise SystemExit(f"{name} failed")
    if name != "made":
        machine.say(f"{name}: {time.perf_counter() - begin:.1f} s, peak {anonymous / 1e6:,.0f} MB "
                    f"({resident / 1e6:,.0f} MB with files)")


def _held(pid: int) -> tuple[int, int]:
    """Bytes of a process and its children: of their own, and with pages of files."""
    anonymous = resident = 0
    try:
        own = psutil.Process(pid)
        for process in (own, *own.children(recursive=True)):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                key, _, value = line.partition(":")
                anonymous += int(value.split()[0]) * 1024 if key == "RssAnon" else 0
                resident += int(value.split()[0]) * 1024 if key == "VmRSS" else 0
    except (psutil.Error, OSError):
        pass
    return anonymous, resident


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--converter", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="0.5B")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="these parts alone")
    parser.add_argument("--part", choices=PARTS)
    machine.add_arguments(parser)
    given = parser.parse_args()
    if given.part:
        PARTS[given.part](given.keep)
        return
    machine.describe(["torch", "transformers", "peft", "llama-cpp-python"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as folder:
        place = given.keep or Path(folder)
        (place / "shape.txt").write_text(given.shape)
        if given.converter:
            (place / "converter.txt").write_text(str(given.converter.resolve()))
        for name in given.only:
            if given.converter or name != "convert, llama.cpp":
                measured(name, place)
    machine.check_idle(True)


if __name__ == "__main__":
    sys.exit(main())
