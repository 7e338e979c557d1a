"""Artifacts are whole or absent, builders resume and take turns, and files that are cut short never get their name."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from localdistill.errors import LocalDistillError, UsageError
from localdistill.safety.files import atomic_write_text, inside, partial_file, slug
from localdistill.workspace import Workspace


def build(workspace: Workspace, digest: str, text: str = "hello", label: str = "one") -> None:
    with workspace.build_artifact("dataset", digest, {"label": label}) as staging:
        (staging / "a.txt").write_text(text)
        (staging / "checkpoints").mkdir(exist_ok=True)
        (staging / "checkpoints" / "step-1").write_text("big")


def test_an_artifact_is_complete_only_after_its_manifest(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    digest = workspace.artifact_digest("dataset", 1, {"b": 2, "a": 1}, [])
    assert digest == workspace.artifact_digest("dataset", 1, {"a": 1, "b": 2}, [])
    assert digest != workspace.artifact_digest("dataset", 2, {"a": 1, "b": 2}, [])
    assert workspace.artifact("dataset", digest) is None
    build(workspace, digest)
    artifact = workspace.artifact("dataset", digest)
    assert artifact is not None and artifact.file("a.txt").read_text() == "hello"
    assert set(artifact.manifest["files"]) == {"a.txt"}
    artifact.verify()


def test_a_failed_build_keeps_its_staging_and_publishes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(RuntimeError), workspace.build_artifact("dataset", "b2:aa", {}) as staging:
        (staging / "half").write_text("x")
        raise RuntimeError
    assert workspace.artifact("dataset", "b2:aa") is None
    with workspace.build_artifact("dataset", "b2:aa", {}) as staging:
        assert (staging / "half").read_text() == "x"
    assert workspace.artifact("dataset", "b2:aa") is not None


def test_damage_is_seen(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    build(workspace, "b2:aa")
    artifact = workspace.artifact("dataset", "b2:aa")
    assert artifact is not None
    (artifact.path / "a.txt").write_text("hellO")
    with pytest.raises(LocalDistillError, match=r"a\.txt"):
        artifact.verify()
    (artifact.path / "a.txt").write_text("short")
    (artifact.path / "a.txt").unlink()
    assert workspace.artifact("dataset", "b2:aa") is None
    build(workspace, "b2:aa")
    assert workspace.artifact("dataset", "b2:aa") is not None


def test_two_builders_take_turns(tmp_path: Path) -> None:
    workspace, inside_now, most = Workspace(tmp_path), [], []

    def work(name: str) -> None:
        with workspace.build_artifact("dataset", "b2:aa", {}) as staging:
            inside_now.append(name)
            most.append(len(inside_now))
            (staging / "a.txt").write_text(name)
            inside_now.remove(name)

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    artifact = workspace.artifact("dataset", "b2:aa")
    assert artifact is not None
    artifact.verify()


def test_artifacts_are_found_by_label_digest_and_beginning(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    build(workspace, "b2:aabb")
    build(workspace, "b2:aacc", label="two")
    assert workspace.resolve_artifact("two").digest == "b2:aacc"
    assert workspace.resolve_artifact("b2:aab").digest == "b2:aabb"
    for name in ("aa", "zz"):
        with pytest.raises(UsageError):
            workspace.resolve_artifact(name)


def test_the_workspace_is_the_nearest_marked_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "localdistill.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert Workspace.find().root == tmp_path
    assert Workspace.find(tmp_path / "a").root == tmp_path / "a"


def test_a_full_disk_leaves_nothing_at_the_final_path(tmp_path: Path) -> None:
    final = tmp_path / "model.gguf"
    with (
        pytest.raises(LocalDistillError, match=r"no space left while writing model\.gguf"),
        partial_file(final) as partial,
    ):
        partial.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_replaces_whole(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / "a", "one")
    atomic_write_text(tmp_path / "a", "two \ud800")
    assert (tmp_path / "a").read_bytes() == b"two \xed\xa0\x80"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd"])
def test_names_cannot_leave_their_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        inside(tmp_path, name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My Model: 3B", "my-model-3b"),
        ("../..", "unnamed"),
        (".hidden", "hidden"),
        ("x" * 99, "x" * 64),
        ("", "unnamed"),
    ],
)
def test_slugs(text: str, expected: str) -> None:
    assert slug(text) == expected
