"""Safetensors without trust: read and check headers in pure Python before any library maps the file, and write files
tensor by tensor so that memory does not grow with the model. Must not import torch at import, nor read pickles."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import ModelFileError
from localdistill.safety.bounded_json import TENSORS, table_of

if TYPE_CHECKING:
    import torch

MOST_TENSORS = 65_536
"""Tensors that a file may hold."""
_MOST_SIDES = 8
_MOST_NUMBER = 1 << 63
DTYPE_BYTES: Mapping[str, int] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
    "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}

_TORCH_NAMES: Mapping[str, str] = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "U8": "uint8", "BOOL": "bool",
}
_TAGS = {name: tag for tag, name in _TORCH_NAMES.items()}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: `start` and `end` are byte offsets from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of a safetensors file by name, with every offset checked against the file's size.

    Raises ModelFileError when the file is missing, truncated, or its header says what cannot be.
    """
    try:
        if path.exists() and not path.is_file():
            raise ModelFileError(f"{path} is not a file", "get the model again")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if length > size - 8:
                raise _damaged(path, "it is shorter than its header says")
            if length > TENSORS.size_bytes:
                raise _damaged(path, f"its header is said to take {length:,} bytes, and none takes "
                                     f"{TENSORS.size_bytes:,}")
            text = file.read(length)
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}",
                             "check the file") from None
    header = table_of(text, f"the header of {path}", TENSORS, unique=True)
    header.pop("__metadata__", None)
    if len(header) > MOST_TENSORS:
        raise _damaged(path, f"it holds {len(header):,} tensors, and none holds more than {MOST_TENSORS:,}")
    base = 8 + length
    infos = {name: _checked(path, name, entry, base) for name, entry in header.items()}
    end = base
    for info in sorted(infos.values(), key=lambda item: (item.start, item.end)):
        if info.start != end:
            raise _damaged(path, f"{_named(info.name)} overlaps another or leaves a hole")
        end = info.end
    if end != size:
        raise _damaged(path, f"it holds {size:,} bytes where its header needs {end:,}")
    return infos


def _damaged(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"{path.name} is damaged: {why}", f"download it again: {path}")


def _named(name: str) -> str:
    return f"tensor {name[:100]!r}"


def _checked(path: Path, name: str, entry: Any, base: int) -> TensorInfo:
    try:
        dtype, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        width = DTYPE_BYTES[dtype]
        numbers = [*shape, start, end]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"the entry of {_named(name)} is not understood") from None
    if not isinstance(shape, list) or len(shape) > _MOST_SIDES or any(
            not isinstance(n, int) or isinstance(n, bool) or not 0 <= n < _MOST_NUMBER for n in numbers):
        raise _damaged(path, f"{_named(name)} has a size that is negative, fractional or none of a tensor")
    if prod(shape) * width != end - start:
        raise _damaged(path, f"{_named(name)} has a shape that does not fit its bytes")
    return TensorInfo(name, dtype, tuple(shape), base + start, base + end)


def same_bytes(path: Path, info: TensorInfo, other_path: Path, other: TensorInfo) -> bool:
    """Whether two stored tensors are equal in dtype, shape and every byte. Read in pieces, once per version of the
    files."""
    if (info.dtype, info.shape) != (other.dtype, other.shape):
        return False
    versions = tuple((str(file), stat.st_size, stat.st_mtime_ns)
                     for file, stat in ((file, file.stat()) for file in (path, other_path)))
    return _same_range(versions, info.start, other.start, info.end - info.start)


@lru_cache(maxsize=64)
def _same_range(versions: tuple[tuple[str, int, int], ...], start: int, other_start: int, length: int) -> bool:
    (first, *_), (second, *_) = versions
    with open(first, "rb") as one, open(second, "rb") as two:
        one.seek(start)
        two.seek(other_start)
        for done in range(0, length, BORDERS.checked_bytes):
            size = min(BORDERS.checked_bytes, length - done)
            if one.read(size) != two.read(size):
                return False
    return True


