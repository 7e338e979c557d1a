"""Manifests: whatever is done to a folder or to its manifest is seen and named, and a file is read once per version."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from localdistill.core.errors import LocalDistillError
from localdistill.safety import known_sums as sums
from localdistill.safety.manifest import MANIFEST, damage_of, read_manifest, strangers_in, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "inner" / "facts.json").write_text('{"rows": 3}')
    write_manifest(tmp_path, {"label": "a garden", "inputs": ["b2:1"]})
    return tmp_path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "weights.bin is not what was written": lambda folder: flip(folder / "weights.bin", 777),
    "weights.bin has 5,115 bytes instead of 5,120": lambda folder: os.truncate(folder / "weights.bin", 5115),
    "weights.bin is missing": lambda folder: (folder / "weights.bin").unlink(),
    "inner/facts.json is not what was written": lambda folder: (folder / "inner/facts.json").write_text('{"rows": 8}'),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_what_differs_is_named(folder: Path, said: str) -> None:
    manifest = read_manifest(folder)
    assert damage_of(folder, manifest) == "" and manifest["label"] == "a garden"
    DAMAGE[said](folder)
    assert damage_of(folder, manifest) == said
    assert damage_of(folder, manifest, [name for name in manifest["files"] if name not in said]) == ""


def test_no_byte_of_a_manifest_turns_unseen(folder: Path) -> None:
    path = folder / MANIFEST
    before, said = path.read_bytes(), read_manifest(folder)
    for place in range(len(before)):
        for bit in (1, 2, 32):
            changed = bytearray(before)
            changed[place] ^= bit
            path.write_bytes(changed)
            with contextlib.suppress(LocalDistillError):
                assert read_manifest(folder) == said, f"byte {place} became {changed[place]:#x}"
    path.write_bytes(before)
    assert read_manifest(folder) == said


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"files": []}', '{"files": {"a": 3}}',
                                  '{"files": {"../a": {"size_bytes": 1, "sha256": "x"}}}', "[" * 100_000])
def test_a_manifest_that_is_none_is_refused_in_words(folder: Path, text: str) -> None:
    (folder / MANIFEST).write_text(text)
    with pytest.raises(LocalDistillError, match=r"manifest\.json"):
        read_manifest(folder)


def test_a_manifest_from_before_checksums_is_still_read(folder: Path) -> None:
    said = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({key: said[key] for key in ("label", "files")}))
    assert damage_of(folder, read_manifest(folder)) == ""
    flip(folder / "weights.bin", 0)
    assert damage_of(folder, read_manifest(folder)) == "weights.bin is not what was written"


def test_files_that_nobody_listed_are_named(folder: Path) -> None:
    (folder / "inner" / "more.bin").write_text("x")
    assert strangers_in(folder, read_manifest(folder)) == ["inner/more.bin"]


def test_a_file_is_read_once_until_it_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = sums.sha256_file

    def counted(path: Path, tick: Callable[[], None]) -> str:
        read.append(path.name)
        return real(path, tick)

    monkeypatch.setattr(sums, "sha256_file", counted)
    monkeypatch.setattr(sums, "_RECENT_NS", -(10**18))
    manifest = read_manifest(folder)
    for _ in range(3):
        assert damage_of(folder, manifest) == ""
    assert sorted(read) == ["facts.json", "weights.bin"]
    flip(folder / "weights.bin", 9)
    stat = (folder / "weights.bin").stat()
    os.utime(folder / "weights.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert "weights.bin" in damage_of(folder, manifest) and read.count("weights.bin") == 2


def test_what_was_written_just_now_is_not_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes within one tick of a file system's clock look alike."""
    monkeypatch.setattr(sums, "_RECENT_NS", 10**18)
    manifest = read_manifest(folder)
    stat = (folder / "weights.bin").stat()
    monkeypatch.setattr(sums, "_version", lambda path: (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, 1))
    assert damage_of(folder, manifest) == ""
    flip(folder / "weights.bin", 9)
    assert damage_of(folder, manifest, ["weights.bin"]) == "weights.bin is not what was written"


def test_reading_a_large_file_can_be_ended(folder: Path) -> None:
    class Enough(Exception):
        pass

    def tick() -> None:
        raise Enough

    with pytest.raises(Enough):
        damage_of(folder, read_manifest(folder), tick=tick)
