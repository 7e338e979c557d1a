"""A stand-in for the hub on loopback: models (and, by their own folder, data sets) in one revision each, whole or cut
in the middle, counted request by request. No test needs the real one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

KINDS = {"models": "", "datasets": "datasets/"}


@dataclass
class Repository:
    """What lies there under one name."""

    files: dict[str, bytes]
    licence: str = "apache-2.0"
    gated: bool = False
    branches: tuple[str, ...] = ("main",)
    known: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Commit -> its files, of every one that was asked for: they stay."""

    @property
    def commit(self) -> str:
        """Of all its files: another one when any of them changes."""
        whole = hashlib.sha1()
        for name in sorted(self.files):
            whole.update(name.encode() + b"\0" + hashlib.sha1(self.files[name]).digest())
        return whole.hexdigest()


@dataclass
class StandIn:
    """The hub."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    """`organisation/name`, or `datasets/organisation/name`."""
    asked: list[str] = field(default_factory=list)
    """Method and path of every request."""
    cut: dict[str, int] = field(default_factory=dict)
    """File -> after so many bytes the connection breaks, once."""
    fails: dict[str, int] = field(default_factory=dict)
    """File -> the status of every reply to who fetches it; "" is for everything."""
    held: dict[str, threading.Event] = field(default_factory=dict)
    """File -> its second half comes once this is set."""

    def holds(self, name: str, folder: Path, **more: object) -> Repository:
        """Let it hold the files of a folder."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
                 if path.is_file()}
        self.repositories[name] = Repository(files, **more)  # type: ignore[arg-type]
        return self.repositories[name]

    def fetched(self) -> list[str]:
        """Names of the files that were fetched, in their order."""
        return [line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line]


def _handler(hub: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(ConnectionError):  # whoever fetched it was killed
                self._answer(has_body=True)

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def _answer(self, has_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            if status := hub.fails.get(parts[-1], hub.fails.get("", 0)):
                self._error(status, "")
            elif parts[0] == "api" and parts[1] in KINDS:
                self._info(KINDS[parts[1]], parts[2:], has_body)
            elif "resolve" in parts:
                at = parts.index("resolve")
                self._file("/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2:]), has_body)
            else:
                self._error(404, "EntryNotFound")

        def _known(self, name: str, revision: str) -> Repository | None:
            found = hub.repositories.get(name)
            if found is None:
                self._error(404, "RepoNotFound")
            elif revision not in (*found.branches, found.commit, *found.known):
                self._error(404, "RevisionNotFound")
            elif found.gated:
                self._error(403, "GatedRepo")
            else:
                return found
            return None

        def _info(self, kind: str, parts: list[str], has_body: bool) -> None:
            name, rest = kind + "/".join(parts[:2]), parts[2:]
            found = self._known(name, "/".join(rest[1:]) if rest[:1] in (["revision"], ["tree"]) else "main")
            if found is None:
                return
            commit = rest[1] if rest[1:] and rest[1] in found.known else found.commit
            found.known.setdefault(commit, dict(found.files))
            listed = [{"rfilename": file, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
                      for file, data in found.known[commit].items()]
            told: object = {
                "_id": "1", "id": name.removeprefix("datasets/"), "sha": commit, "private": False, "gated": False,
                "tags": [], "downloads": 0, "likes": 0, "siblings": listed, "cardData": {"license": found.licence}}
            if rest[:1] == ["tree"]:
                told = [{"type": "file", "path": one["rfilename"], "size": one["size"], "oid": one["blobId"]}
                        for one in listed]
            self._send(json.dumps(told).encode(), {"Content-Type": "application/json"}, has_body)

        def _file(self, name: str, revision: str, file: str, has_body: bool) -> None:
            found = self._known(name, revision)
            if found is None:
                return
            files = found.known.get(revision, found.files)
            if file not in files:
                self._error(404, "EntryNotFound")
                return
            data = files[file]
            headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"',
                       "X-Repo-Commit": revision if revision in found.known else found.commit,
                       "Content-Type": "application/octet-stream"}
            self._send(data, headers, has_body, hub.cut.pop(file, None) if has_body else None)

        def _send(self, data: bytes, headers: dict[str, str], has_body: bool, cut: int | None = None) -> None:
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.send_response(206 if start else 200)
            for key, value in {**headers, "Content-Length": str(len(data) - start)}.items():
                self.send_header(key, value)
            self.end_headers()
            half = hub.held.get(self.path.rpartition("/")[2])
            if has_body and half is not None:
                self.wfile.write(data[start:len(data) // 2])
                half.wait(60)
                start = len(data) // 2
            if has_body:
                self.wfile.write(data[start:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True

        def _error(self, code: int, kind: str) -> None:
            self.send_response(code)
            if kind:
                self.send_header("X-Error-Code", kind)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def stand_in(patch: pytest.MonkeyPatch, cache: Path) -> Iterator[StandIn]:
    """The hub, which this process and its children ask instead of the real one; what they fetch lies in `cache`."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    patch.setenv("HF_ENDPOINT", hub.url)
    patch.setenv("HF_HOME", str(cache))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        patch.delenv(name, raising=False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
