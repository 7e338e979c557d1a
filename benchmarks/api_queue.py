"""A server that only queues: it works on 40 questions at once and lets the others wait, without headers and without a
429. The engine has to find by itself how many requests are worth having in flight.

    python -m benchmarks.api_queue [--requests 6000] [--repeats 2] [--busy]

Compared with the best fixed concurrency of a sweep from 8 to 256. More in flight than the server works on costs nothing
here, so the adaptive rate can at best equal it; what is lost is the way up from 16.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks import machine
from benchmarks.api_engine import ours
from benchmarks.api_server import Behaviour, served

CAPACITY, LATENCY_S = 40, 0.1
SWEEP = (8, 16, 32, 64, 128, 256)
TARGET = 0.9


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    machine.add_arguments(parser)
    parser.set_defaults(repeats=2)
    parser.add_argument("--requests", type=int, default=6000)
    given = parser.parse_args()
    machine.describe(["aiohttp"])
    machine.check_idle(given.busy)
    limit = CAPACITY / LATENCY_S
    machine.say(f"the server works on {CAPACITY} at once, {LATENCY_S * 1e3:.0f} ms each: at most {limit:.0f} answers/s")
    best = 0.0
    with served(Behaviour(latency_s=LATENCY_S, capacity=CAPACITY)) as server:
        for width in SWEEP:
            # As long as each other (about 5 s), not as many: a narrow one would take minutes.
            count = int(min(width, CAPACITY) / LATENCY_S * 5)
            rate = count / ours(server, count, False, width)["wall_s"]
            best = max(best, rate)
            machine.say(f"  {width:3d} in flight: {rate:.0f} answers/s")
        server.seen(clear=True)
        rates = [given.requests / ours(server, given.requests, False, 0)["wall_s"] for _ in range(given.repeats)]
        seen = server.seen()
    share = statistics.median(rates) / best
    machine.say(f"adaptive, {given.requests} requests from a cold start: {statistics.median(rates):.0f} answers/s "
                f"({min(rates):.0f} to {max(rates):.0f}), {share:.1%} of the best fixed one, at most "
                f"{seen.most_in_flight} in flight; target {TARGET:.0%}: "
                f"{'reached' if share >= TARGET else 'NOT reached'}")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
