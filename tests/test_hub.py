"""Importing from the hub, against a stand-in for it: files by the hub's own library, in one revision, resumed where an
import ended; one clear error for what cannot be had."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from localdistill import InputError, PartialResult, Store, Workspace, list_prompts, open_hub_import
from localdistill.cli.app import app as cli

pytest.importorskip("huggingface_hub")
SHA, NEWER = "a" * 40, "b" * 40


def rows(first: int, count: int) -> bytes:
    return "".join(json.dumps({"messages": [{"role": "user", "content": f"What is {n} plus 1?"},
                                            {"role": "assistant", "content": f"It is {n + 1}."}]}) + "\n"
                   for n in range(first, first + count)).encode()


@dataclass
class StandIn:
    """A hub with one data set, `org/sums`."""

    files: dict[str, bytes] = field(default_factory=lambda: {
        "README.md": b"# Sums\n", "data/a.jsonl": rows(0, 40), "data/b.jsonl": rows(40, 60),
        "dataset_infos.json": b"{}"})
    sha: str = SHA
    refuses: tuple[int, str] = (0, "")
    """Status and error code of every reply."""
    breaks: dict[str, int] = field(default_factory=dict)
    """File -> so many bytes of it come before the connection ends, each time."""
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def served(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(True)

            def do_HEAD(self) -> None:
                self._answer(False)

            def _answer(self, is_whole: bool) -> None:
                hub.asked[f"{self.command} {self.path}"] += 1
                status, code = hub.refuses
                if status:
                    self._send(status, b"{}", {"X-Error-Code": code} if code else {}, is_whole)
                elif self.path.startswith("/api/datasets/org/sums"):
                    revision = self.path.partition("/revision/")[2].partition("?")[0]
                    if revision not in ("", SHA, NEWER, "main"):
                        self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, is_whole)
                        return
                    found = {"id": "org/sums", "sha": revision if len(revision) == 40 else hub.sha,
                             "cardData": {"license": "cc-by-4.0"}, "private": False, "gated": False,
                             "siblings": [{"rfilename": name, "size": len(data)} for name, data in hub.files.items()]}
                    self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"}, is_whole)
                elif self.path.startswith("/datasets/org/sums/resolve/"):
                    commit, _, name = self.path.removeprefix("/datasets/org/sums/resolve/").partition("/")
                    self._file(commit, name, is_whole)
                else:
                    self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, is_whole)

            def _file(self, commit: str, name: str, is_whole: bool) -> None:
                data = hub.files[name]
                heads = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit,
                         "Accept-Ranges": "bytes"}
                start = 0
                if wanted := self.headers.get("Range"):
                    start = int(wanted.removeprefix("bytes=").partition("-")[0])
                    heads["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self._send(206 if start else 200, data[start:], heads, is_whole, hub.breaks.get(name))

            def _send(self, status: int, data: bytes, heads: dict[str, str], is_whole: bool,
                      breaks: int | None = None) -> None:
                self.send_response(status)
                for name, value in {**heads, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if is_whole:
                    self.wfile.write(data if breaks is None else data[:breaks])
                    self.close_connection |= breaks is not None

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    made = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), made.served())
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for module in (_http, file_download):  # the library waits before it tries again
        monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def imported(place: Workspace, address: str) -> list[Any]:
    found = open_hub_import(place, address)
    return [found.take(file, path) for file, path in found.fetched()]


def downloads(hub: StandIn, name: str) -> int:
    return sum(count for asked, count in hub.asked.items() if asked.startswith("GET /datasets") and name in asked)


def test_the_files_of_rows_of_a_data_set_come_in_with_source_and_licence(tmp_path: Path, hub: StandIn) -> None:
    place = Workspace(tmp_path / "w")
    found = open_hub_import(place, "hf://datasets/org/sums")
    assert found.said.startswith(f"org/sums at {SHA[:12]}: 2 files of rows, ")
    assert "2 other files hold no rows; licence cc-by-4.0" in found.said
    reports = [found.take(file, path) for file, path in found.fetched()]
    assert [report.rows for report in reports] == [40, 60]
    count, listed = list_prompts(place, limit=1)
    assert count == 100 and (listed[0]["source"], listed[0]["licence"]) == (
        "hf://datasets/org/sums/data/a.jsonl", "cc-by-4.0")
    assert not downloads(hub, "README") and not list((place.root / "imports").glob("*"))


@pytest.mark.parametrize(("address", "files"), [
    ("hf://datasets/org/sums/data/b.jsonl", 1), ("hf://datasets/org/sums@main/data", 2),
    (f"hf://datasets/org/sums@{SHA}/data/a*", 1)])
def test_an_address_may_name_a_revision_and_a_file_a_folder_or_a_pattern(
        tmp_path: Path, hub: StandIn, address: str, files: int) -> None:
    assert len(open_hub_import(None, address).dataset.files) == files


def test_without_network_half_way_what_came_is_kept_and_the_rest_is_of_the_same_revision(
        tmp_path: Path, hub: StandIn) -> None:
    place, address = Workspace(tmp_path / "w"), "hf://datasets/org/sums"
    hub.breaks = {"data/b.jsonl": 100}
    with pytest.raises(PartialResult) as told:
        imported(place, address)
    assert told.value.message.endswith("1 of 2 files are imported and kept") and told.value.exit_code == 3
    assert told.value.hint.startswith("localdistill import hf://datasets/org/sums goes on with the rest")
    assert Store(place.store_path).counts().prompts == 40
    hub.breaks, hub.sha = {}, NEWER
    first = downloads(hub, "data/a.jsonl")
    found = open_hub_import(place, address)
    assert found.dataset.revision == SHA and "1 of them came in before" in found.said
    assert [found.take(file, path).rows for file, path in found.fetched()] == [60]
    assert downloads(hub, "data/a.jsonl") == first, "what came in is not fetched again"
    assert Store(place.store_path).counts().prompts == 100
    assert open_hub_import(place, address).dataset.revision == NEWER, "a finished import is over"


@pytest.mark.parametrize(("status", "code", "says", "hint"), [
    (404, "RepoNotFound", "there is no data set 'org/none' on the hub", "check its name"),
    (401, "", "the hub does not let you read org/none", "HF_TOKEN"),
    (403, "GatedRepo", "org/none is gated", "ask for access"),
])
def test_what_cannot_be_had_is_one_error(tmp_path: Path, hub: StandIn, status: int, code: str, says: str,
                                         hint: str) -> None:
    hub.refuses = (status, code)
    with pytest.raises(InputError, match=says) as told:
        open_hub_import(Workspace(tmp_path / "w"), "hf://datasets/org/none")
    assert hint in told.value.hint and "\n" not in told.value.message


def test_a_revision_that_is_not_there_is_named(tmp_path: Path, hub: StandIn) -> None:
    with pytest.raises(InputError, match="org/sums has no revision 'v9'"):
        open_hub_import(None, "hf://datasets/org/sums@v9")


def test_a_hub_that_fails_or_is_not_there_can_be_tried_again(tmp_path: Path, hub: StandIn,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refuses = (503, "")
    with pytest.raises(PartialResult, match="the hub answers with 503 for org/sums"):
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
    hub.files = {"README.md": b"", "model.safetensors": b"", "../../x.jsonl": rows(0, 1), "data/../../y.jsonl": b""}
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
