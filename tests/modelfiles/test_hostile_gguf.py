"""Every count, length, type and claim of a GGUF header set to what cannot be: read or refused by name, and nothing is
made as large as the file says that it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.engines.llama_cpp_native.sizing import context_of, kv_budget_tokens, sizes_of
from localdistill.modelfiles.gguf_header import read_header
from localdistill.modelfiles.vocabulary import gguf_vocabulary_id
from tests.strangers import gguf


def used(path: Path) -> None:
    """All that this process makes of a header."""
    header = read_header(path, max_array=1024)
    sizes = sizes_of(header, "f16")
    assert len(sizes.layer_bytes) <= len(header.tensors) + 1 or "split.count" in header.metadata
    assert sizes.kv_token_bytes >= 0 and context_of(0, sizes) > 0
    budget = kv_budget_tokens(sizes, {"device": "cpu"}, 8 << 30, header.size_bytes)
    assert budget is None or budget >= 0
    gguf_vocabulary_id(path)


@pytest.mark.parametrize("group", ["counts", "lengths", "types", "claims", "tensors"])
def test_hostile_headers_are_read_or_refused_and_nothing_else(tmp_path: Path, group: str) -> None:
    path, refused, count = tmp_path / "m.gguf", 0, 0
    for name, content in gguf.GROUPS[group]():
        path.write_bytes(content)
        count += 1
        try:
            used(path)
        except ModelFileError as error:
            refused += 1
            assert str(path) in error.message and error.hint and len(error.message) < 600, name
        except BaseException as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    assert refused > count / 3


def test_the_sound_file_passes(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf.sound().packed())
    used(tmp_path / "m.gguf")


@pytest.mark.parametrize(("key", "value", "says"), [
    ("llama__block_count", gguf.typed(gguf.U32, 2**31), "says 2147483648"),
    ("llama__block_count", gguf.typed(gguf.U32, 1000), "allows 20"),
    ("llama__block_count", gguf.typed(gguf.I32, -1), "says -1"),
    ("llama__block_count", gguf.typed(gguf.STRING, "many"), "no whole number"),
    ("llama__block_count", gguf.typed(gguf.BOOL, True), "no whole number"),
    ("llama__embedding_length", gguf.typed(gguf.U64, 2**40), "allows 64"),
    ("llama__attention__head_count", gguf.array(gguf.U32, [4] * 5000), "is a list"),
    ("llama__context_length", gguf.typed(gguf.I32, -5), "says -5"),
    ("tokenizer__ggml__tokens", gguf.array(gguf.STRING, ["a"] * 3), "another length"),
    ("split__tensors__count", gguf.typed(gguf.U32, 7), None),
])
def test_what_the_tensors_cannot_bear_out_is_refused(tmp_path: Path, key: str, value: bytes, says: str | None) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf.sound().saying(**{key: value}).packed())
    if says is None:
        used(path)
        return
    with pytest.raises(ModelFileError, match=says):
        used(path)


def test_blocks_of_a_part_are_compared_with_the_tensors_of_all_parts(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    part = gguf.sound().saying(split__count=gguf.typed(gguf.U16, 3), llama__block_count=gguf.typed(gguf.U32, 40))
    path.write_bytes(part.saying(split__tensors__count=gguf.typed(gguf.I32, 400)).packed())
    assert len(sizes_of(read_header(path), "f16").layer_bytes) == 41
    path.write_bytes(part.saying(split__tensors__count=gguf.typed(gguf.I32, 20)).packed())
    with pytest.raises(ModelFileError, match="block_count"):
        read_header(path)
    path.write_bytes(part.saying(split__tensors__count=gguf.typed(gguf.I32, 2**31 - 1)).packed())
    with pytest.raises(ModelFileError, match=r"split\.tensors\.count"):
        read_header(path)


def test_very_many_small_parts_are_refused_by_their_number(tmp_path: Path) -> None:
    for name, content in gguf.GROUPS["large"]():
        (tmp_path / "m.gguf").write_bytes(content)
        if "70,000" in name or "2,200,000" in name or "100 texts" in name or "a template" in name:
            with pytest.raises(ModelFileError, match=r"at most|more than"):
                used(tmp_path / "m.gguf")
