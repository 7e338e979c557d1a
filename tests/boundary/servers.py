"""A server that tries to steer the terminal of whoever asks it: in answers, names, and the texts of its errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.boundary.corpus import EVIL

JSON_SAFE = EVIL.replace("\ud83d", "")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, {"data": [{"id": JSON_SAFE, "object": "model", "owned_by": JSON_SAFE}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = json.dumps(asked.get("messages", ""), ensure_ascii=False)
        if "refuse" in said:
            self._send(400, {"error": {"message": JSON_SAFE, "type": JSON_SAFE, "code": JSON_SAFE}})
        elif "break" in said:
            self._send_bytes(200, EVIL.encode("utf-8", "surrogatepass"))
        else:
            message = {"role": "assistant", "content": f"{JSON_SAFE} The answer is 2.", "reasoning_content": JSON_SAFE}
            self._send(200, {"model": JSON_SAFE, "id": JSON_SAFE, "choices": [
                {"message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 9}})

    def _send(self, code: int, value: object) -> None:
        self._send_bytes(code, json.dumps(value).encode())

    def _send_bytes(self, code: int, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def hostile_server() -> Iterator[str]:
    """Its address, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
