from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.gguf_header import LongArray, read_header


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def build(entries: list[bytes] | None = None, tensors: list[tuple[str, tuple[int, ...], int, int]] | None = None,
          data: bytes = b"\0" * 128, version: int = 3, counts: tuple[int, int] | None = None) -> bytes:
    entries = entries if entries is not None else [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    tensors = tensors if tensors is not None else [("a", (32, 1), 0, 0)]
    n_tensors, n_entries = counts or (len(tensors), len(entries))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_entries) + b"".join(entries)
    for name, shape, kind, offset in tensors:
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, offset)
    return head + b"\0" * (-len(head) % 32) + data


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("llama")


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    numbers = text("n") + struct.pack("<IIQ", 9, 4, 3) + struct.pack("<3I", 1, 2, 3)
    long = text("l") + struct.pack("<IIQ", 9, 0, 50) + bytes(50)
    words = text("w") + struct.pack("<IIQ", 9, 8, 12) + text("xy") * 12
    flag = text("f") + struct.pack("<I?", 7, True)
    path.write_bytes(build([ARCHITECTURE, numbers, long, words, flag], [("a", (32, 1), 0, 0), ("b", (32,), 8, 128)],
                           bytes(128 + 34)))
    header = read_header(path, max_array=10)
    assert header.architecture == "llama" and header.version == 3
    assert header.metadata["n"] == [1, 2, 3]
    assert header.metadata["l"] == LongArray(50) and header.metadata["w"] == LongArray(12)
    assert header.metadata["f"] is True
    assert [(t.name, t.shape, t.type, t.size_bytes) for t in header.tensors] == [
        ("a", (32, 1), "F32", 128), ("b", (32,), "Q8_0", 34)]
    assert header.tensors[1].offset == header.data_offset + 128
    assert header.parameters == 64 and header.size_bytes == path.stat().st_size


@pytest.mark.parametrize(("content", "says"), [
    (b"", "empty"), (b"GG", "truncated"), (b"PK\x03\x04" + bytes(60), "does not begin"),
    (build(version=1), "version is 1"), (build(version=3 << 24), "big-endian"),
    (build(counts=(2**60, 1)), "cannot fit"), (build(counts=(1, 2**60)), "cannot fit"),
    (build([]), "general.architecture"), (build([ARCHITECTURE, ARCHITECTURE]), "twice"),
    (build([ARCHITECTURE, text("k") + struct.pack("<I", 99)]), "unknown type 99"),
    (build([ARCHITECTURE, text("k") + struct.pack("<IIQ", 9, 0, 2**62)]), "claims"),
    (build([ARCHITECTURE, text("k") + struct.pack("<IIQ", 9, 9, 1)]), "unsupported type"),
    (build([ARCHITECTURE, struct.pack("<Q", 2**63)]), "claims to be"),
    (build([ARCHITECTURE, text("general.alignment") + struct.pack("<II", 4, 24)]), "power of two"),
    (build(tensors=[("a", (2**40, 2**40), 0, 0)]), "impossible shape"),
    (build(tensors=[("a", (0,), 0, 0)]), "impossible shape"),
    (build(tensors=[("a", (33,), 8, 0)]), "multiple of 32"), (build(tensors=[("a", (32,), 77, 0)]), "unknown type 77"),
    (build(tensors=[("a", (32,), 0, 8)]), "not aligned"), (build(tensors=[("a", (64,), 0, 0)]), "truncated"),
    (build(tensors=[("a", (8,), 0, 0), ("a", (8,), 0, 32)]), "twice"),
    (build(tensors=[("a", (16,), 0, 0), ("b", (8,), 0, 32)]), "overlap"),
    (build(tensors=[("a", (1, 1, 1, 1, 1), 0, 0)]), "5 dimensions"),
])
def test_damage_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as error:
        read_header(path)
    assert str(path) in str(error.value) and says in str(error.value)
    assert error.value.hint


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_header(tmp_path)
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_header(Path("a\0b"))


def mutants(good: bytes, count: int) -> list[bytes]:
    rng = random.Random(7)

    def flip(data: bytearray) -> None:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(min(len(data), 600))] = rng.randrange(256)

    def cut(data: bytearray) -> None:
        del data[rng.randrange(len(data)) :]

    def blow(data: bytearray) -> None:
        at = rng.randrange(min(len(data), 600) - 8)
        data[at : at + 8] = struct.pack("<Q", rng.choice([2**63, 2**32, 2**16, 2**64 - 1]))

    made: list[bytes] = []
    changes: list[Callable[[bytearray], None]] = [flip, cut, blow]
    for i in range(count):
        data = bytearray(good)
        changes[i % 3](data)
        made.append(bytes(data))
    return made


def test_random_mutants_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    words = text("w") + struct.pack("<IIQ", 9, 8, 12) + text("word") * 12
    good = build([ARCHITECTURE, words], [(f"blk.{i}", (32,), 0, 128 * i) for i in range(8)], bytes(1024))
    path = tmp_path / "mutant.gguf"
    refused = 0
    for content in mutants(good, 300):
        path.write_bytes(content)
        try:
            read_header(path, max_array=4)
        except ModelFileError:
            refused += 1
    assert 150 < refused < 300
