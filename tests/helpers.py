"""What several tests use: an OpenAI-compatible server on loopback that counts what it is asked, and small recipes."""

from __future__ import annotations

import json
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from localdistill.workspace.run_folder import RunFolder

REPO = Path(__file__).resolve().parents[1]
SHARED_DATA = REPO.parent / "shared" / "data"


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """No file may grow beyond `size_bytes`, in this process and its children: what a full disk does to a writer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class CountingServer:
    """Answers `N + N` questions; counts every question that reached it."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.asked: Counter[str] = Counter()
        self.fail_all = False
        self.wrong_tries: Callable[[int], int] = lambda number: 0
        """How many of the first answers to question `number` are wrong."""
        self.usage = {"prompt_tokens": 5, "completion_tokens": 9}
        self.preface = ""
        """What every answer begins with."""
        self.thinks_in = "reasoning_content"
        """The field that holds reasoning."""
        self.broken: Callable[[int], bool] = lambda number: False
        """Whether question `number` gets bytes that are no reply."""
        self.says: Callable[[str], str] | None = None
        """What it answers to a question, in place of all that; an empty text is an error of the server."""
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = body["messages"][-1]["content"]
                with outer._lock:
                    outer.asked[question] += 1
                    tries = outer.asked[question]
                time.sleep(outer.latency_s)
                if outer.fail_all:
                    self._send(500, {"error": {"message": "down"}})
                    return
                if outer.says is not None:
                    said = outer.says(question)
                    choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
                    self._send(*((200, {"choices": [choice], "usage": outer.usage}) if said else
                                 (500, {"error": {"message": "down"}})))
                    return
                number = int(question.split()[1])
                if outer.broken(number):
                    self._send_bytes(200, b"\xff\xfe<html>\x00")
                    return
                wrong = tries <= outer.wrong_tries(number)
                message = {
                    "role": "assistant",
                    "content": f"{outer.preface}The answer is {2 * number + wrong}.",
                    outer.thinks_in: f"{number} + {number} = {2 * number}.",
                }
                self._send(
                    200,
                    {
                        "choices": [{"message": message, "finish_reason": "stop"}],
                        "usage": outer.usage,
                    },
                )

            def _send(self, code: int, value: object) -> None:
                self._send_bytes(code, json.dumps(value).encode())

            def _send_bytes(self, code: int, data: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def counting_server(latency_s: float = 0.0) -> Iterator[CountingServer]:
    """A CountingServer that runs."""
    made = CountingServer(latency_s)
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


def write_questions(path: Path, count: int) -> Path:
    """`count` prompts whose answer is twice their number."""
    rows = [{"messages": [{"role": "user", "content": f"Double {i}"}], "reference": str(2 * i)} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def collecting_recipe(questions: Path, url: str, concurrency: int = 4, extra: str = "") -> str:
    """A recipe that asks an API and grades."""
    return f"""
name = "collecting"
[prompts]
files = ["{questions}"]
[teacher]
use = "openai_compatible"
base_url = "{url}"
model = "counter"
concurrency = {concurrency}
{extra}
[[grade]]
use = "exact"
[[filter]]
use = "verified"
"""


def wait_for(condition: object, timeout_s: float = 240.0) -> None:
    """Block until `condition()` is true; for minutes, since the machine may be busy."""
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain")
        time.sleep(0.005)


def kill_everything(run: RunFolder) -> None:
    """SIGKILL to the supervisor and every process below it, as a power cut would."""
    pid = run.status().data["pid"]
    victims = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for victim in victims:
        victim.kill()
    psutil.wait_procs(victims, timeout=20)
    wait_for(lambda: not run.is_alive())
