"""Failures and storms: 5 % of all requests end in HTTP 500, and two times for one second everything is refused with
HTTP 429 and `Retry-After: 1`. The whole collect stage (journal and store included) against other collectors.

    python -m benchmarks.api_storms [--curator-python P] [--distilabel-python P] [--prompts 5000] [--repeats 1] [--busy]

Each P is the interpreter of an environment that holds bespokelabs-curator or distilabel[openai]; without one that peer
is left out. Peers get what is best for them: limits lifted to a million, 256 in flight, the shortest pause after a 429,
enough retries. All ask for whole bodies. The clock is the server's: from the first request to the last answer.

The ideal is a client that costs nothing and never errs: every request that the failures make necessary, in rounds of
256 in flight, and the length of the storms.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path

from benchmarks import api_runs, machine
from benchmarks.api_engine import peer
from benchmarks.api_server import Behaviour, Seen, Served, served

IN_FLIGHT, LATENCY_S, FAIL_SHARE = 256, 0.2, 0.05
STORMS = ((1.5, 2.5), (4.5, 5.5))
TARGET_RATIO, TARGET_IDEAL = 3.0, 1.15


def ours(server: Served, count: int, stream: bool) -> Seen:
    """One run of the collect stage, as the server saw it."""
    server.seen(clear=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = f"concurrency = {IN_FLIGHT}\nstream = {str(stream).lower()}"
        text = api_runs.recipe_text(api_runs.write_prompts(folder / "q.jsonl", count), server.url, options)
        api_runs.follow(lambda: api_runs.start(folder / "ws", text))
    return server.seen()


def theirs(python: str, script: str, server: Served, count: int) -> Seen:
    """One run of a peer, as the server saw it."""
    server.seen(clear=True)
    found = peer(python, Path(__file__).with_name(script), server, count=count, in_flight=IN_FLIGHT)
    seen = server.seen()
    machine.say(f"  {script}: {found['cpu_s']:.2f} s of CPU, it holds {found['answered']:.0f} answers")
    return seen


def report(name: str, rounds: list[Seen], count: int, ideal: float) -> float:
    """Print what came; returns the median makespan in seconds."""
    walls = [seen.last_at - seen.first_at for seen in rounds]
    wall, last = statistics.median(walls), rounds[-1]
    lost = max(count - len(seen.answered) for seen in rounds)
    machine.say(f"  {name}: {wall:.2f} s ({min(walls):.2f} to {max(walls):.2f}), {count / wall:.0f} answers/s, "
                f"{wall / ideal:.2f} times the ideal; statuses {dict(sorted(last.statuses.items()))}, "
                f"{sum(last.answered.values()) - len(last.answered)} answered twice, {lost} never")
    return wall


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    machine.add_arguments(parser)
    parser.set_defaults(repeats=1)
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--curator-python", default="")
    parser.add_argument("--distilabel-python", default="")
    given = parser.parse_args()
    machine.describe(["aiohttp", "duckdb"])
    machine.check_idle(given.busy)
    count = given.prompts
    ideal = math.ceil(count / (1 - FAIL_SHARE) / IN_FLIGHT) * LATENCY_S + sum(end - begin for begin, end in STORMS)
    machine.say(f"{count} prompts, {IN_FLIGHT} in flight, {LATENCY_S * 1e3:.0f} ms, {FAIL_SHARE:.0%} HTTP 500, storms "
                f"{STORMS}; ideal {ideal:.2f} s")
    peers = {"api_peer_curator.py": given.curator_python, "api_peer_distilabel.py": given.distilabel_python}
    mine: list[Seen] = []
    others: dict[str, list[Seen]] = {script: [] for script, python in peers.items() if python}
    with served(Behaviour(latency_s=LATENCY_S, fail_share=FAIL_SHARE, storms=STORMS)) as server:
        for _ in range(given.repeats):
            for script, rounds in others.items():
                rounds.append(theirs(peers[script], script, server, count))
            mine += [ours(server, count, False), ours(server, count, False)]
        streamed = [ours(server, count, True)]
    wall = report("ours, the whole stage", mine, count, ideal)
    verdict = "reached" if wall / ideal <= TARGET_IDEAL else "NOT reached"
    machine.say(f"  target {TARGET_IDEAL} times the ideal: {verdict}")
    report("ours, streamed", streamed, count, ideal)
    for script, rounds in others.items():
        ratio = report(script.removeprefix("api_peer_").removesuffix(".py"), rounds, count, ideal) / wall
        machine.say(f"  ratio: {ratio:.2f}x; target {TARGET_RATIO}x")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
