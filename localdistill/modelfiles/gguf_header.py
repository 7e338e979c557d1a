"""A strict reader of GGUF headers: proves that a file's counts, offsets and sizes fit before native code sees it.

GGUF has no checksum and its native parser has had memory bugs, so every number is checked against the file's length
here, in pure Python. Tensor data is not read. Any problem is a ModelFileError that names the file; nothing else
is ever raised.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from localdistill.core.borders import BORDERS
from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.gguf_claims import LongArray, Scalar, Value, wrong_claim
from localdistill.modelfiles.tensors import MOST_TENSORS

__all__ = ["GgufHeader", "GgufTensorInfo", "LongArray", "read_header"]

GGML_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}
"""Type number -> (name, elements per block, bytes per block)."""

_SCALARS: dict[int, struct.Struct] = {
    number: struct.Struct("<" + code) for number, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd")
}
_STRING, _ARRAY = 8, 9
_U32, _U64, _I32 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<i")
_SMALLEST_ENTRY_BYTES = 8 + 4 + 1
_SMALLEST_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8
_MAX_NAME_BYTES = 64
_MAX_KEY_BYTES = 65_535
_MAX_STRING_BYTES = 64 * 1024 * 1024
_MAX_DIMENSIONS = 4
_MOST_ENTRIES = 65_536
_MOST_KEPT_BYTES = 64 * 1024 * 1024
"""Texts of the header that are kept, all together."""
_MOST_STRINGS = 1 << 21
"""Texts in one list: the largest vocabularies have some 260,000 tokens and twice as many merges."""
DEFAULT_ALIGNMENT = 32

@dataclass(frozen=True, slots=True)
class GgufTensorInfo:
    """One tensor. `shape` has the file's order (contiguous first), `offset` counts from the file's start."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Everything in front of the tensor data."""

    path: Path
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[GgufTensorInfo, ...]
    data_offset: int
    size_bytes: int
    tensors_offset: int
    """Where the list of tensors begins, behind the metadata."""

    @property
    def architecture(self) -> str:
        """`general.architecture`, for example `llama`; empty in a part of a model that is not its first."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        """Number of weights in all tensors."""
        return sum(prod(t.shape) for t in self.tensors)


class _Bad(Exception):
    """What is wrong, without the file's name."""


class _Cursor:
    """Reads forward through the file in windows and never past its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size, self.kept = file, size, 0
        self._window, self._start, self.position = b"", 0, 0

    def left(self) -> int:
        return self.size - self.position

    def take(self, count: int, what: str) -> bytes:
        if count > self.left():
            raise _Bad(f"it ends inside {what} (at byte {self.position} of {self.size}): the file is truncated")
        begin = self.position - self._start
        if begin + count > len(self._window):
            self._file.seek(self.position)
            self._window, self._start, begin = self._file.read(max(count, BORDERS.header_bytes)), self.position, 0
            if len(self._window) < count:
                raise _Bad(f"it ends inside {what}: the file is truncated")
        self.position += count
        return self._window[begin : begin + count]

    def skip(self, count: int, what: str) -> None:
        if count > self.left():
            raise _Bad(f"it ends inside {what} (at byte {self.position} of {self.size}): the file is truncated")
        self.position += count

    def skip_strings(self, count: int, what: str) -> None:
        """Go past `count` strings; quickly, for vocabularies are long."""
        unpack, window = _U64.unpack_from, memoryview(b"")
        start = at = self.position
        for _ in range(count):
            if at + 8 > start + len(window):
                self.position = at
                self.take(min(8, self.left()), what)
                window, start = memoryview(self._window), self._start
                if at + 8 > start + len(window):
                    raise _Bad(f"it ends inside {what}: the file is truncated")
            at += 8 + unpack(window, at - start)[0]
            if at > self.size:
                raise _Bad(f"it ends inside {what}: the file is truncated")
        self.position = at

    def u32(self, what: str) -> int:
        return int(_U32.unpack(self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(_U64.unpack(self.take(8, what))[0])

    def string(self, what: str, limit: int) -> str:
        length = self.u64(what)
        if length > min(limit, self.left()):
            raise _Bad(f"{what} claims to be {length} bytes long")
        self.kept += length
        if self.kept > _MOST_KEPT_BYTES:
            raise _Bad(f"its texts take more than {_MOST_KEPT_BYTES:,} bytes")
        try:
            return self.take(length, what).decode("utf-8")
        except UnicodeDecodeError:
            raise _Bad(f"{what} is not UTF-8 text") from None


def read_header(path: Path, max_array: int = 4096, whole: Collection[str] = ()) -> GgufHeader:
    """The checked header of the GGUF file at `path` (versions 2 and 3, little endian).

    Arrays longer than `max_array` become LongArray, but those under the keys `whole`. Raises ModelFileError that names
    the file and what is wrong.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is not a file")
        size = path.stat().st_size
        with path.open("rb") as file:
            return _read(path, _Cursor(file, size), max_array, whole)
    except FileNotFoundError:
        raise ModelFileError(f"{path} does not exist", "check the path of the model") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}", "check the path of the model") from None
    except _Bad as bad:
        hint = "get the file again and compare its SHA-256"
        raise ModelFileError(f"{path} is not a usable GGUF file: {bad}", hint) from None


