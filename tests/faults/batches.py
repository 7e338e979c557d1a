"""Batch endpoints: files and batches as OpenAI lays them out, message batches as Anthropic does. A batch ends after so
many polls, and single items fail, expire or get lost by their question."""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.script import Step

_CREATED = "2026-11-21T08:00:00Z"
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")

Answering = Callable[[Mapping[str, Any], str], tuple["Step", bytes]]
"""Asked body and path of the endpoint -> the step that answers it and the whole body of the reply."""


@dataclass(frozen=True)
class BatchPlan:
    """How batches go."""

    polls: int = 1
    """A batch is done at this poll of its state."""
    fails: str = ""
    """The whole batch fails with this message, as one with a bad input file does."""
    expires: bool = False
    """The window ends: items of `expired` are not answered, and the batch says that it expired."""
    expired: tuple[str, ...] = ()
    """Questions that were not answered in time."""
    errored: tuple[str, ...] = ()
    """Questions that were answered with an error of their own."""
    lost: tuple[str, ...] = ()
    """Questions that appear in no result at all."""
    doubled: tuple[str, ...] = ()
    """Questions whose result comes twice."""
    never_done: bool = False
    """No poll ever finds it done."""


@dataclass
class Batch:
    """One batch that was handed in."""

    id: str
    items: list[dict[str, Any]]
    """Each with `custom_id` and `asked`, the body."""
    endpoint: str
    source: str = ""
    polls: int = 0
    done: bool = False
    cancelled: bool = False
    lines: list[bytes] = field(default_factory=list)
    """Results, in the opposite order of the items."""
    errors: list[bytes] = field(default_factory=list)


