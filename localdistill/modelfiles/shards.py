"""Weights of a model in several safetensors files with an index, in the layout of the hub. Copies tensors in pieces, as
they are stored. Must not import torch at import."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from localdistill.modelfiles.tensors import TensorInfo, read_pieces, stored_dtype, write_in_pieces
from localdistill.safety.files import atomic_write_text

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
WEIGHTS = "model.safetensors"
"""How the only file of weights is called, and how the name of the index begins."""
INDEX = f"{WEIGHTS}.index.json"


def write_shards(tensors: Mapping[str, tuple[Path, TensorInfo]], folder: Path, most_bytes: int,
                 tick: Callable[[], None]) -> bool:
    """Write `tensors` into files of at most `most_bytes` of them in `folder` (at least one tensor each), with an index;
    nothing, and False, where one file is enough. `tick` is called between pieces and may raise."""
    groups = list(groups_of(sorted(tensors), lambda name: tensors[name][1].end - tensors[name][1].start, most_bytes))
    if len(groups) == 1:
        return False

    def produce(name: str) -> Iterator[torch.Tensor]:
        for _, rows in read_pieces(*tensors[name]):
            tick()
            yield rows

    places: dict[str, str] = {}
    for number, names in enumerate(groups, start=1):
        file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        write_in_pieces(folder / file, [(name, tensors[name][1].shape, stored_dtype(tensors[name][1]))
                                        for name in names], produce)
        places |= dict.fromkeys(names, file)
    total = sum(info.end - info.start for _, info in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    atomic_write_text(folder / INDEX, json.dumps(index, indent=1))
    return True


def groups_of(items: Iterable[T], size_of: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Neighbours whose sizes together are at most `most`; at least one."""
    group: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if group and total + size > most:
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    yield group
