"""Safetensors headers: good files agree with the library, every kind of damage is one error type."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.tensors import read_header, read_tensor, write_tensors

torch = pytest.importorskip("torch")


@pytest.fixture
def tensors() -> dict[str, Any]:
    return {"a": torch.randn(3, 5), "b": torch.arange(4, dtype=torch.int32), "c": torch.randn(2, 2).bfloat16(),
            "empty": torch.zeros(0, 4)}


def test_what_is_written_is_read_by_the_library_and_by_us(tmp_path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    file = tmp_path / "x.safetensors"
    write_tensors(file, [(name, tuple(t.shape), t.dtype) for name, t in tensors.items()], tensors.__getitem__)
    theirs, header = load_file(file), read_header(file)
    assert set(theirs) == set(header) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(theirs[name], tensor) and torch.equal(read_tensor(file, header[name]), tensor)


def test_a_file_of_the_library_is_understood(tmp_path: Path, tensors: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "x.safetensors")
    assert header["a"].shape == (3, 5) and header["a"].count == 15 and header["c"].dtype == "BF16"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="planned"):
        write_tensors(tmp_path / "x", [("a", (2,), torch.float32)], lambda _: torch.zeros(3))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1])
def test_truncated_files_are_refused(tmp_path: Path, tensors: dict[str, Any], cut: int) -> None:
    file = tmp_path / "x.safetensors"
    write_tensors(file, [(name, tuple(t.shape), t.dtype) for name, t in tensors.items()], tensors.__getitem__)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ModelFileError, match="damaged"):
        read_header(file)


@pytest.mark.parametrize("entry", [
    {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
    {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, {"dtype": "NO", "shape": [1], "data_offsets": [0, 4]},
    {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}, {"dtype": "F32"}, [], "x",
    {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}, {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
])
def test_headers_that_lie_are_refused(tmp_path: Path, entry: Any) -> None:
    head = json.dumps({"t": entry}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 4)
    with pytest.raises(ModelFileError, match="damaged"):
        read_header(tmp_path / "x")


def test_no_mutant_raises_anything_but_our_error(tmp_path: Path, tensors: dict[str, Any]) -> None:
    """Damage in the header is refused or leaves tensors that lie inside the file and hold what their shape says."""
    file = tmp_path / "x.safetensors"
    write_tensors(file, [(name, tuple(t.shape), t.dtype) for name, t in tensors.items()], tensors.__getitem__)
    whole, draw, refused = file.read_bytes(), random.Random(0), 0
    header_bytes = 8 + struct.unpack("<Q", whole[:8])[0]
    for _ in range(300):
        mutant = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            mutant[draw.randrange(header_bytes)] = draw.randrange(256)
        file.write_bytes(mutant)
        try:
            for info in read_header(file).values():
                tensor = read_tensor(file, info)
                assert tuple(tensor.shape) == info.shape and info.start + tensor.nbytes <= len(mutant)
        except ModelFileError as error:
            assert file.name in error.message
            refused += 1
    assert refused > 200


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.safetensors"):
        read_header(tmp_path / "gone.safetensors")
