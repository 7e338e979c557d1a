"""A GGUF model is all its parts, and a file that is no model which writes is refused by what it is."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.llama_cpp_native.sizing import sizes_of
from localdistill.modelfiles.gguf_files import open_gguf
from tests.modelfiles.test_gguf_header import build, text


def entry(key: str, value: object) -> bytes:
    if isinstance(value, bool):
        return text(key) + struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return text(key) + struct.pack("<II", 4, value)
    return text(key) + struct.pack("<I", 8) + text(str(value))


def write(path: Path, tensors: list[str], fill: int = 0, architecture: str = "llama", **entries: object) -> Path:
    said = [entry("general.architecture", architecture),
            *(entry(key.replace("__", "."), value) for key, value in entries.items())]
    placed = [(name, (32, 1), 0, 128 * at) for at, name in enumerate(tensors)]
    path.write_bytes(build(said, placed, bytes([fill]) * 128 * len(tensors)))
    return path


def split(folder: Path, count: int = 3, **changes: object) -> list[Path]:
    """A model of two blocks in parts, one tensor each."""
    names = ["token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_q.weight"]
    return [write(folder / f"m-{at + 1:05d}-of-{count:05d}.gguf", [names[at]], at, **{
        "llama__block_count": 2, "split__no": at, "split__count": count, "split__tensors__count": 3, **changes})
        for at in range(count)]


def identity(path: Path) -> str:
    return LlamaCppEngine(LlamaCppOptions(model=str(path))).identity()


def test_a_model_in_parts_is_all_of_them(tmp_path: Path) -> None:
    parts = split(tmp_path)
    whole = open_gguf(parts[0])
    assert whole.parts == tuple(parts) and len(whole.header.tensors) == 3
    assert whole.header.size_bytes == sum(part.stat().st_size for part in parts)
    assert sizes_of(whole.header, "f16").layer_bytes == (128, 128, 128)
    before = identity(parts[0])
    for part in parts:
        data = bytearray(part.read_bytes())
        data[-3] ^= 0x7F
        part.write_bytes(data)
        after = identity(parts[0])
        assert after != before
        before = after


def test_a_single_file_keeps_the_identity_that_it_had(tmp_path: Path) -> None:
    import hashlib

    path = write(tmp_path / "m.gguf", ["token_embd.weight"])
    assert identity(path) == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() == open_gguf(path).digest()


def test_parts_that_are_missing_renamed_or_of_another_model_are_named(tmp_path: Path) -> None:
    parts = split(tmp_path)
    with pytest.raises(ModelFileError, match="is part 2 of 3") as refused:
        open_gguf(parts[1])
    assert str(parts[0]) in refused.value.hint
    kept = parts[2].read_bytes()
    parts[2].unlink()
    with pytest.raises(ModelFileError, match=r"1 are not beside it: m-00003-of-00003\.gguf"):
        open_gguf(parts[0])
    write(parts[2], ["blk.1.attn_q.weight"], split__no=1, split__count=3)
    with pytest.raises(ModelFileError, match="does not say that it is part 3 of 3"):
        open_gguf(parts[0])
    write(parts[2], ["token_embd.weight"], split__no=2, split__count=3)
    with pytest.raises(ModelFileError, match="hold 2 tensors, and 3 belong"):
        open_gguf(parts[0])
    parts[2].write_bytes(kept[:-40])
    with pytest.raises(ModelFileError, match=r"00003-of-00003.gguf is not a usable GGUF file.*truncated"):
        open_gguf(parts[0])
    parts[2].write_bytes(kept)
    other = parts[0].rename(tmp_path / "other.gguf")
    with pytest.raises(ModelFileError, match="says that it is part 1 of 3, and is not called so"):
        open_gguf(other)


@pytest.mark.parametrize(("architecture", "entries", "tensors", "told"), [
    ("clip", {}, ["v.blk.0.attn_q.weight"], r"projector of a vision model \(mmproj\)"),
    ("qwen2vl", {"general__type": "mmproj"}, ["mm.0.weight"], r"projector of a vision model \(mmproj\)"),
    ("llama", {"clip__has_vision_encoder": True}, ["v.a"], "projector of a vision model"),
    ("bert", {}, ["token_embd.weight"], "an embedding model"),
    ("qwen3", {"qwen3__pooling_type": 3}, ["token_embd.weight"], "an embedding model"),
    ("llama", {"llama__attention__causal": False}, ["token_embd.weight"], "an embedding model"),
    ("llama", {"general__type": "adapter"}, ["blk.0.attn_q.weight.lora_a"], r"an adapter \(LoRA\)"),
    ("llama", {"general__type": "imatrix"}, ["a"], "an importance matrix"),
    ("llama", {}, [], "a vocabulary without weights"),
])
def test_a_file_that_writes_nothing_is_refused_by_what_it_is(tmp_path: Path, architecture: str,
                                                             entries: dict[str, object], tensors: list[str],
                                                             told: str) -> None:
    path = write(tmp_path / "x.gguf", tensors, architecture=architecture, **entries)
    with pytest.raises(ModelFileError, match=told) as refused:
        open_gguf(path)
    assert refused.value.hint
    with pytest.raises(ModelFileError, match=told):
        identity(path)
    assert open_gguf(write(tmp_path / "m.gguf", ["token_embd.weight"], qwen3__pooling_type=0)).parts
