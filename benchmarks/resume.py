"""What an interruption costs: how soon a run with 100,000 stored replies sends its next request, and whether `kill -9`
of the whole run loses or repeats anything.

    python -m benchmarks.resume [--stored 100000] [--kills 5] [--repeats 3] [--busy]

start: the store is filled through its own interface with short texts; then a run asks 200 prompts more. The clock
    runs from the start of the stage's process to the first request at the server, imports and the reading of all
    prompts included.
kill: the supervisor's process group and the stage's are killed about half way, the run is resumed and ends. Every
    reply that was in the journal at the kill must be in the store at the end, and must not be asked again. What may be
    asked twice is what was in flight, and what the server had answered but the journal did not hold yet (at most
    50 ms).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import api_runs, machine
from benchmarks.api_server import Behaviour, Served, served
from localdistill import Workspace
from localdistill.core.records import Reply, Trace, Usage, trace_of
from localdistill.engines.openai_compatible import OpenAICompatibleEngine, OpenAICompatibleOptions
from localdistill.interchange.files import read_file
from localdistill.runs import control
from localdistill.safety.journal import read
from localdistill.stages.asking import Asker
from localdistill.store import Store
from localdistill.workspace.run_folder import RunFolder
from localdistill.workspace.terms import terms_of

NEW, TARGET_S = 200, 2.0
KILL_PROMPTS, KILL_WIDTH = 2000, 64


def filled(folder: Path, text: str, prompts: Path, count: int) -> None:
    """A workspace whose store holds an answer to each of the first `count` prompts."""
    recipe = api_runs.recipe_of(text)
    section = recipe.engines[0]
    engine = OpenAICompatibleEngine(OpenAICompatibleOptions.model_validate(section.options))
    terms = terms_of(section.use, section.options)
    store = Store(Workspace(folder).store_path)
    known = [item.prompt for _, item in read_file(prompts, None)][:count]
    store.add_prompts(known)

    def traces() -> Iterator[Trace]:
        asker = Asker(recipe.asked[0], engine, recipe.seed)
        for question in map(asker.question, known):
            request = question.requests[0]
            reply = Reply(request.id, "complete", answer="short", raw="{}", usage=Usage(20, 2))
            yield trace_of(reply, request, question.prompt, engine.name, engine.identity(), terms)

    store.add_traces(traces())


def first_request_s(server: Served, folder: Path, text: str) -> tuple[float, float]:
    """Seconds from the start of the stage's process to its first request, and its peak memory in MB."""
    server.seen(clear=True)
    _, used = api_runs.follow(lambda: api_runs.start(folder, text))
    seen = server.seen()
    assert sum(seen.asked.values()) == NEW, f"{sum(seen.asked.values())} requests instead of {NEW}"
    return seen.first_at - used.stage_started_at, used.peak_mb


def measure_start(server: Served, stored: int, repeats: int) -> None:
    """Print how soon a run that finds `stored` replies sends its first request."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = api_runs.write_prompts(folder / "q.jsonl", stored + NEW, chars=60)
        text = api_runs.recipe_text(prompts, server.url, "concurrency = 64")
        began = time.perf_counter()
        filled(folder / "full", text, prompts, stored)
        machine.say(f"a store with {stored} replies was filled in {time.perf_counter() - began:.1f} s")
        found = []
        for number in range(repeats):
            copy = folder / f"copy-{number}"
            shutil.copytree(folder / "full", copy)
            found.append(first_request_s(server, copy, text))
            shutil.rmtree(copy)
    times = [seconds for seconds, _ in found]
    median = statistics.median(times)
    machine.say(f"first new request {median:.2f} s after the start of the stage's process ({min(times):.2f} to "
                f"{max(times):.2f}), {max(mb for _, mb in found):.0f} MB; target {TARGET_S} s: "
                f"{'reached' if median <= TARGET_S else 'NOT reached'}")


def kill(run: RunFolder) -> None:
    """End the supervisor's process group and the stage's at once."""
    child, pid = api_runs.stage_process(run), run.status().data.get("pid")
    for victim in (pid, child.pid if child else None):
        if isinstance(victim, int):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(victim), signal.SIGKILL)
    while run.is_alive() or (child is not None and child.is_running() and child.status() != "zombie"):
        time.sleep(0.01)


def measure_kill(server: Served) -> tuple[int, int]:
    """Kill one run half way, resume it and print what became of it. Returns (lost, sent again without need)."""
    server.seen(clear=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prompts = api_runs.write_prompts(folder / "q.jsonl", KILL_PROMPTS, chars=60)
        question_of = {item.prompt.id: item.prompt.question for _, item in read_file(prompts, None)}
        text = api_runs.recipe_text(prompts, server.url, f"concurrency = {KILL_WIDTH}")
        run = api_runs.start(folder / "ws", text)
        while sum(server.seen().answered.values()) < KILL_PROMPTS / 2:
            time.sleep(0.02)
        kill(run)
        at_kill = server.seen()
        kept = {record["trace"]["id"]: record["trace"] for record, _ in read(run.journal)}
        workspace = Workspace(folder / "ws")
        status = control.wait(control.resume(workspace, run.id))
        assert status.state == "finished", f"the resumed run is {status.state}"
        store = Store(workspace.store_path)
        stored = {trace.id: trace.answer for trace in store.traces()}
        ids = list(run.ids("collect"))
    seen = server.seen()
    lost = sum(stored.get(key) != trace["answer"] for key, trace in kept.items())
    twice = {question for question, times in seen.asked.items() if times > 1}
    needless = len(twice & {question_of[trace["prompt_id"]] for trace in kept.values()})
    late = sum(at_kill.answered.values()) - len(kept)
    machine.say(f"  killed with {len(kept)} replies in the journal: {lost} of them lost, {needless} asked again; "
                f"{len(twice)} asked twice in all ({KILL_WIDTH} may be in flight, {max(0, late)} had been answered but "
                f"not journalled); {len(set(ids))} of {KILL_PROMPTS} at the end")
    return lost + KILL_PROMPTS - len(set(ids)), needless + max(0, len(twice) - KILL_WIDTH - max(0, late))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    machine.add_arguments(parser)
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    machine.describe(["aiohttp", "duckdb", "pyarrow"])
    machine.check_idle(given.busy)
    with served(Behaviour(latency_s=0.1)) as server:
        if given.stored:
            measure_start(server, given.stored, given.repeats)
        found = [measure_kill(server) for _ in range(given.kills)]
    if found:
        machine.say(f"{given.kills} kills: {sum(lost for lost, _ in found)} acknowledged replies lost, "
                    f"{sum(needless for _, needless in found)} sent again without need; target 0 and 0")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