def _read(path: Path, cursor: _Cursor, max_array: int, whole: Collection[str]) -> GgufHeader:
    version, tensor_count, entry_count = _opening(cursor)
    metadata: dict[str, Value] = {}
    for _ in range(entry_count):
        key = cursor.string("a metadata key", _MAX_KEY_BYTES)
        if key in metadata:
            raise _Bad(f"the key {key[:80]!r} is there twice")
        metadata[key] = _value(cursor, cursor.u32(f"{key[:80]!r}"), f"{key[:80]!r}",
                               _MOST_STRINGS if key in whole else max_array)
    if not isinstance(metadata.get("general.architecture"), str) and not metadata.get("split.no"):
        raise _Bad("the key 'general.architecture' is missing")
    tensors_offset = cursor.position
    raw = [_tensor(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment <= 0 or alignment & (alignment - 1) or alignment > 1 << 20:
        raise _Bad(f"its alignment {alignment!r} is not a power of two")
    data_offset = -(-cursor.position // alignment) * alignment
    tensors = _placed(raw, data_offset, alignment, cursor.size)
    if wrong := wrong_claim(metadata, {tensor.name: tensor.shape for tensor in tensors}):
        raise _Bad(wrong)
    return GgufHeader(path, version, metadata, tensors, data_offset, cursor.size, tensors_offset)


def _opening(cursor: _Cursor) -> tuple[int, int, int]:
    """Version, number of tensors, number of metadata entries."""
    if cursor.size == 0:
        raise _Bad("it is empty")
    magic = cursor.take(4, "its first four bytes")
    if magic != b"GGUF":
        raise _Bad("it does not begin with 'GGUF'")
    version = cursor.u32("the version")
    if version not in (2, 3):
        kind = "it is big-endian" if version in (2 << 24, 3 << 24) else f"its version is {version}"
        raise _Bad(f"{kind}; versions 2 and 3, little-endian, are supported")
    tensor_count, entry_count = cursor.u64("the tensor count"), cursor.u64("the metadata count")
    if tensor_count * _SMALLEST_TENSOR_BYTES + entry_count * _SMALLEST_ENTRY_BYTES > cursor.left():
        raise _Bad(f"{tensor_count} tensors and {entry_count} metadata entries cannot fit into {cursor.size} bytes")
    if tensor_count > MOST_TENSORS or entry_count > _MOST_ENTRIES:
        raise _Bad(f"it says that it holds {tensor_count:,} tensors and {entry_count:,} metadata entries; at most "
                   f"{MOST_TENSORS:,} and {_MOST_ENTRIES:,} are taken")
    return version, tensor_count, entry_count


def _value(cursor: _Cursor, kind: int, what: str, max_array: int) -> Value:
    if kind in _SCALARS:
        scalar = _SCALARS[kind]
        number: Scalar = scalar.unpack(cursor.take(scalar.size, what))[0]
        return number
    if kind == _STRING:
        return cursor.string(what, _MAX_STRING_BYTES)
    if kind == _ARRAY:
        return _array(cursor, what, max_array)
    raise _Bad(f"{what} has the unknown type {kind}")


def _array(cursor: _Cursor, what: str, max_array: int) -> Value:
    kind, count = cursor.u32(what), cursor.u64(what)
    if kind in _SCALARS:
        scalar = _SCALARS[kind]
        if count * scalar.size > cursor.left():
            raise _Bad(f"{what} claims {count} elements, more than the file holds")
        if count > max_array:
            cursor.skip(count * scalar.size, what)
            return LongArray(count)
        return [item for (item,) in scalar.iter_unpack(cursor.take(count * scalar.size, what))]
    if kind != _STRING:
        raise _Bad(f"{what} is an array of the unsupported type {kind}")
    if count * 8 > cursor.left():
        raise _Bad(f"{what} claims {count} strings, more than the file holds")
    if count > _MOST_STRINGS:
        raise _Bad(f"{what} holds {count:,} strings; at most {_MOST_STRINGS:,} are taken")
    if count <= max_array:
        return [cursor.string(what, _MAX_STRING_BYTES) for _ in range(count)]
    cursor.skip_strings(count, what)
    return LongArray(count)


def _tensor(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.string("a tensor name", _MAX_NAME_BYTES)
    what = f"tensor {name!r}"
    dimensions = cursor.u32(what)
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise _Bad(f"{what} has {dimensions} dimensions")
    shape = tuple(cursor.u64(what) for _ in range(dimensions))
    if not all(0 < n < 1 << 40 for n in shape) or prod(shape) >= 1 << 62:
        raise _Bad(f"{what} has the impossible shape {shape}")
    return name, shape, cursor.u32(what), cursor.u64(what)


def _placed(raw: list[tuple[str, tuple[int, ...], int, int]], data_offset: int, alignment: int,
            size: int) -> tuple[GgufTensorInfo, ...]:
    """The tensors with their sizes, proven to lie inside the file without touching each other."""
    tensors: dict[str, GgufTensorInfo] = {}
    for name, shape, number, offset in raw:
        if name in tensors:
            raise _Bad(f"tensor {name!r} is there twice")
        if number not in GGML_TYPES:
            raise _Bad(f"tensor {name!r} has the unknown type {number}")
        kind, block, block_bytes = GGML_TYPES[number]
        if shape[0] % block:
            raise _Bad(f"tensor {name!r} of type {kind} has rows of {shape[0]}, not a multiple of {block}")
        length = prod(shape) // block * block_bytes
        if offset % alignment:
            raise _Bad(f"tensor {name!r} is not aligned to {alignment} bytes")
        if data_offset + offset + length > size:
            raise _Bad(f"tensor {name!r} ends at byte {data_offset + offset + length} of {size}: the file is truncated")
        tensors[name] = GgufTensorInfo(name, shape, kind, data_offset + offset, length)
    previous: GgufTensorInfo | None = None
    for tensor in sorted(tensors.values(), key=lambda t: t.offset):
        if previous is not None and tensor.offset < previous.offset + previous.size_bytes:
            raise _Bad(f"tensors {previous.name!r} and {tensor.name!r} overlap")
        previous = tensor
    return tuple(tensors.values())
