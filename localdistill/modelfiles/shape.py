"""The shape of a student: the few numbers that its memory depends on, of a folder or of a size that students usually
have. Must not load a library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localdistill.modelfiles.folder import ModelFolder


@dataclass(frozen=True)
class StudentShape:
    """One decoder: an embedding, so many blocks alike, an output projection."""

    name: str
    layers: int
    hidden_size: int
    vocab_size: int
    linears: Mapping[str, tuple[int, int]]
    """The linear layers of a block: name -> (out, in)."""
    tied: bool
    """The output projection is the embedding."""
    windowed_mask: bool = False
    """Its attention needs a mask, of all positions by all positions."""

    @property
    def embedding_weights(self) -> int:
        """Of the embedding, and of the output projection where that is another."""
        return self.vocab_size * self.hidden_size * (1 if self.tied else 2)

    @property
    def linear_weights(self) -> int:
        """Of the linear layers of all blocks."""
        return self.layers * sum(out * wide for out, wide in self.linears.values())

    @property
    def parameter_count(self) -> int:
        """Number of weights, but for norms and biases."""
        return self.embedding_weights + self.linear_weights

    @property
    def largest_linear(self) -> int:
        """Weights of the largest linear layer."""
        return max(out * wide for out, wide in self.linears.values())

    def adapter_weights(self, rank: int, targets: str = "all-linear") -> int:
        """Of a low-rank adapter on the layers that `targets` names."""
        wanted = self.linears if targets == "all-linear" else {name.strip() for name in targets.split(",")}
        return self.layers * rank * sum(sum(shape) for name, shape in self.linears.items() if name in wanted)


def shape_of(folder: ModelFolder) -> StudentShape:
    """That of the student in `folder`, as its weights say."""
    start = "model.layers.0."
    linears = {}
    for name, (_, info) in folder.tensors.items():
        end = name.removesuffix(".weight").rpartition(".")[2]
        if name.startswith(start) and name.endswith(".weight") and end in folder.kind.linear_layers:
            linears[end] = (info.shape[0], info.shape[1])
    return StudentShape(folder.path.name, folder.layers, folder.hidden_size, folder.vocab_size, linears,
                        folder.tied_embeddings, folder.kind.attention == "eager")


def usual(name: str, layers: int, width: int, keys: int, wide: int, vocabulary: int, tied: bool) -> StudentShape:
    """A size that students usually come in; keys: the width of all keys of a block, as of all values."""
    linears = {"q_proj": (width, width), "k_proj": (keys, width), "v_proj": (keys, width), "o_proj": (width, width),
               "gate_proj": (wide, width), "up_proj": (wide, width), "down_proj": (width, wide)}
    return StudentShape(name, layers, width, vocabulary, linears, tied)


STUDENTS = (
    usual("0.5B", 24, 896, 128, 4864, 151_936, True),
    usual("1.5B", 28, 1536, 256, 8960, 151_936, True),
    usual("3B", 36, 2048, 256, 11_008, 151_936, True),
    usual("7B", 28, 3584, 512, 18_944, 152_064, False),
    usual("8B", 36, 4096, 1024, 12_288, 151_936, False),
    usual("14B", 48, 5120, 1024, 13_824, 152_064, False),
    usual("32B", 64, 5120, 1024, 27_648, 152_064, False),
)
"""Of Qwen2.5 and, at 8B, Qwen3."""
