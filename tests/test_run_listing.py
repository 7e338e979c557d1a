"""The listing of runs, looked at again and again: what it says is what each run says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localdistill import RunFolder, RunListing, UsageError, list_runs, parse_recipe

RECIPE = 'name = "many"\n[prompts]\nfiles = ["p.jsonl"]\n[teacher]\nuse = "replay"\npath = "r.jsonl"\n'
ASKED = {"stages": ["collect"], "base": "/"}


def made(runs: Path, state: str = "finished") -> RunFolder:
    """A run in this state, of which nobody holds the lock."""
    run = RunFolder.create(runs, parse_recipe(RECIPE), RECIPE, ASKED)
    run.hold().close()
    run.write_status({"state": state, "recipe": "many", "stage": "collect"})
    return run


def test_every_look_says_what_the_runs_say_themselves(tmp_path: Path) -> None:
    listing = RunListing(tmp_path)
    assert listing.look() == ()
    runs = [made(tmp_path, state) for state in ("finished", "failed", "running", "paused")]
    (tmp_path / "not a run").mkdir()
    (tmp_path / "a file").touch()
    (tmp_path / "bare" / "stages").mkdir(parents=True)

    def assert_the_same() -> None:
        said = listing.look()
        assert said == tuple(run.status() for run in list_runs(tmp_path)) == listing.look()

    assert_the_same()
    assert [status.state for status in listing.look() if status.run_id == "many-3"] == ["interrupted"]
    with runs[0].hold():  # somebody resumes it, and has changed no file yet
        assert_the_same()
        assert [status.run_id for status in listing.look() if status.alive] == ["many-1"]
    assert_the_same()
    runs[1].write_status({"state": "finished", "recipe": "many", "stage": "grade"})
    assert_the_same()
    (runs[2].path / "status.json").write_bytes(b'{"state": "finished"')
    assert_the_same()
    (runs[3].path / "request.json").unlink()
    assert_the_same()
    assert {status.run_id for status in listing.look() if status.problem} == {"many-3", "many-4", "bare"}
    (runs[2].path / "events.jsonl").write_bytes(b'{"kind": "run_finished", "state": "failed"}\n')
    assert_the_same()
    runs[0].path.rename(tmp_path / "many-9")
    assert_the_same()
    assert "many-1" not in {status.run_id for status in listing.look()}


def test_a_run_whose_files_are_as_they_were_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [made(tmp_path) for _ in range(3)]
    listing, read, status = RunListing(tmp_path), [], RunFolder.status
    monkeypatch.setattr(RunFolder, "status", lambda self: (read.append(self.id), status(self))[1])
    listing.look()
    assert sorted(read) == ["many-1", "many-2", "many-3"]
    runs[1].amend_request(max_usd=2.0)
    listing.look()
    assert read[3:] == ["many-2"]


def test_of_runs_that_began_in_one_moment_the_higher_number_is_the_newer(tmp_path: Path) -> None:
    for _ in range(11):
        os.utime(made(tmp_path).path / "request.json", (1e9, 1e9))
    assert [run.id for run in list_runs(tmp_path)] == [f"many-{number}" for number in range(1, 12)]
    assert RunListing(tmp_path).look()[-1].run_id == RunFolder.open(tmp_path, "last").id == "many-11"


@pytest.mark.parametrize("name", ["", ".", "..", "../runs/many-1", "many-1/", "many-1/stages", "many-2", "many-\0"])
def test_a_run_is_opened_by_its_own_name_only(tmp_path: Path, name: str) -> None:
    made(tmp_path / "runs")
    assert RunFolder.open(tmp_path / "runs", "many-1").id == "many-1"
    with pytest.raises(UsageError, match="there is no run"):
        RunFolder.open(tmp_path / "runs", name)
