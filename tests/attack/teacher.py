"""A paid teacher on loopback that keeps account of every key that asks it: how often each question came, and what a
provider would have billed. It answers `Double N` rightly, and anything else with a summary of its last lines."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USD_PER_MILLION = (1000.0, 2000.0)
"""Input and output. Dear, so that a cap of cents is within reach."""
KEY_VARIABLE = "ATTACK_API_KEY"
LATENCY_S = 0.004


@dataclass(frozen=True)
class Account:
    """What one key asked."""

    asked: Counter[str]
    """Question -> how often it was answered."""
    usd: float

    @property
    def total(self) -> int:
        """Answers that were bought."""
        return self.asked.total()


def reply_to(question: str) -> tuple[str, str]:
    """(reasoning, answer) to a question."""
    if found := re.fullmatch(r"Double (\d+)", question.strip()):
        number = int(found[1])
        wrong = number % 8 == 7
        return f"{number} + {number}: first {number}, then {number} more, is {2 * number}.", \
            f"The answer is {2 * number + wrong}."
    numbers = re.findall(r"\d+", question)
    return "", f"Twice {numbers[0] if numbers else 0} is {numbers[-1] if numbers else 0}."


class Teacher:
    """The server. `broken`: numbers whose questions get bytes that are no reply. `held`: those that get no reply as
    long as they are in it."""

    def __init__(self, port: int = 0) -> None:
        self.broken: set[int] = set()
        self.held: set[int] = set()
        self.latency_s = LATENCY_S
        self._asked: dict[str, Counter[str]] = defaultdict(Counter)
        self._usd: Counter[str] = Counter()
        self._lock = threading.Lock()
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                key = self.path.rsplit("/", 1)[1]
                with teacher._lock:
                    account = {"asked": dict(teacher._asked[key]), "usd": teacher._usd[key]}
                self._send(json.dumps(account).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                question = body["messages"][-1]["content"]
                reasoning, answer = reply_to(question)
                usage = {"prompt_tokens": 2 + len(question) // 4,
                         "completion_tokens": 2 + (len(reasoning) + len(answer)) // 4}
                with teacher._lock:
                    teacher._asked[key][question] += 1
                    teacher._usd[key] += sum(
                        price * tokens / 1e6 for price, tokens in zip(USD_PER_MILLION, usage.values(), strict=True))
                time.sleep(teacher.latency_s)
                found = re.search(r"\d+", question)
                while found and int(found[0]) in teacher.held:
                    time.sleep(teacher.latency_s)
                if found and int(found[0]) in teacher.broken:
                    self._send(b"\xff\xfe<html>\x00")
                    return
                message = {"role": "assistant", "content": answer, "reasoning_content": reasoning}
                self._send(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}],
                                       "usage": usage}).encode())

            def _send(self, data: bytes) -> None:
                with contextlib.suppress(ConnectionError):  # who asked may have been killed
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """It says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_port)

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def teaching(port: int = 0) -> Iterator[Teacher]:
    """A teacher that answers. OSError when somebody else has the port."""
    teacher = Teacher(port)
    teacher.start()
    try:
        yield teacher
    finally:
        teacher.close()


def account(port: int, key: str) -> Account:
    """What the key asked so far, from any process of this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/asked/{key}", timeout=30) as reply:
        data = json.load(reply)
    return Account(Counter(data["asked"]), data["usd"])
