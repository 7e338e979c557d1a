"""Importing from the hub, against a stand-in for it: files by the hub's own library, in one revision, resumed where an
import ended; one clear error for what cannot be had."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from localdistill import Cancel, InputError, PartialResult, Store, Workspace, list_prompts, open_hub_import
from localdistill.cli.app import app as cli
from localdistill.core.errors import Cancelled
from localdistill.core.events import Event, Progressed
from localdistill.hub.datasets import bring, commit_of, here
from tests.hub import Repository, StandIn, stand_in

pytest.importorskip("huggingface_hub")


def rows(first: int, count: int) -> bytes:
    return "".join(json.dumps({"messages": [{"role": "user", "content": f"What is {n} plus 1?"},
                                            {"role": "assistant", "content": f"It is {n + 1}."}]}) + "\n"
                   for n in range(first, first + count)).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(monkeypatch, tmp_path / "home") as made:
        made.repositories["datasets/org/sums"] = Repository({
            "README.md": b"# Sums\n", "data/a.jsonl": rows(0, 40), "data/b.jsonl": rows(40, 60),
            "dataset_infos.json": b"{}"}, licence="cc-by-4.0")
        yield made


def sums(hub: StandIn) -> Repository:
    return hub.repositories["datasets/org/sums"]


def imported(place: Workspace, address: str) -> list[Any]:
    found = open_hub_import(place, address)
    return [found.take(file, path) for file, path in found.fetched()]


def downloads(hub: StandIn, name: str) -> int:
    return sum(1 for asked in hub.asked if asked.startswith("GET /datasets") and name in asked)


def test_the_files_of_rows_of_a_data_set_come_in_with_source_and_licence(tmp_path: Path, hub: StandIn) -> None:
    place = Workspace(tmp_path / "w")
    found = open_hub_import(place, "hf://datasets/org/sums")
    assert found.said.startswith(f"org/sums at {sums(hub).commit[:12]}: 2 files of rows, ")
    assert "2 other files hold no rows; licence cc-by-4.0" in found.said
    reports = [found.take(file, path) for file, path in found.fetched()]
    assert [report.rows for report in reports] == [40, 60]
    count, listed = list_prompts(place, limit=1)
    assert count == 100 and (listed[0]["source"], listed[0]["licence"]) == (
        "hf://datasets/org/sums/data/a.jsonl", "cc-by-4.0")
    assert not downloads(hub, "README") and not list((place.root / "imports").glob("*"))


@pytest.mark.parametrize(("address", "files"), [
    ("hf://datasets/org/sums/data/b.jsonl", 1), ("hf://datasets/org/sums@main/data", 2),
    ("hf://datasets/org/sums@COMMIT/data/a*", 1)])
def test_an_address_may_name_a_revision_and_a_file_a_folder_or_a_pattern(
        tmp_path: Path, hub: StandIn, address: str, files: int) -> None:
    found = open_hub_import(None, address.replace("COMMIT", sums(hub).commit))
    assert len(found.dataset.files) == files


def test_without_network_half_way_what_came_is_kept_and_the_rest_is_of_the_same_revision(
        tmp_path: Path, hub: StandIn) -> None:
    place, address = Workspace(tmp_path / "w"), "hf://datasets/org/sums"
    commit = sums(hub).commit
    hub.fails = {"b.jsonl": 520}
    with pytest.raises(PartialResult) as told:
        imported(place, address)
    assert told.value.message.endswith("1 of 2 files are imported and kept") and told.value.exit_code == 3
    assert told.value.hint.startswith("localdistill import hf://datasets/org/sums goes on with the rest")
    assert Store(place.store_path).counts().prompts == 40
    hub.fails.clear()
    sums(hub).files["data/b.jsonl"] = rows(500, 3)
    first = downloads(hub, "data/a.jsonl")
    found = open_hub_import(place, address)
    assert found.dataset.revision == commit and "1 of them came in before" in found.said
    assert [found.take(file, path).rows for file, path in found.fetched()] == [60]
    assert downloads(hub, "data/a.jsonl") == first, "what came in is not fetched again"
    assert Store(place.store_path).counts().prompts == 100
    assert open_hub_import(place, address).dataset.revision == sums(hub).commit != commit, "a finished import is over"


@pytest.mark.parametrize(("name", "status", "is_gated", "says", "hint"), [
    ("org/none", 0, False, "there is no data set 'org/none' on the hub", "check its name"),
    ("org/sums", 401, False, "the hub does not let you read org/sums", "HF_TOKEN"),
    ("org/sums", 0, True, "org/sums is gated", "ask for access"),
])
def test_what_cannot_be_had_is_one_error(tmp_path: Path, hub: StandIn, name: str, status: int, is_gated: bool,
                                         says: str, hint: str) -> None:
    sums(hub).gated = is_gated
    if status:
        hub.fails[""] = status
    with pytest.raises(InputError, match=says) as told:
        open_hub_import(Workspace(tmp_path / "w"), f"hf://datasets/{name}")
    assert hint in told.value.hint and "\n" not in told.value.message


def test_a_large_file_says_how_far_it_is_and_can_be_stopped_in_its_middle(tmp_path: Path, hub: StandIn) -> None:
    sums(hub).files["data/a.jsonl"] = large = rows(0, 200_000)
    hub.held["a.jsonl"] = threading.Event()
    events: list[Event] = []
    found = open_hub_import(Workspace(tmp_path / "w"), "hf://datasets/org/sums")

    def came() -> list[Progressed]:
        return [event for event in events if isinstance(event, Progressed) and event.done]

    with pytest.raises(Cancelled):
        next(found.fetched(events.append, Cancel(lambda: bool(came()))))
    assert {(event.label, event.total) for event in came()} == {("fetching data/a.jsonl", len(large))}
    hub.held.pop("a.jsonl").set()
    file, path = next(found.fetched())
    assert file.name == "data/a.jsonl" and path.read_bytes() == large


def test_one_file_is_brought_below_whatever_folders_and_tells_how_far_it_is_though_nobody_said_its_size(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(monkeypatch, tmp_path / "snapshots" / "home") as hub:
        files = {"data/a.jsonl": rows(0, 20_000), "snapshots/b.jsonl": b"{}"}
        commit = hub.repositories.setdefault("datasets/org/sums", Repository(files)).commit
        events: list[Event] = []
        for name, data in files.items():
            address = f"hf://datasets/org/sums/{name}"
            path = bring(address, events.append)
            assert path.read_bytes() == data and here(address) == path and commit_of(address, path) == commit
    told = [event for event in events if isinstance(event, Progressed) and event.label == "fetching data/a.jsonl"]
    size = len(files["data/a.jsonl"])
    assert {event.total for event in told} == {size} and told[-1].done == size


def test_a_revision_that_is_not_there_is_named(tmp_path: Path, hub: StandIn) -> None:
    with pytest.raises(InputError, match="org/sums has no revision 'v9'"):
        open_hub_import(None, "hf://datasets/org/sums@v9")


def test_a_hub_that_fails_or_is_not_there_can_be_tried_again(tmp_path: Path, hub: StandIn,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fails[""] = 520
    with pytest.raises(PartialResult, match="the hub answers with 520 for org/sums"):
        open_hub_import(None, "hf://datasets/org/sums")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PartialResult, match="the hub cannot be reached for org/sums"):
        open_hub_import(None, "hf://datasets/org/sums")


@pytest.mark.parametrize("address", ["hf://org/sums", "hf://datasets/org", "hf://datasets/../sums", "hf:/datasets/a/b"])
def test_an_address_of_another_form_says_the_form(address: str) -> None:
    with pytest.raises(InputError, match="names no data set of the hub") as told:
        open_hub_import(None, address)
    assert "hf://datasets/organisation/name" in told.value.hint


def test_a_data_set_without_rows_and_names_that_lead_outside_are_refused(tmp_path: Path, hub: StandIn) -> None:
    sums(hub).files = {"README.md": b"", "model.safetensors": b"", "../../x.jsonl": rows(0, 1),
                       "data/../../y.jsonl": b""}
    with pytest.raises(InputError, match="org/sums holds no file of rows among 4 files"):
        open_hub_import(None, "hf://datasets/org/sums")


def test_the_command_imports_a_data_set_and_shows_rows_of_one_before(tmp_path: Path, hub: StandIn) -> None:
    run = CliRunner()
    shown = run.invoke(cli, ["import", "hf://datasets/org/sums", "--preview", "-w", str(tmp_path / "w")])
    assert shown.exit_code == 0 and "row 3: What is 2 plus 1?" in shown.stderr and "data/b" not in shown.stderr
    assert not (tmp_path / "w").exists()
    done = run.invoke(cli, ["import", "hf://datasets/org/sums", "--json", "-w", str(tmp_path / "w")])
    assert done.exit_code == 0, done.stderr
    assert [report["rows"] for report in json.loads(done.stdout)] == [40, 60]
