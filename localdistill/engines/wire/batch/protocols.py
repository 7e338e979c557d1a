"""The two protocols of batch endpoints: how requests are written down, handed in and looked at, and what a line of
results says. Decides nothing about money, time or what is asked again.

OpenAI's form: a file of requests is uploaded and a batch made of it (at most 50,000 requests and 200 MB). Anthropic's:
the requests are the body that makes the batch (at most 100,000 and 256 MB).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

from localdistill.core.events import Cancel
from localdistill.engines.wire.batch.calls import Caller
from localdistill.engines.wire.batch.states import BatchFolder, BatchState
from localdistill.engines.wire.dialect import Dialect
from localdistill.engines.wire.http import Transient, refuses_at_once

_MB = 1_000_000
_SLACK_S = 900.0
"""By how much a provider's clock may differ from ours."""
_PAGES, _PAGE = 20, 100
_PROBLEMS = {"completed": "", "failed": "the batch was refused", "expired": "the batch expired",
             "cancelled": "the batch was cancelled"}
_NEVER_BEGUN = ("batch_expired", "batch_cancelled")
_UNSEEN = "the server answered without an id"


@dataclass(frozen=True)
class View:
    """How a batch stands."""

    has_ended: bool
    done: int = 0
    total: int = 0
    results: tuple[str, ...] = ()
    """Addresses of files of results; there may be none."""
    lines: int = 0
    """How many results there must be at least, as the provider counts them."""
    problem: str = ""
    """Why there may be fewer results than requests."""
    rest_is_free: bool = False
    """A request without a result was surely not worked on: the batch was refused, or ended before its turn came."""
    is_too_much: bool = False
    """It was refused because too much is waiting already."""


@dataclass(frozen=True)
class Item:
    """One line of results: a reply's body, or what came instead."""

    index: int
    body: object = None
    error: str = ""
    is_free: bool = False
    """The error proves that nothing was written, or the provider's documents say that it is not billed."""


class BatchProtocol(Protocol):
    """One form of batch endpoint. Stateless."""

    most_requests: ClassVar[int]
    most_bytes: ClassVar[int]
    frame: ClassVar[tuple[bytes, bytes, bytes]]
    """What stands before, between and after the items of a file of requests."""

    def item(self, custom_id: str, body: Mapping[str, Any]) -> bytes:
        """One request as it is written down."""

    def submit(self, caller: Caller, folder: BatchFolder, state: BatchState, cancel: Cancel, finish_s: float) -> str:
        """Hand the batch in; its id. `state` is saved as `sent` just before the call that makes the batch."""

    def find(self, caller: Caller, state: BatchState, taken: Iterable[str], cancel: Cancel) -> tuple[str, bool]:
        """The id of the batch that an interrupted `submit` may have made, and whether it surely is that one; an empty
        id when there is none. `taken`: batches that are known to be others. Missing: the server keeps no list."""

    def look(self, caller: Caller, state: BatchState, cancel: Cancel) -> View:
        """How the batch stands now."""

    def call_off(self, caller: Caller, state: BatchState, cancel: Cancel) -> None:
        """Ask the provider to stop working on it."""

    def read(self, state: BatchState, row: object, dialect: Dialect) -> Item | None:
        """What a parsed line of results says; None when it belongs to no request of the batch."""


