"""A peer of `api_storms`: bespokelabs-curator with its limits lifted. Runs in the peer's interpreter, imports nothing
of this project, prints one JSON line. What it stores goes to a temporary folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time

os.environ.update(TELEMETRY_ENABLED="false", CURATOR_VIEWER="0", DO_NOT_TRACK="1", HF_DATASETS_OFFLINE="1",
                  HF_HUB_OFFLINE="1", LITELLM_LOCAL_MODEL_COST_MAP="True")

import litellm.litellm_core_utils.default_encoding  # noqa: F401 - brings token tables
from bespokelabs import curator


class Asker(curator.LLM):
    """Asks each row's question."""

    def prompt(self, row: dict[str, str]) -> str:
        """The question."""
        return row["question"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        """The answer."""
        return {"question": row["question"], "answer": response}


def main(url: str, count: int, in_flight: int, pause_s: int = 1) -> dict[str, object]:
    """Ask `count` questions. Only the asking is timed, not the imports."""
    many = 1_000_000
    asker = Asker(
        model_name="mock", backend="openai", generation_params={"max_tokens": 1024},
        backend_params={
            "base_url": url, "api_key": "x", "max_concurrent_requests": in_flight,
            "max_requests_per_minute": many, "max_tokens_per_minute": many * 10_000,
            "seconds_to_pause_on_rate_limit": pause_s, "max_retries": 20, "require_all_responses": False,
        })
    rows = [{"question": f"Question {number}"} for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = time.process_time(), time.perf_counter()
        answers = asker(rows, working_dir=folder)
        found: dict[str, object] = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        answers = getattr(answers, "dataset", answers)
        return {**found, "answered": len(answers)}


if __name__ == "__main__":
    line = json.dumps(main(**json.loads(sys.argv[1])))
    sys.stdout.write("\n" + line + "\n")
    sys.stdout.flush()
    os._exit(0)