class BatchDesk:
    """State of all files and batches. `answer` returns (status, body), or None for a path that is none of its own."""

    def __init__(self, plan: BatchPlan, answering: Answering, question_of: Callable[[Any], str]) -> None:
        self._plan, self._answering, self._question_of = plan, answering, question_of
        self._lock = threading.Lock()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.url = ""
        """Address of the server, set once it listens."""

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes] | None:
        """Handle one request."""
        path = path.partition("?")[0].rstrip("/")
        with self._lock:
            if match := re.fullmatch(r".*/messages/batches(?:/([\w-]+))?(/results|/cancel)?", path):
                return self._anthropic(method, match[1], match[2] or "", body)
            if match := re.fullmatch(r".*/files(?:/([\w-]+))?(/content)?", path):
                return self._files(method, match[1], match[2] or "", headers, body)
            if match := re.fullmatch(r".*/batches(?:/([\w-]+))?(/cancel)?", path):
                return self._openai(method, match[1], match[2] or "", body)
        return None

    def _files(self, method: str, name: str | None, what: str, headers: Mapping[str, str],
               body: bytes) -> tuple[int, bytes]:
        if method == "POST" and name is None:
            parts = _multipart(headers.get("content-type", ""), body)
            if parts.get("purpose") != b"batch" or "file" not in parts:
                return _refused(400, "purpose must be batch, and a file must come with it")
            made = f"file-{len(self.files) + 1}"
            self.files[made] = parts["file"]
            return _json({"id": made, "object": "file", "bytes": len(parts["file"]), "created_at": 1763700000,
                          "filename": "batch.jsonl", "purpose": "batch", "status": "processed"})
        if name not in self.files:
            return _refused(404, f"no file {name}")
        if method == "DELETE":
            del self.files[name]
            return _json({"id": name, "object": "file", "deleted": True})
        return (200, self.files[name]) if what else _json({"id": name, "object": "file", "purpose": "batch"})

    def _openai(self, method: str, name: str | None, what: str, body: bytes) -> tuple[int, bytes]:
        if method == "POST" and name is None:
            asked = json.loads(body)
            source = self.files.get(asked.get("input_file_id", ""))
            if source is None or asked.get("completion_window") != "24h":
                return _refused(400, "input_file_id or completion_window is wrong")
            rows = [json.loads(line) for line in source.splitlines() if line.strip()]
            ids = [row["custom_id"] for row in rows]
            wrong = [r for r in rows if r.get("method") != "POST" or r.get("url") != asked["endpoint"]]
            if len(set(ids)) < len(ids) or wrong:
                return _refused(400, "custom_ids must be unique, method POST, url that of the batch")
            batch = Batch(f"batch_{len(self.batches) + 1}",
                          [{"custom_id": row["custom_id"], "asked": row["body"]} for row in rows], asked["endpoint"],
                          asked["input_file_id"])
            self.batches[batch.id] = batch
            return _json(self._openai_state(batch))
        if name is None:
            states = [self._openai_state(b) for b in reversed(self.batches.values())]
            return _json({"object": "list", "data": states, "has_more": False})
        batch_or_none = self.batches.get(name)
        if batch_or_none is None:
            return _refused(404, f"no batch {name}")
        if what == "/cancel":
            batch_or_none.cancelled = True
        else:
            self._poll(batch_or_none)
        return _json(self._openai_state(batch_or_none))

    def _poll(self, batch: Batch) -> None:
        batch.polls += 1
        due = batch.cancelled or (batch.polls >= self._plan.polls and not self._plan.never_done)
        if due and not batch.done:
            batch.done = True
            if not self._plan.fails:
                for item in reversed(batch.items):
                    self._finish(batch, item)
                self.files[f"{batch.id}-output"] = b"".join(batch.lines)
                self.files[f"{batch.id}-errors"] = b"".join(batch.errors)

    def _finish(self, batch: Batch, item: Mapping[str, Any]) -> None:
        """Write the result of one item."""
        question, plan = self._question_of(item["asked"]), self._plan
        if question in plan.lost:
            return
        is_message = "/messages" in batch.endpoint
        if batch.cancelled:
            kind, error = "canceled", {"code": "batch_cancelled", "message": "the batch was cancelled"}
        elif question in plan.expired:
            kind, error = "expired", {"code": "batch_expired", "message": "not executed before the window ended"}
        else:
            kind, error = "succeeded", None
        if is_message:
            line = _line({"custom_id": item["custom_id"], "result": self._result(batch, item, kind, question)})
            batch.lines += [line] * (2 if question in plan.doubled else 1)
            return
        row: dict[str, Any] = {"id": f"batch_req_{item['custom_id']}", "custom_id": item["custom_id"], "response": None,
                               "error": error}
        if error is None:
            status, reply = self._reply(batch, item, question)
            row["response"] = {"status_code": status, "request_id": f"req_{item['custom_id']}", "body": reply}
        failed = error is not None or row["response"]["status_code"] != 200
        target = batch.errors if failed else batch.lines
        target += [_line(row)] * (2 if question in plan.doubled else 1)

    def _reply(self, batch: Batch, item: Mapping[str, Any], question: str) -> tuple[int, Any]:
        if question in self._plan.errored:
            return 400, {"error": {"message": f"cannot answer {question}", "type": "invalid_request_error"}}
        step, body = self._answering(item["asked"], batch.endpoint)
        return step.status, json.loads(body)

    def _result(self, batch: Batch, item: Mapping[str, Any], kind: str, question: str) -> dict[str, Any]:
        if kind != "succeeded":
            return {"type": kind}
        status, reply = self._reply(batch, item, question)
        if status != 200:
            error = {"type": "invalid_request_error", "message": f"cannot answer {question}"}
            return {"type": "errored", "error": {"type": "error", "error": error}}
        return {"type": "succeeded", "message": reply}

    def _openai_state(self, batch: Batch) -> dict[str, Any]:
        plan = self._plan
        status = "in_progress" if batch.polls else "validating"
        if batch.done:
            status = "cancelled" if batch.cancelled else "expired" if plan.expires else "completed"
            status = "failed" if plan.fails else status
        elif batch.cancelled:
            status = "cancelling"
        errors = {"object": "list", "data": [{"code": "invalid_json_line", "message": plan.fails, "line": 1}]}
        return {
            "id": batch.id, "object": "batch", "endpoint": batch.endpoint, "completion_window": "24h",
            "input_file_id": batch.source, "created_at": 1763700000, "status": status,
            "errors": errors if status == "failed" else None,
            "output_file_id": f"{batch.id}-output" if batch.lines else None,
            "error_file_id": f"{batch.id}-errors" if batch.errors else None,
            "request_counts": {"total": len(batch.items), "completed": len(batch.lines), "failed": len(batch.errors)},
        }

    def _anthropic(self, method: str, name: str | None, what: str, body: bytes) -> tuple[int, bytes]:
        if method == "POST" and name is None:
            rows = json.loads(body).get("requests", [])
            ids = [row["custom_id"] for row in rows]
            if not rows or len(set(ids)) < len(ids) or not all(_CUSTOM_ID.fullmatch(i) for i in ids):
                return _refused(400, "requests: custom_id must be unique and match ^[a-zA-Z0-9_-]{1,64}$")
            batch = Batch(f"msgbatch_{len(self.batches) + 1}",
                          [{"custom_id": row["custom_id"], "asked": row["params"]} for row in rows], "/v1/messages")
            self.batches[batch.id] = batch
            return _json(self._anthropic_state(batch))
        if name is None:
            states = [self._anthropic_state(b) for b in reversed(self.batches.values())]
            return _json({"data": states, "has_more": False, "first_id": None, "last_id": None})
        found = self.batches.get(name)
        if found is None:
            return _refused(404, f"no batch {name}")
        if what == "/results":
            return (200, b"".join(found.lines)) if found.done else _refused(404, "the batch has not ended")
        if what == "/cancel":
            found.cancelled = True
        else:
            self._poll(found)
        return _json(self._anthropic_state(found))

    def _anthropic_state(self, batch: Batch) -> dict[str, Any]:
        kinds = [json.loads(line)["result"]["type"] for line in batch.lines]
        counts = {kind: kinds.count(kind) for kind in ("succeeded", "errored", "canceled", "expired")}
        status = "ended" if batch.done else "canceling" if batch.cancelled else "in_progress"
        return {
            "id": batch.id, "type": "message_batch", "processing_status": status, "created_at": _CREATED,
            "request_counts": {"processing": 0 if batch.done else len(batch.items), **counts},
            "ended_at": _CREATED if batch.done else None, "expires_at": "2026-11-22T08:00:00Z",
            "results_url": f"{self.url}/messages/batches/{batch.id}/results" if batch.done else None,
        }


def _multipart(kind: str, body: bytes) -> dict[str, bytes]:
    """The parts of a form by their names."""
    head = b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n"
    form = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    parts: dict[str, bytes] = {}
    for part in form.iter_parts() if form.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        parts[str(name)] = bytes(part.get_payload(decode=True))
    return parts


def _json(data: Any) -> tuple[int, bytes]:
    return 200, json.dumps(data).encode()


def _line(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


def _refused(status: int, message: str) -> tuple[int, bytes]:
    error = {"type": "invalid_request_error", "message": message}
    return status, json.dumps({"type": "error", "error": error}).encode()