class OpenAIBatches:
    """`/files` and `/batches`."""

    most_requests: ClassVar[int] = 50_000
    most_bytes: ClassVar[int] = 200 * _MB
    frame: ClassVar[tuple[bytes, bytes, bytes]] = (b"", b"\n", b"\n")
    _endpoint: ClassVar[str] = "/v1/chat/completions"

    def item(self, custom_id: str, body: Mapping[str, Any]) -> bytes:
        """See `BatchProtocol.item`."""
        return _dump({"custom_id": custom_id, "method": "POST", "url": self._endpoint, "body": body})

    def submit(self, caller: Caller, folder: BatchFolder, state: BatchState, cancel: Cancel, finish_s: float) -> str:
        """See `BatchProtocol.submit`. Uploading costs nothing and may be done twice."""
        if not state.file_id:
            answer = caller.upload("/files", folder.requests(state.token), {"purpose": "batch"}, cancel)
            state.file_id = _id_of(answer)
        state.stage = "sent"
        folder.save(state)
        return _id_of(caller.ask("POST", "/batches", cancel, {
            "input_file_id": state.file_id, "endpoint": self._endpoint, "completion_window": "24h",
            "metadata": {"localdistill": state.token}}, finish_s))

    def find(self, caller: Caller, state: BatchState, taken: Iterable[str], cancel: Cancel) -> tuple[str, bool]:
        """See `BatchProtocol.find`: by our token, or by the file, which only this batch was made of."""
        after = ""
        for _ in range(_PAGES):
            page = _object(caller.ask("GET", f"/batches?limit={_PAGE}{after}", cancel))
            rows = _rows(page)
            for row in rows:
                metadata = row.get("metadata")
                token = metadata.get("localdistill") if isinstance(metadata, Mapping) else None
                if token == state.token or row.get("input_file_id") == state.file_id:
                    return _id_of(row), True
            oldest = rows[-1].get("created_at") if rows else None
            is_past = isinstance(oldest, int | float) and oldest < state.created_at - _SLACK_S
            if not rows or page.get("has_more") is not True or is_past:
                break
            after = f"&after={quote(_id_of(rows[-1]), safe='')}"
        return "", True

    def look(self, caller: Caller, state: BatchState, cancel: Cancel) -> View:
        """See `BatchProtocol.look`."""
        row = _object(caller.ask("GET", f"/batches/{quote(state.batch_id, safe='')}", cancel))
        status, counts = row.get("status"), row.get("request_counts")
        done = _count(counts, "completed") + _count(counts, "failed")
        if not isinstance(status, str):
            raise Transient("the batch has no status", "server")
        if status not in _PROBLEMS:
            return View(False, done, len(state.ids))
        files = [row[key] for key in ("output_file_id", "error_file_id") if isinstance(row.get(key), str) and row[key]]
        errors = row.get("errors")
        told = [error for error in _rows(errors) if error.get("message")] if errors else []
        problem = _PROBLEMS[status]
        if told:
            problem = f"{problem or 'the batch ended'}: {str(told[0]['message'])[:300]}"
        return View(True, done, len(state.ids),
                    tuple(f"{caller.base}/files/{quote(name, safe='')}/content" for name in files), done, problem,
                    status != "completed", any(error.get("code") == "token_limit_exceeded" for error in told))

    def call_off(self, caller: Caller, state: BatchState, cancel: Cancel) -> None:
        """See `BatchProtocol.call_off`."""
        caller.ask("POST", f"/batches/{quote(state.batch_id, safe='')}/cancel", cancel)

    def read(self, state: BatchState, row: object, dialect: Dialect) -> Item | None:
        """See `BatchProtocol.read`."""
        if not isinstance(row, Mapping) or (index := state.index_of(row.get("custom_id"))) is None:
            return None
        error, response = row.get("error"), row.get("response")
        if error:
            said = dialect.error_of({"error": error})
            code = error.get("code") if isinstance(error, Mapping) else None
            return Item(index, error=said[0] if said else "the item failed", is_free=code in _NEVER_BEGUN)
        if not isinstance(response, Mapping):
            return Item(index, error="the item has neither a response nor an error")
        body, status = response.get("body"), response.get("status_code")
        said = dialect.error_of(body)
        if said or status != 200:
            is_free = isinstance(status, int) and status != 200 and refuses_at_once(status, json.dumps(body))
            return Item(index, error=f"HTTP {status}: {said[0] if said else 'no reason given'}", is_free=is_free)
        return Item(index, body)


