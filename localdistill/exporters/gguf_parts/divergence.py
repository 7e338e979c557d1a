"""How far the first guesses of a quantized file are from those of the file that it was made from, on the same texts. It
measures; whether that is too far, tasks say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts.llama_client import default_threads, run_llama
from localdistill.safety.scratch import scratch_folder

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_TEXTS, MOST_TOKENS = 8, 96
"""Of what is compared, so that logits of large vocabularies take some hundred megabytes of disk at most."""


@dataclass(frozen=True)
class Divergence:
    """Figures over all positions of all texts."""

    kl: float
    """Mean KL divergence in nats, of the file's distribution from the source's."""
    top1: float
    """Share of positions with the same first token, 0..1."""


def divergences(source: Path, files: Mapping[str, Path], texts: Sequence[Sequence[int]],
                cancel: Cancel) -> Iterator[tuple[str, Divergence]]:
    """Each of `files` (GGUF) beside `source` on `texts`, which are token ids. Raises LocalDistillError when llama.cpp
    cannot compute one."""
    cut = [list(text[:MOST_TOKENS]) for text in texts[:MOST_TEXTS] if len(text)]
    with scratch_folder(source.parent) as folder:
        _compute(source, cut, folder / "source", cancel)
        for name, file in files.items():
            _compute(file, cut, folder / "file", cancel)
            yield name, _between(folder / "source", folder / "file", len(cut))


def _compute(file: Path, texts: list[list[int]], folder: Path, cancel: Cancel) -> None:
    folder.mkdir(exist_ok=True)
    job = {"action": "compute", "model": str(file), "prompts": texts, "folder": str(folder), "stops": [],
           "greedy_tokens": 0, "threads": default_threads(file.stat().st_size)}
    run_llama(job, f"computing with {file.name}", cancel)


def _between(source: Path, other: Path, count: int) -> Divergence:
    import numpy as np

    divergence, agreed, positions = 0.0, 0, 0
    for number in range(count):
        here, there = (log_probabilities(np.load(folder / f"{number}.npy")) for folder in (source, other))
        divergence += float((np.exp(here) * (here - there)).sum())
        agreed += int((here.argmax(-1) == there.argmax(-1)).sum())
        positions += len(here)
    return Divergence(divergence / max(1, positions), agreed / max(1, positions))


def log_probabilities(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of logits (T, V), as float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: npt.NDArray[Any] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result
