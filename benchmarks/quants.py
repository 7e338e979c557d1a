"""What rounding costs: each quantized file of ours, with and without an importance matrix, beside the one that
llama.cpp's own quantizer makes with its own settings. Perplexity of held-out tokens, mean KL divergence from the 16-bit
file over the same tokens, and how many tensors are byte for byte the same.

    python -m benchmarks.quants [--run WORKSPACE RUN] [--arm original] [--converter FOLDER]
    python -m benchmarks.quants --model FOLDER [--converter FOLDER]

Without --run it is the student of the pantry as it ships, with it an arm of a run of the recipe `pantry` that was
trained on the recipe's first prompts. Held out are the original answers to the prompts behind those; the matrix is
measured on the same answers to the first ones. --model: a student's folder, on random tokens; where its weights are
random too, only the divergence tells something. FOLDER of --converter is `vendor/llama.cpp` of
llama-cpp-python's source archive: llama.cpp's side then begins with llama.cpp's own 16-bit file, else with ours.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine
from localdistill import Workspace
from localdistill.core.events import Cancel, silent
from localdistill.exporters.gguf_parts.divergence import log_probabilities
from localdistill.exporters.gguf_parts.importance import WEIGHED, ImportanceMatrix, importance_of
from localdistill.exporters.gguf_parts.llama_client import default_threads, run_llama
from localdistill.exporters.gguf_parts.quantizer import quantize
from localdistill.exporters.gguf_parts.reference import Reference
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.shipped import shipped_path
from localdistill.stages.context import build_trainer
from localdistill.stages.outputs import TrainOutput, read_output
from localdistill.workspace.run_folder import RunFolder

KINDS = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0")
LEARNED, TEXTS, MATRIX_TOKENS = 2000, 200, 32_768
"""Prompts of the recipe, of those behind them, and tokens of the first ones for the matrix."""
RANDOM_TEXTS, RANDOM_TOKENS, RANDOM_MATRIX = 4, 48, 2048
"""Of a model whose vocabulary may be large."""


@dataclass(frozen=True)
class Text:
    """Token ids, and the first place that counts."""

    ids: list[int]
    first: int


@dataclass(frozen=True)
class Subject:
    """What is quantized, and on what it is measured."""

    folder: Path
    texts: Sequence[Text]
    rows: Sequence[Sequence[int]]
    """Of which the importance matrix is made."""
    matrix_tokens: int


def pantry(run: tuple[Path, str] | None, arm: str, place: Path) -> Subject:
    """The student of the pantry, or what a run made of it, merged into `place`."""
    folder = shipped_path("pantry/student")
    if run is not None:
        home = Workspace(run[0])
        found = RunFolder.open(home.runs, run[1])
        recipe, base = found.recipe(), Path(found.request()["base"])
        adapter = home.artifact("adapter", read_output(found, TrainOutput).adapters[arm][0].adapter)
        assert adapter is not None
        build_trainer(recipe, base).merge(folder, adapter.path, place, silent, Cancel())
        folder = place
    reference, texts = Reference(folder, False), list[Text]()
    for row in map(json.loads, shipped_path("pantry/prompts.jsonl").read_text(encoding="utf-8").splitlines()):
        prompt = reference.encode_prompt(reference.render(row["messages"][0]["content"]))
        texts.append(Text([*prompt, *reference.encode(row["original"]), reference.stop_ids[0]], len(prompt)))
    rows = [text.ids for text in texts[:LEARNED]]
    random.Random(0).shuffle(rows)
    return Subject(folder, texts[LEARNED:][:TEXTS], rows, MATRIX_TOKENS)


def untrained(folder: Path) -> Subject:
    """A student as it is, on tokens drawn at random."""
    draw, size = random.Random(0), ModelFolder.open(folder).vocab_size
    texts, rows = ([[draw.randrange(3, size) for _ in range(RANDOM_TOKENS)] for _ in range(count)]
                   for count in (RANDOM_TEXTS, RANDOM_MATRIX // RANDOM_TOKENS))
    return Subject(folder, [Text(ids, 1) for ids in texts], rows, RANDOM_MATRIX)


def theirs_16(subject: Subject, ours: Path, converter: Path | None, place: Path) -> Path:
    """llama.cpp's 16-bit file; ours without its converter."""
    if converter is None:
        return ours
    from tests.llama_cpp_source import convert

    convert(converter, "convert_hf_to_gguf.py", ModelFolder.open(subject.folder).architecture, str(subject.folder),
            "--outtype", "f16", "--outfile", str(place / "theirs.gguf"))
    return place / "theirs.gguf"


