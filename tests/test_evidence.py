"""What lies in a workspace is read before it is believed: whatever is damaged is named, by whoever uses it, by listings
and by `verify`, and no figure is shown that was made from it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from localdistill import (
    LocalDistillError,
    RunFolder,
    Workspace,
    chat_files,
    exports_of,
    list_runs,
    plan_pruning,
    score_card,
    survey,
    verify_run,
    verify_workspace,
)
from localdistill.core import seals
from localdistill.core.events import Event, Warned
from localdistill.engines.wire.batch.states import BatchFolder, BatchState, read_state
from localdistill.engines.wire.probe_report import Probe
from localdistill.safety import known_sums
from localdistill.stages.rechecking import keep_probe, last_probe, read_probe
from tests.attack.ground import replace_bytes
from tests.tui.garden import copied


def turned(path: Path, at: int | None = None) -> None:
    """One bit of a file turns, and no date says so."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    replace_bytes(path, bytes(data))


def only(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


def cut(path: Path) -> None:
    replace_bytes(path, path.read_bytes()[:-20])


ARTIFACTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "an adapter": ("artifacts/adapter/*/adapter/*", turned, "is not what was written"),
    "a model file": ("artifacts/export/*/*.gguf", turned, "is not what was written"),
    "rows of a dataset": ("artifacts/dataset/*/rows.parquet", turned, "rows.parquet is not what was written"),
    "a score card": ("artifacts/scorecard/*/scorecard.json", turned, "scorecard.json is not what was written"),
    "a manifest that was cut": ("artifacts/adapter/*/manifest.json", cut, "manifest.json cannot be read"),
    "a manifest that is gone": ("artifacts/dataset/*/manifest.json", Path.unlink, "manifest.json is missing"),
    "a file that is gone": ("artifacts/export/*/*.gguf", Path.unlink, "is missing"),
}


@pytest.mark.parametrize("what", ARTIFACTS)
def test_a_damaged_artifact_is_named_and_everything_else_is_whole(tmp_path: Path, what: str) -> None:
    root, (pattern, harm, said) = copied(tmp_path), ARTIFACTS[what]
    workspace = Workspace(root)
    before = verify_workspace(workspace)
    assert before and {one.state for one in before} == {"whole"} and {"run", "dataset", "adapter"} <= {
        one.kind for one in before}
    harm(only(root, pattern))
    [odd] = [one for one in verify_workspace(workspace) if one.state != "whole"]
    assert odd.kind == pattern.split("/")[1] and odd.state == "damaged" and said in odd.problems[0]
    assert "localdistill resume garden-1" in odd.hint
    assert [one for one in verify_run(workspace) if one.state != "whole"] == [odd]


def test_an_artifact_that_is_gone_is_missing_and_a_run_says_who_wants_it(tmp_path: Path) -> None:
    root = copied(tmp_path)
    shutil.rmtree(root / "artifacts/scorecard")
    [odd] = [one for one in verify_workspace(Workspace(root)) if one.state != "whole"]
    assert odd.state == "missing" and odd.problems == ("run garden-1 refers to it",)


@pytest.mark.parametrize("name", ["request.json", "resolved.json", "recipe.toml", "status.json", "events.jsonl",
                                  "stages/format.json", "stages/select.ids", "replies.jsonl.zst"])
