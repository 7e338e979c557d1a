"""How a written file holds its weights: bits for each, and which tensors its type does not fit, so that they are held
in another. Must not read weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localdistill.modelfiles.gguf_header import read_header

_USUAL: Mapping[str, frozenset[str]] = {
    "F32": frozenset({"F32"}), "F16": frozenset({"F16"}), "BF16": frozenset({"BF16"}), "Q8_0": frozenset({"Q8_0"}),
    "Q6_K": frozenset({"Q6_K"}), "Q5_K_M": frozenset({"Q5_K", "Q6_K"}), "Q4_K_M": frozenset({"Q4_K", "Q6_K"}),
    "Q4_K_S": frozenset({"Q4_K", "Q5_K", "Q6_K"}), "Q4_0": frozenset({"Q4_0", "Q6_K"}),
}
"""The types that llama.cpp's quantizer gives the matrices of a file of each kind."""
_SHOWN = 3


@dataclass(frozen=True)
class Holding:
    """What the header of one file says."""

    bits_per_weight: float
    """Of the whole file, header and norms included."""
    others: Mapping[str, tuple[str, ...]]
    """Type -> matrices that are held in it because the file's own does not fit their width."""

    def sentence(self, name: str) -> str:
        """For people."""
        text = f"{name}: {self.bits_per_weight:.2f} bits per weight"
        for held, tensors in self.others.items():
            more = f" and {len(tensors) - _SHOWN} more" if len(tensors) > _SHOWN else ""
            text += f"; held in {held} because of their width: {', '.join(tensors[:_SHOWN])}{more}"
        return text


def holding_of(file: Path, kind: str) -> Holding:
    """How the GGUF `file` of a `kind` (`Q4_K_M`) holds its weights. Raises ModelFileError when it cannot be read."""
    header, others = read_header(file), dict[str, tuple[str, ...]]()
    for tensor in header.tensors:
        if len(tensor.shape) > 1 and tensor.type not in _USUAL[kind]:
            others[tensor.type] = (*others.get(tensor.type, ()), tensor.name)
    return Holding(8 * file.stat().st_size / max(1, header.parameters), others)
