"""Which values matter to a model, from texts that it was trained on: an importance matrix, by which llama.cpp's
quantizer rounds. It is measured on the 16-bit file, as that is served."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localdistill.core.errors import InputError
from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts.llama_client import default_threads, run_llama

WEIGHED = frozenset({"Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0"})
"""Types whose rounding the quantizer weighs; that of Q8_0 it does not."""
_LONGEST, _MOST_SECONDS = 2048, 3600.0
"""Tokens of one text that are read, and how long the reading may take before what was seen must do."""


@dataclass(frozen=True)
class ImportanceMatrix:
    """One that was measured."""

    file: Path
    """Name of a weight -> mean squares of what it is multiplied by (`numpy.savez`)."""
    texts: int
    tokens: int

    @property
    def said(self) -> str:
        """What it rests on."""
        return f"{self.tokens:,} tokens of {self.texts:,} training rows"


def importance_of(source: Path, rows: Iterable[Sequence[int]], most_tokens: int, file: Path,
                  cancel: Cancel) -> ImportanceMatrix:
    """The importance matrix of the GGUF `source` over `rows` (token ids), up to `most_tokens` tokens of them, kept in
    `file`. Raises InputError without rows, and LocalDistillError when llama.cpp cannot compute it."""
    texts, left = list[list[int]](), most_tokens
    for row in rows:
        if left <= 0:
            break
        texts.append(list(row[:min(left, _LONGEST)]))
        left -= len(texts[-1])
    if not texts:
        raise InputError("there are no training rows to measure one on", "export an arm, or leave imatrix away")
    seen = run_llama({"action": "watch", "model": str(source), "texts": texts, "matrix": str(file),
                      "seconds": _MOST_SECONDS, "threads": default_threads(source.stat().st_size)},
                     "measuring which weights matter", cancel)
    return ImportanceMatrix(file, int(seen["texts"]), int(seen["tokens"]))