def test_no_bit_of_a_runs_files_turns_unseen(tmp_path: Path, name: str) -> None:
    root = copied(tmp_path)
    path = root / "runs/garden-1" / name
    if not path.exists():
        pytest.skip("this run has no such file")
    sound, size = path.read_bytes(), path.stat().st_size
    for at in range(0, size, max(1, size // 12)):
        turned(path, at)
        [odd] = [one for one in verify_run(Workspace(root)) if one.kind == "run"]
        assert odd.state == "damaged" or meaning_of(name, path.read_bytes()) == meaning_of(name, sound), at
        replace_bytes(path, sound)
    path.unlink()
    [odd] = [one for one in verify_run(Workspace(root), "garden-1") if one.kind == "run"]
    if name not in ("stages/format.json", "replies.jsonl.zst"):  # those are missed where somebody needs them
        assert odd.state == "damaged" and odd.problems, "a file that is gone is missed"


def meaning_of(name: str, data: bytes) -> object:
    """What a file says apart from its checksum."""
    if name.endswith(".json"):
        try:
            return {key: value for key, value in json.loads(data).items() if key in (
                "stages", "base", "sums", "state", "arms", "served", "student", "version", "lists")}
        except ValueError:
            return data
    return data


@pytest.mark.parametrize("name", ["request.json", "status.json"])
@pytest.mark.parametrize("harm", [turned, cut, Path.unlink])
def test_a_run_with_a_damaged_file_stays_in_every_listing_with_a_line(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    root = copied(tmp_path)
    harm(root / "runs/garden-1" / name)
    [run] = list_runs(root / "runs")
    status = run.status()
    assert name in status.problem and status.state == "finished"
    [made] = exports_of(Workspace(root))
    assert made.run == "garden-1" and (made.state == "damaged") == (name == "request.json")
    assert any(label == "damaged" and name in text for label, text in survey(Workspace(root)).facts)


def test_a_result_of_a_stage_that_is_damaged_or_gone_is_said_where_the_workspace_stands(tmp_path: Path) -> None:
    root = copied(tmp_path)
    assert "damaged" not in dict(survey(Workspace(root)).facts)
    turned(root / "runs/garden-1/stages/grade.json")
    said = dict(survey(Workspace(root)).facts)["damaged"]
    assert "the output of the stage 'grade' of run garden-1 is damaged" in said and "resume garden-1" in said
    (root / "runs/garden-1/stages/grade.json").unlink()
    seen = survey(Workspace(root))
    assert "no result of the stage 'grade', and the run is finished" in dict(seen.facts)["damaged"]
    assert {step.stage: step.state for step in seen.chain}["grade"] == "waiting"


def test_a_result_that_was_made_from_something_damaged_is_missed_where_the_workspace_stands(tmp_path: Path) -> None:
    root = copied(tmp_path)
    assert survey(Workspace(root)).result is not None
    for pattern in ("artifacts/scorecard/*/manifest.json", "runs/garden-1/stages/evaluate.json"):
        harmed = only(root, pattern)
        whole = harmed.read_bytes()
        turned(harmed)
        seen = survey(Workspace(root))
        [said] = [text for label, text in seen.facts if label == "damaged"]
        assert seen.result is None and "resume garden-1" in said, pattern
        replace_bytes(harmed, whole)


@pytest.mark.parametrize("stage", ["collect", "format", "train", "evaluate", "export"])
def test_nothing_is_removed_that_a_result_which_is_gone_may_have_named(tmp_path: Path, stage: str) -> None:
    root = copied(tmp_path)
    before = {item.path for item in plan_pruning(Workspace(root), keep_days=1e6) if item.kept_by}
    (root / f"runs/garden-1/stages/{stage}.json").unlink()
    said = f"no result of the stage '{stage}'"
    after = {item.path: item.kept_by for item in plan_pruning(Workspace(root), keep_days=1e6) if item.kept_by}
    assert before and before <= after.keys() and any(said in why for why in after.values())
    verified = verify_workspace(Workspace(root))
    assert [said in problem for one in verified if one.kind == "run" for problem in one.problems] == [True]


def test_reports_of_probes_and_batches_that_are_not_what_was_written_are_named(tmp_path: Path) -> None:
    told: list[Event] = []
    workspace = Workspace(tmp_path, told.append)
    keep_probe(workspace, Probe("host/m", "host", "m", "2026-01-01T00:00:00+00:00", provider="vllm"))
    folder = BatchFolder(workspace.batches)
    folder.save(BatchState("0123", "openai", "https://x/v1", "m", "r-1/calls.jsonl", 3, ["a", "b"], [5, 5]))
    assert {one.state for one in verify_workspace(workspace)} == {"whole"} and not told
    seen = 0
    for path, read in ((only(tmp_path, "teachers/*.json"), read_probe), (only(tmp_path, "batches/*.json"), read_state)):
        whole, value = path.read_bytes(), read(path)
        for at in range(0, len(whole), 7):
            turned(path, at)
            harmed = [one for one in verify_workspace(workspace) if one.state == "damaged"]
            if not harmed:  # what has no checksum any more is read as that of an older version
                assert read(path) == value, whole[at - 9:at + 9]
            assert all(path.name in one.problems[0] and one.hint for one in harmed)
            seen += len(harmed)
            replace_bytes(path, whole)
    assert seen > 50
    turned(only(tmp_path, "teachers/*.json"))
    assert last_probe(workspace, "host/m") is None
    assert [event.text for event in told if isinstance(event, Warned) and "is damaged" in event.text]
    turned(only(tmp_path, "batches/*.json"))
    with pytest.raises(LocalDistillError, match=r"0123\.json cannot be read: it is not what was written"):
        folder.all("https://x/v1")


def test_files_to_chat_with_whose_export_is_lost_are_not_left_out_in_silence(tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = root / "runs/garden-1/stages/export.json"
    for harm, said in ((turned, "is damaged"), (Path.unlink, "no result of the stage 'export'")):
        harm(path)
        [made] = exports_of(Workspace(root))
        assert made.state == "damaged" and said in made.why[0] and "resume garden-1" in made.why[1]
        assert said in "\n".join(one.label for one in chat_files(Workspace(root)))


def test_a_recipe_that_cannot_be_read_leaves_nothing_out_in_silence(tmp_path: Path) -> None:
    root = copied(tmp_path)
    turned(root / "runs/garden-1/resolved.json")
    assert "the recipe of run garden-1 cannot be read" in "\n".join(one.label for one in chat_files(Workspace(root)))
    [made] = exports_of(Workspace(root))
    assert made.arms == () and made.unknown[0].startswith("what it can export is not known: the recipe of run garden-1")


def test_model_files_whose_manifest_is_damaged_stay_among_those_to_chat_with_and_say_so(tmp_path: Path) -> None:
    root = copied(tmp_path)
    before = {file.path for file in chat_files(Workspace(root))}
    cut(only(root, "artifacts/export/*/manifest.json"))
    after = chat_files(Workspace(root))
    assert {file.path for file in after} == before
    assert any(file.label.endswith("is damaged: manifest.json cannot be read") for file in after)


@pytest.mark.parametrize("pattern", ["artifacts/adapter/*/adapter/*", "artifacts/dataset/*/rows.parquet"])
def test_figures_of_what_was_made_from_something_damaged_are_not_shown(tmp_path: Path, pattern: str) -> None:
    root = copied(tmp_path)
    workspace = Workspace(root)
    linked(root)
    assert score_card(workspace).cards and exports_of(workspace)[0].scores
    turned(only(root, pattern))
    with pytest.raises(LocalDistillError, match=r"cannot be shown: the .* is damaged .* and it was made from that"):
        score_card(workspace)
    [made] = exports_of(workspace)
    assert made.scores == () and made.standings == () and made.files
    assert any("its scores are not shown" in text for text in made.unknown)


def linked(root: Path) -> None:
    """Let the prepared score card and export be made from the adapters, and those from the datasets, as stages do."""
    kinds = ("scorecard", "export", "adapter", "dataset")
    digests = {kind: [f"b2:{path.name}" for path in sorted((root / "artifacts" / kind).iterdir())
                      if not path.name.startswith(".")] for kind in kinds}
    for kind, source in (("scorecard", "adapter"), ("export", "adapter"), ("adapter", "dataset")):
        for path in (root / "artifacts" / kind).glob("*/manifest.json"):
            said = seals.unsealed(path.read_bytes())
            path.write_text(seals.sealed({**said, "inputs": digests[source]}))


def test_a_list_that_its_stage_wrote_is_missed_and_one_of_another_stage_is_not_taken_for_it(tmp_path: Path) -> None:
    run = RunFolder(copied(tmp_path) / "runs/garden-1")
    ids = run.ids("select")
    assert ids
    place = run.path / "stages/select.ids"
    replace_bytes(place, seals.sealed_list(ids[:-1]).encode())
    with pytest.raises(LocalDistillError, match=r"stages/select.ids of run garden-1 is damaged: it is not") as said:
        run.ids("select")
    assert said.value.hint == "localdistill resume garden-1 makes it again"
    place.write_bytes(b"")
    with pytest.raises(LocalDistillError, match="is not what was written"):
        run.ids("select")
    place.unlink()
    with pytest.raises(LocalDistillError, match="is missing"):
        run.ids("select")
    assert run.has_ids("select") and run.ids("rewrite-nobody") == [] and not run.has_ids("rewrite-nobody")


def test_facts_that_were_taken_out_or_cut_off_are_counted(tmp_path: Path) -> None:
    run = RunFolder(copied(tmp_path) / "runs/garden-1")
    path = run.path / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert run.damaged_lines() == 0 and len(lines) > 20
    path.write_bytes(b"".join([*lines[:4], *lines[7:]]))
    assert run.damaged_lines() == 3
    path.write_bytes(b"".join(lines[:-1]))
    assert run.damaged_lines() == 1, "a run that ended says so in its last fact"
    path.write_bytes(b"".join([*lines[:4], lines[4].replace(b'"kind"', b'"kinD"'), *lines[5:]]))
    assert run.damaged_lines() == 1


def test_every_bit_of_what_is_sealed_counts() -> None:
    said = {"stages": ["collect"], "base": "/a", "max_usd": 1.5, "name": "é\ud800"}
    for data in (seals.sealed(said).encode(), seals.sealed_list(["b2:1", "b2:2"]).encode(),
                 seals.sealed_line(json.dumps(said))):
        for at in range(len(data)):
            odd = bytearray(data)
            odd[at] ^= 1
            assert not same(bytes(odd)) or holds(bytes(odd), said), (at, bytes(odd))
    assert seals.unsealed(seals.sealed(said)) == said
    assert seals.unsealed_list(seals.sealed_list(["b2:1", "b2:2"])) == ["b2:1", "b2:2"] == seals.unsealed_list(
        "b2:1\nb2:2\n"), "older lists are read"


def same(data: bytes) -> bool:
    """Nothing is seen to be wrong."""
    try:
        if data.startswith(b"{") and data.endswith(b"\n"):
            return seals.is_line_whole(data) and isinstance(json.loads(data), dict)
        if data.startswith(b"{"):
            seals.unsealed(data)
        else:
            seals.unsealed_list(data.decode())
    except ValueError:
        return False
    return True


def holds(data: bytes, said: dict[str, object]) -> bool:
    """All that was said is there, whatever became of the name of the checksum."""
    found = json.loads(data)
    return all(json.dumps(found.get(key)) == json.dumps(value) or key == "name" for key, value in said.items())


def test_what_one_process_read_is_free_for_the_next_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = known_sums.sha256_file

    def counted(path: Path, tick: Callable[[], None]) -> str:
        read.append(path.name)
        return real(path, tick)

    monkeypatch.setattr(known_sums, "sha256_file", counted)
    monkeypatch.setattr(known_sums, "WORTH_BYTES", 1)
    workspace = Workspace(tmp_path)
    made, _ = workspace.make_artifact("export", "b2:aa", {}, lambda staging: [
        (staging / name).write_bytes(b"weights") for name in ("a.gguf", "b.gguf")] and None)
    for name in ("a.gguf", "b.gguf"):
        os.utime(made.path / name, ns=(1, 1))
    monkeypatch.setattr(known_sums, "_RECENT_NS", -(10**18))
    assert made.damage() == "" and sorted(read) == ["a.gguf", "b.gguf"]
    memory = known_sums.memory_of(made.path)

    def as_another_process() -> str:
        known_sums._seen.clear()
        read.clear()
        return Workspace(tmp_path).all_artifacts()[0].damage()

    assert memory.parent == made.path.parent and as_another_process() == "" and read == []
    assert list(made.damages(afresh=True)) == [] and sorted(read) == ["a.gguf", "b.gguf"], "verify believes nothing"
    turned(made.path / "b.gguf")
    assert as_another_process() == "b.gguf is not what was written" and read == ["b.gguf"]
    cut(memory)
    assert as_another_process() == "b.gguf is not what was written" and sorted(read) == ["a.gguf", "b.gguf"]
    memory.write_text(seals.sealed({"files": {"b.gguf": [7, 1, 1, 1, made.manifest["files"]["b.gguf"]["sha256"]]}}))
    assert as_another_process() == "b.gguf is not what was written", "another version of the file is not this one"


def test_a_damaged_artifact_is_among_what_takes_disk_and_keeps_what_it_may_have_been_made_from(tmp_path: Path) -> None:
    root = copied(tmp_path)
    workspace = Workspace(root)
    before = {item.name: item.kept_by for item in plan_pruning(workspace, 10**6)}
    cut(only(root, "artifacts/adapter/*/manifest.json"))
    after = {item.name: item for item in plan_pruning(workspace, 10**6)}
    assert set(after) == set(before)
    [harmed] = [item for item in after.values() if item.label == "damaged: manifest.json cannot be read"]
    assert harmed.kind == "adapter" and harmed.kept_by == "run garden-1"
    assert all(item.kept_by for item in after.values() if before[item.name])
