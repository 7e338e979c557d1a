"""Artifacts are whole or absent, builders resume and take turns, and files that are cut short never get their name."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from localdistill.core.errors import DiskFull, LocalDistillError, UsageError
from localdistill.safety.files import atomic_write_text, inside, partial_file
from localdistill.workspace.folder import Workspace, check_file


def build(workspace: Workspace, digest: str, text: str = "hello", label: str = "one") -> None:
    def fill(staging: Path) -> None:
        (staging / "a.txt").write_text(text)
        (staging / "checkpoints").mkdir(exist_ok=True)
        (staging / "checkpoints" / "step-1").write_text("big")

    workspace.make_artifact("dataset", digest, {"label": label}, fill)


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
    workspace, seen = Workspace(tmp_path), []

    def fail(staging: Path) -> None:
        (staging / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        workspace.make_artifact("dataset", "b2:aa", {}, fail)
    assert workspace.artifact("dataset", "b2:aa") is None
    made, was_there = workspace.make_artifact("dataset", "b2:aa", {}, lambda s: seen.append((s / "half").read_text()))
    assert seen == ["x"] and not was_there
    assert workspace.artifact("dataset", "b2:aa") == made and made.file("half").read_text() == "x"


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


def test_what_is_damaged_is_set_aside_named_and_made_again(tmp_path: Path) -> None:
    workspace, said = Workspace(tmp_path), list[str]()
    for number in (1, 2):
        build(workspace, "b2:aa")
        place = tmp_path / "artifacts" / "dataset" / "aa" / "a.txt"
        place.write_text("hellO")
        assert workspace.artifact("dataset", "b2:aa") is None
        made, found = workspace.make_artifact("dataset", "b2:aa", {}, lambda s: fill(s, "hello"), said=said.append)
        assert not found and made.file("a.txt").read_text() == "hello"
        aside = tmp_path / "damaged" / f"dataset-aa-{number}"
        assert (aside / "a.txt").read_text() == "hellO", "what was there is kept"
        assert "a.txt is not what was written" in said[-1] and f"damaged/dataset-aa-{number}" in said[-1]
        assert "a.txt is not what was written" in (aside / "WHY.txt").read_text()
    assert len(said) == 2 and workspace.make_artifact("dataset", "b2:aa", {}, lambda s: fill(s, "no"))[1]


def fill(staging: Path, text: str) -> None:
    (staging / "a.txt").write_text(text)


@pytest.mark.parametrize("harm", ["", "{", "[]"])
def test_a_folder_whose_manifest_is_lost_is_set_aside_too(tmp_path: Path, harm: str) -> None:
    workspace = Workspace(tmp_path)
    build(workspace, "b2:aa")
    manifest = tmp_path / "artifacts" / "dataset" / "aa" / "manifest.json"
    manifest.write_text(harm) if harm else manifest.unlink()
    assert workspace.artifact("dataset", "b2:aa") is None and workspace.list_artifacts() == []
    build(workspace, "b2:aa")
    assert workspace.artifact("dataset", "b2:aa") is not None
    assert (tmp_path / "damaged" / "dataset-aa-1" / "a.txt").read_text() == "hello"


@pytest.mark.parametrize(("second", "keeps"), [("weights", True), ("other weights", False)])
def test_what_was_made_from_something_that_came_out_otherwise_is_set_aside(
    tmp_path: Path, second: str, keeps: bool
) -> None:
    workspace, said = Workspace(tmp_path), list[str]()

    def train(text: str, took: str) -> None:
        def work(staging: Path) -> None:
            fill(staging, text)
            (staging / "times.json").write_text(took)

        workspace.make_artifact("adapter", "b2:ada", {"label": "one"}, work, unstable="a.*", said=said.append)

    train("weights", "61 s")
    for kind, digest, inputs in (("answers", "b2:an", ["b2:ada"]), ("scorecard", "b2:sc", ["b2:an"]),
                                 ("answers", "b2:other", ["b2:base"])):
        workspace.make_artifact(kind, digest, {"inputs": inputs}, lambda staging: fill(staging, "x"))
    place = tmp_path / "artifacts" / "adapter" / "ada" / "a.txt"
    place.write_text("wEights")
    with pytest.raises(RuntimeError):
        workspace.make_artifact("adapter", "b2:ada", {}, _crash, unstable="a.*", said=said.append)
    assert workspace.artifact("answers", "b2:an") is not None, "nothing is known yet"
    train(second, "70 s")
    assert (workspace.artifact("answers", "b2:an") is not None) == keeps
    assert (workspace.artifact("scorecard", "b2:sc") is not None) == keeps
    assert workspace.artifact("answers", "b2:other") is not None
    assert len(said) == (1 if keeps else 3) and "'one' is damaged (a.txt is not what was written)" in said[0]


def _crash(staging: Path) -> None:
    raise RuntimeError


def test_one_file_can_be_checked_without_the_others(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)

    def two(staging: Path) -> None:
        fill(staging, "small")
        (staging / "large.gguf").write_text("large")

    made, _ = workspace.make_artifact("export", "b2:aa", {}, two)
    (made.path / "large.gguf").write_text("lArge")
    assert made.checked("a.txt").read_text() == "small"
    check_file(made.path / "a.txt")
    check_file(tmp_path / "any.gguf")
    with pytest.raises(LocalDistillError, match=r"large\.gguf is not what was written"):
        made.checked("large.gguf")
    (tmp_path / "link.gguf").symlink_to(made.path / "large.gguf")
    for path in (made.path / "large.gguf", tmp_path / "link.gguf"):
        with pytest.raises(LocalDistillError, match=r"large\.gguf is not what was written"):
            check_file(path)


def test_of_many_builders_one_builds_and_the_others_wait_for_it(tmp_path: Path) -> None:
    workspace, built, results = Workspace(tmp_path), [], []
    others_wait = threading.Event()

    def fill(staging: Path) -> None:
        built.append(threading.current_thread().name)
        others_wait.wait(20)
        (staging / "a.txt").write_text(built[0])

    def work() -> None:
        results.append(workspace.make_artifact("dataset", "b2:aa", {"label": "x"}, fill))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    others_wait.set()
    for thread in threads:
        thread.join()
    assert len(built) == 1 and sorted(was_there for _, was_there in results) == [False, *[True] * 5]
    for artifact, _ in results:
        artifact.verify()
        assert artifact.file("a.txt").read_text() == built[0]
    assert not list(workspace.artifacts.glob("dataset/.building-*"))


def test_the_workspace_is_the_nearest_marked_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "localdistill.toml").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert Workspace.find().root == tmp_path
    assert Workspace.find(tmp_path / "a").root == tmp_path / "a"


def test_a_full_disk_leaves_nothing_at_the_final_path(tmp_path: Path) -> None:
    final = tmp_path / "model.gguf"
    with (
        pytest.raises(DiskFull, match=r"is full: model\.gguf found no room"),
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
