"""Cuts a finished GGUF into several, as llama.cpp names and reads them: the first has the metadata, each has some of
the tensors. Bytes are copied as they are; nothing is quantized or changed."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from localdistill.core.borders import BORDERS
from localdistill.core.errors import ModelFileError
from localdistill.core.events import Cancel
from localdistill.modelfiles.gguf_files import part_name
from localdistill.modelfiles.gguf_header import DEFAULT_ALIGNMENT, GGML_TYPES, GgufHeader, GgufTensorInfo, read_header
from localdistill.modelfiles.shards import groups_of
from localdistill.safety.files import writing

_OPENING_BYTES = 24
_U16, _I32 = 2, 5
_TYPES = {name: number for number, (name, _, _) in GGML_TYPES.items()}


def split_gguf(file: Path, most_bytes: int, cancel: Cancel) -> list[Path]:
    """Cut `file` into parts whose tensors take at most `most_bytes` (at least one tensor each) and remove it; it stays
    as it is where one part is enough. Raises DiskFull or LocalDistillError when the disk refuses; no part is left then.
    """
    header = read_header(file)
    if header.metadata.get("general.alignment", DEFAULT_ALIGNMENT) != DEFAULT_ALIGNMENT:
        raise ModelFileError(f"{file.name} aligns tensors in a way of its own", "leave it in one file")
    in_order = sorted(header.tensors, key=lambda tensor: tensor.offset)
    groups = list(groups_of(in_order, lambda tensor: _padded(tensor.size_bytes), most_bytes))
    if len(groups) == 1:
        return [file]
    parts = [file.with_name(part_name(file.name, number, len(groups))) for number in range(len(groups))]
    partials = [part.with_name(part.name + ".partial") for part in parts]
    try:
        with file.open("rb") as source, writing(partials[0], "a part of the model"):
            for number, (partial, group) in enumerate(zip(partials, groups, strict=True)):
                with partial.open("wb") as out:
                    _write(source, header, out, group, (number, len(groups)), cancel)
                    out.flush()
                    os.fsync(out.fileno())
        for partial, part in zip(partials, parts, strict=True):
            os.replace(partial, part)
    except BaseException:
        for path in (*partials, *parts):
            path.unlink(missing_ok=True)
        raise
    file.unlink()
    return parts


def _padded(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _write(source: BinaryIO, header: GgufHeader, out: BinaryIO, tensors: Sequence[GgufTensorInfo],
           place: tuple[int, int], cancel: Cancel) -> None:
    number, count = place
    source.seek(_OPENING_BYTES - 8)
    entries, = struct.unpack("<Q", source.read(8))
    kept = source.read(header.tensors_offset - _OPENING_BYTES) if number == 0 else b""
    out.write(struct.pack("<4sIQQ", b"GGUF", header.version, len(tensors), (0 if number else entries) + 3) + kept)
    out.write(_entry("split.no", _U16, "<H", number) + _entry("split.count", _U16, "<H", count))
    out.write(_entry("split.tensors.count", _I32, "<i", len(header.tensors)))
    at = 0
    for tensor in tensors:
        out.write(_text(tensor.name) + struct.pack(f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape,
                                                   _TYPES[tensor.type], at))
        at += _padded(tensor.size_bytes)
    _pad(out)
    for tensor in tensors:
        source.seek(tensor.offset)
        for first in range(0, tensor.size_bytes, BORDERS.checked_bytes):
            cancel.check()
            out.write(source.read(min(BORDERS.checked_bytes, tensor.size_bytes - first)))
        _pad(out)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _entry(key: str, kind: int, form: str, value: int) -> bytes:
    return _text(key) + struct.pack("<I", kind) + struct.pack(form, value)


def _pad(out: BinaryIO) -> None:
    out.write(bytes(-out.tell() % DEFAULT_ALIGNMENT))
