"""What one reply costs the API engine in processor time, against the usual client library.

    python -m benchmarks.api_engine [--peer-python PATH] [--requests 5000] [--repeats 3] [--busy]

Both ask a server in a process of its own (50 ms, answers of 2 KB) the same questions with 256 in flight, once for whole
bodies and once for streams (64 events in 8 writes). The peer is the `openai`
package's AsyncOpenAI over a connection pool that is wide enough, in the interpreter that --peer-python names (an
environment with `pip install openai`); without it only ours is measured.
Ours ends at Reply objects with split reasoning and the raw body kept, the peer at its own response objects.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.api_server import Behaviour, Served, served
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Request, Sampling
from localdistill.engines.openai_compatible import OpenAICompatibleEngine, OpenAICompatibleOptions
from localdistill.safety.children import PIPE, start

IN_FLIGHT = 256
TARGET_MS = 0.3
PEER = Path(__file__).with_name("api_peer_openai.py")


def requests(count: int) -> list[Request]:
    """Short questions."""
    sampling = Sampling(max_tokens=1024)
    return [Request(str(n), (Message("user", f"Question {n}"),), sampling) for n in range(count)]


def ours(server: Served, count: int, stream: bool, concurrency: int = IN_FLIGHT) -> dict[str, float]:
    """Wall and CPU seconds of the engine in this process."""
    engine = OpenAICompatibleEngine(OpenAICompatibleOptions(
        base_url=server.url, model="mock", concurrency=concurrency, stream=stream))
    asked = requests(count)
    try:
        list(engine.answer(iter(asked[:1]), silent, Cancel()))  # imports and the first connection
        cpu, wall = time.process_time(), time.perf_counter()
        statuses = [reply.status for reply in engine.answer(iter(asked), silent, Cancel())]
        found = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    finally:
        engine.close()
    assert statuses.count("complete") == count, f"{count - statuses.count('complete')} replies are not complete"
    return found


def peer(python: str, script: Path, server: Served, **how: Any) -> dict[str, float]:
    """Wall and CPU seconds of a peer's script in the peer's interpreter."""
    given = {"url": server.url, **how}
    with start([python, str(script), json.dumps(given)], stdout=PIPE, stderr=PIPE) as child:
        out, problem = child.communicate()
    if child.returncode:
        raise SystemExit(f"{script.name} failed:\n{problem.decode(errors='replace')[-3000:]}")
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


def report(name: str, rounds: list[dict[str, float]], count: int) -> float:
    """Print medians; returns the CPU milliseconds per reply."""
    costs = [one["cpu_s"] / count * 1e3 for one in rounds]
    wall = statistics.median(one["wall_s"] for one in rounds)
    machine.say(f"  {name}: {statistics.median(costs):.3f} ms CPU per reply ({min(costs):.3f} to {max(costs):.3f}), "
                f"{count / wall:.0f} replies/s")
    return statistics.median(costs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    machine.add_arguments(parser)
    parser.add_argument("--peer-python", default="", help="interpreter of an environment that has `openai`")
    parser.add_argument("--requests", type=int, default=5000)
    given = parser.parse_args()
    machine.describe(["aiohttp"])
    machine.check_idle(given.busy)
    count = given.requests
    with served(Behaviour()) as server:
        for stream in (False, True):
            machine.say(f"{count} requests, {IN_FLIGHT} in flight, stream={stream}")
            mine: list[dict[str, float]] = []
            theirs: list[dict[str, float]] = []
            how = {"count": count, "in_flight": IN_FLIGHT, "stream": stream}
            for _ in range(given.repeats):
                if given.peer_python:
                    theirs.append(peer(given.peer_python, PEER, server, **how))
                mine.append(ours(server, count, stream))
                mine.append(ours(server, count, stream))
            cost = report("ours", mine, count)
            machine.say(f"  target {TARGET_MS} ms: {'reached' if cost <= TARGET_MS else 'NOT reached'}")
            if theirs:
                machine.say(f"  ratio: {report('peer', theirs, count) / cost:.1f}x less CPU per reply; target 8x")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