class AnthropicBatches:
    """`/messages/batches`."""

    most_requests: ClassVar[int] = 100_000
    most_bytes: ClassVar[int] = 256 * _MB
    frame: ClassVar[tuple[bytes, bytes, bytes]] = (b'{"requests":[', b",", b"]}")

    def item(self, custom_id: str, body: Mapping[str, Any]) -> bytes:
        """See `BatchProtocol.item`."""
        return _dump({"custom_id": custom_id, "params": body})

    def submit(self, caller: Caller, folder: BatchFolder, state: BatchState, cancel: Cancel, finish_s: float) -> str:
        """See `BatchProtocol.submit`."""
        state.stage = "sent"
        folder.save(state)
        return _id_of(caller.send_file("/messages/batches", folder.requests(state.token), cancel, finish_s))

    def find(self, caller: Caller, state: BatchState, taken: Iterable[str], cancel: Cancel) -> tuple[str, bool]:
        """See `BatchProtocol.find`. These batches carry no mark of ours before their results: one that was made at the
        time with as many requests is a guess."""
        known, after = {*taken, *state.rejected}, ""
        for _ in range(_PAGES):
            page = _object(caller.ask("GET", f"/messages/batches?limit={_PAGE}{after}", cancel))
            rows = _rows(page)
            for row in rows:
                counts = row.get("request_counts")
                total = sum(_count(counts, key) for key in counts) if isinstance(counts, Mapping) else 0
                made_at = _time(row.get("created_at"))
                if total == len(state.ids) and row.get("id") not in known and made_at > state.created_at - _SLACK_S:
                    return _id_of(row), False
            if not rows or page.get("has_more") is not True or _time(
                    rows[-1].get("created_at")) < state.created_at - _SLACK_S:
                break
            after = f"&after_id={quote(_id_of(rows[-1]), safe='')}"
        return "", True

    def look(self, caller: Caller, state: BatchState, cancel: Cancel) -> View:
        """See `BatchProtocol.look`."""
        row = _object(caller.ask("GET", f"/messages/batches/{quote(state.batch_id, safe='')}", cancel))
        status, counts = row.get("processing_status"), row.get("request_counts")
        done = len(state.ids) - _count(counts, "processing")
        if not isinstance(status, str):
            raise Transient("the batch has no processing_status", "server")
        if status != "ended":
            return View(False, done, len(state.ids))
        results = row.get("results_url")
        if not isinstance(results, str) or not results:
            return View(True, done, len(state.ids), problem="the results are not available any more")
        lacks = _count(counts, "canceled") + _count(counts, "expired")
        lines = lacks + _count(counts, "succeeded") + _count(counts, "errored")
        problem = "the batch was cancelled or expired" if lacks else ""
        return View(True, done, len(state.ids), (results,), lines, problem, rest_is_free=bool(lacks))

    def call_off(self, caller: Caller, state: BatchState, cancel: Cancel) -> None:
        """See `BatchProtocol.call_off`."""
        caller.ask("POST", f"/messages/batches/{quote(state.batch_id, safe='')}/cancel", cancel)

    def read(self, state: BatchState, row: object, dialect: Dialect) -> Item | None:
        """See `BatchProtocol.read`."""
        if not isinstance(row, Mapping) or (index := state.index_of(row.get("custom_id"))) is None:
            return None
        outcome = row.get("result")
        result: Mapping[str, object] = outcome if isinstance(outcome, Mapping) else {}
        kind = result.get("type")
        if kind == "succeeded":
            return Item(index, result.get("message"))
        if kind == "errored":
            error = result.get("error")
            said = dialect.error_of(error) or dialect.error_of({"error": error})
            return Item(index, error=said[0] if said else "the item failed", is_free=True)
        told = {"canceled": "the item was cancelled", "expired": "the item expired"}
        return Item(index, error=told.get(str(kind), "the item has no result of a known type"), is_free=kind in told)


PROTOCOLS: dict[str, BatchProtocol] = {"openai": OpenAIBatches(), "anthropic": AnthropicBatches()}


def _dump(value: object) -> bytes:
    # Escapes keep line separators and lone surrogates out of a file that is cut into lines.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _object(data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise Transient("the server answered with something else than an object", "server")
    return data


def _id_of(data: object) -> str:
    """The id of what was made or listed. Transient when there is none: it may have been made all the same."""
    name = data.get("id") if isinstance(data, Mapping) else None
    if not isinstance(name, str) or not 0 < len(name) <= 256:
        raise Transient(_UNSEEN, "server")
    return name


def _rows(page: object) -> list[Mapping[str, Any]]:
    data = page.get("data") if isinstance(page, Mapping) else None
    return [row for row in data if isinstance(row, Mapping)] if isinstance(data, list) else []


def _count(counts: object, key: str) -> int:
    value = counts.get(key) if isinstance(counts, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _time(text: object) -> float:
    """Seconds since the epoch; 0 when unreadable."""
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else 0.0
    except ValueError:
        return 0.0