def stored_dtype(info: TensorInfo) -> torch.dtype:
    """The type in which a tensor is stored. ModelFileError for one that torch does not have."""
    import torch

    if info.dtype not in _TORCH_NAMES:
        raise ModelFileError(f"tensor '{info.name}' has dtype {info.dtype}, which is not supported",
                             "use the model in float32, float16 or bfloat16")
    dtype: torch.dtype = getattr(torch, _TORCH_NAMES[info.dtype])
    return dtype


def read_tensor(path: Path, info: TensorInfo) -> torch.Tensor:
    """One tensor of the file that `info` was read from, on the CPU, in its stored dtype."""
    return next(iter(read_pieces(path, info, 0)))[1]


def read_rows(path: Path, info: TensorInfo, places: Sequence[int]) -> torch.Tensor:
    """The rows at `places` of a stored table, in its dtype."""
    import torch

    size = DTYPE_BYTES.get(info.dtype, 0) * prod(info.shape[1:])
    return torch.cat([_read(path, TensorInfo(info.name, info.dtype, (1, *info.shape[1:]), info.start + place * size,
                                             info.start + (place + 1) * size)) for place in places])


def read_pieces(path: Path, info: TensorInfo, values: int | None = None) -> Iterator[tuple[int, torch.Tensor]]:
    """The same in pieces of whole rows of about `values` elements (0: in one): first row, and rows. One of a single
    dimension comes as one piece."""
    step = BORDERS.weight_values if values is None else values
    width = prod(info.shape[1:]) if len(info.shape) > 1 else info.count
    if not step or len(info.shape) < 2 or not info.count:
        yield 0, _read(path, info)
        return
    each, size = max(1, step // width), DTYPE_BYTES.get(info.dtype, 0) * width
    for first in range(0, info.shape[0], each):
        last = min(info.shape[0], first + each)
        yield first, _read(path, TensorInfo(info.name, info.dtype, (last - first, *info.shape[1:]),
                                            info.start + first * size, info.start + last * size))


def _read(path: Path, info: TensorInfo) -> torch.Tensor:
    import torch

    dtype = stored_dtype(info)
    buffer = bytearray(info.end - info.start)
    with path.open("rb") as file:
        file.seek(info.start)
        if file.readinto(buffer) != len(buffer):
            raise _damaged(path, f"tensor '{info.name}' is cut")
    if not buffer:
        return torch.empty(info.shape, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype).reshape(info.shape)


def write_tensors(path: Path, plan: Sequence[tuple[str, tuple[int, ...], torch.dtype]],
                  produce: Callable[[str], torch.Tensor]) -> None:
    """Write a safetensors file, calling `produce(name)` for one tensor of `plan` (name, shape, dtype) at a time.

    The file appears whole at `path` or not at all. Raises ValueError when a produced tensor differs from the plan.
    """
    def whole(name: str) -> Iterator[torch.Tensor]:
        yield produce(name)

    write_in_pieces(path, plan, whole)


def write_in_pieces(path: Path, plan: Sequence[tuple[str, tuple[int, ...], torch.dtype]],
                    produce: Callable[[str], Iterable[torch.Tensor]]) -> None:
    """The same with tensors that come as pieces of their rows, one behind the other."""
    import torch

    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape, dtype in plan:
        tag = _TAGS[str(dtype).removeprefix("torch.")]
        size = prod(shape) * DTYPE_BYTES[tag]
        entries[name] = {"dtype": tag, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for name, shape, dtype in plan:
                rows = 0
                for tensor in produce(name):
                    rows += tensor.shape[0] if shape else 0
                    if tuple(tensor.shape[1:]) != tuple(shape[1:]) or tensor.dtype != dtype:
                        raise ValueError(f"'{name}' is {tuple(tensor.shape)} {tensor.dtype}, planned {shape} {dtype}")
                    file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
                if shape and rows != shape[0]:
                    raise ValueError(f"'{name}' has {rows} rows, planned {shape}")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