def quantize_theirs(source: Path, output: Path, kind: str) -> None:
    """llama.cpp's quantizer with the settings that it has by itself."""
    import ctypes

    import llama_cpp

    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(output).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp did not quantize to {kind}")


def computed(file: Path, texts: Sequence[Text], place: Path) -> list[np.ndarray]:
    """Log-probabilities (T, V) of every text by a file."""
    place.mkdir(exist_ok=True)
    run_llama({"action": "compute", "model": str(file), "prompts": [text.ids for text in texts], "folder": str(place),
               "stops": [], "greedy_tokens": 0, "threads": default_threads(file.stat().st_size)},
              f"computing with {file.name}", Cancel())
    return [log_probabilities(np.load(place / f"{number}.npy")).astype(np.float32) for number in range(len(texts))]


def perplexity(told: Sequence[np.ndarray], texts: Sequence[Text]) -> float:
    """exp of the mean negative log-probability of the tokens that count."""
    losses = [-float(logs[at - 1, text.ids[at]]) for logs, text in zip(told, texts, strict=True)
              for at in range(text.first, len(text.ids))]
    return float(np.exp(np.mean(losses)))


def divergence(whole: Sequence[np.ndarray], told: Sequence[np.ndarray], texts: Sequence[Text]) -> tuple[float, float]:
    """Mean KL divergence from the 16-bit file before the tokens that count, and the share of equal first tokens."""
    divergences, same = list[float](), list[bool]()
    for here, there, text in zip(whole, told, texts, strict=True):
        one, other = here[text.first - 1:-1].astype(np.float64), there[text.first - 1:-1]
        divergences += (np.exp(one) * (one - other)).sum(-1).tolist()
        same += (one.argmax(-1) == other.argmax(-1)).tolist()
    return float(np.mean(divergences)), float(np.mean(same))


def equal_tensors(ours: Path, theirs: Path) -> str:
    """How many tensors have the same type and bytes."""
    import gguf

    one, other = ({tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors} for file in (ours, theirs))
    same = sum(name in other and tensor.tensor_type == other[name].tensor_type
               and bool(np.array_equal(tensor.data, other[name].data)) for name, tensor in one.items())
    return f"{same} of {len(other)} tensors the same"


def measure(subject: Subject, converter: Path | None, place: Path) -> None:
    """Print every figure."""
    convert_to_gguf(subject.folder, place / "ours.gguf", "F16")
    source, count = theirs_16(subject, place / "ours.gguf", converter, place), len(subject.texts)
    whole = computed(place / "ours.gguf", subject.texts, place / "whole")
    told = sum(len(text.ids) - text.first for text in subject.texts)
    matrix = importance_of(place / "ours.gguf", subject.rows, subject.matrix_tokens, place / "matrix.npz", Cancel())
    machine.say(f"{count} texts, {told:,} tokens that count; importance matrix from {matrix.said}")
    machine.say(f"F16: perplexity {perplexity(whole, subject.texts):.4f}; {equal_tensors(place / 'ours.gguf', source)}")
    for kind in KINDS:
        sides: list[tuple[str, ImportanceMatrix | None]] = [("ours", None)]
        sides += [("ours by the matrix", matrix)] if kind in WEIGHED else []
        for name, weighing in sides:
            quantize(place / "ours.gguf", place / f"{name}.{kind}.gguf", kind, Cancel(), weighing)
        quantize_theirs(source, place / f"llama.cpp.{kind}.gguf", kind)
        for name in (*(name for name, _ in sides), "llama.cpp"):
            file = place / f"{name}.{kind}.gguf"
            found = computed(file, subject.texts, place / "file")
            kl, same = divergence(whole, found, subject.texts)
            machine.say(f"{kind} {name}: perplexity {perplexity(found, subject.texts):.4f}, KL {kl:.3g}, "
                        f"{same:.1%} of first tokens")
        machine.say(f"{kind}: {equal_tensors(place / f'ours.{kind}.gguf', place / f'llama.cpp.{kind}.gguf')}")
        for file in place.glob(f"*.{kind}.gguf"):
            file.unlink()


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=2, metavar=("WORKSPACE", "RUN"))
    parser.add_argument("--arm", default="original")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--converter", type=Path)
    machine.add_arguments(parser)
    given = parser.parse_args()
    machine.describe(["llama-cpp-python", "gguf", "torch"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = (Path(given.run[0]), given.run[1]) if given.run else None
        subject = untrained(given.model) if given.model else pantry(run, given.arm, place / "merged")
        measure(subject, given.converter, place)
    machine.check_idle(True)


if __name__ == "__main__":
    main()
