"""Random priced runs through the stages of a recipe: a teacher, a judge and a summarizer under one cap, on one provider
that fails, over several resumes. `priced_chain` plays them in this process, `killed_chain` as processes of their own
that are killed.

    outcome = priced_chain(seed, folder)
    assert not outcome.problems, outcome
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from localdistill import Store, Workspace, parse_recipe
from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, silent
from localdistill.spending.ledger import NANO
from localdistill.spending.reading import read_ledger
from localdistill.stages import collect, grade, rewrite, select
from localdistill.stages.context import StageContext
from localdistill.workspace.run_folder import RunFolder
from tests.faults import Rule, Script, Step, fault_server, spawn_fault_server
from tests.faults.priced import NANO_PER_TOKEN, OVERRUNS, Outcome, faults_of
from tests.helpers import wait_for, write_questions
from tests.toys import with_judge

Requests = Iterable[dict[str, Any]]
CLI = [sys.executable, "-c", "from localdistill.cli import main; main()"]
MAX_TOKENS = {"teacher": 200, "judge": 50, "summarizer": 300}


class PricedRecipe:
    """A random recipe with its prices and its cap, and what a provider plays to it."""

    def __init__(self, seed: int, folder: Path, judged: bool) -> None:
        self.rng = rng = random.Random(seed)
        self.prices = {name: (rng.randrange(1, 9), rng.randrange(1, 40)) for name in MAX_TOKENS}
        self.count = rng.randrange(8, 30)
        self.questions = write_questions(folder / "q.jsonl", self.count)
        worst = sum((600 * into + MAX_TOKENS[name] * out) for name, (into, out) in self.prices.items())
        self.cap_usd = worst * self.count * rng.choice((0.1, 0.3, 0.6)) * NANO_PER_TOKEN / NANO
        self.judged = judged

    def text(self, url: str) -> str:
        """The recipe."""
        grader = '[[grade]]\nuse = "toy_judge"\njudge = "judge"\nbatch = 4' if self.judged else (
            '[[grade]]\nuse = "exact"')
        return f'''
name = "priced"
max_usd = {self.cap_usd}
[prompts]
files = ["{self.questions}"]
{"".join(self._engine(name, url) for name in MAX_TOKENS)}
[traces]
said = {{ ask = "teacher", max_tokens = {MAX_TOKENS["teacher"]}, may_fail = 1.0 }}
short = {{ from = "said", rewrite = "summarize", summarizer = "summarizer", max_tokens = {MAX_TOKENS["summarizer"]} }}
{grader}
'''

    def _engine(self, name: str, url: str) -> str:
        rng, (into, out) = self.rng, self.prices[name]
        kind = rng.choice(('use = "openai_compatible"', 'use = "anthropic"\nprovider = ""'))
        return (f'[engine.{name}]\n{kind}\nbase_url = "{url}"\nmodel = "{name}"\nusd_per_million_input = {into}\n'
                f'usd_per_million_output = {out}\nretries = {rng.randrange(3)}\nbackoff_s = 0.002\npatience_s = 1\n'
                f'finish_s = 0.2\nidle_s = 0.2\nconcurrency = {rng.choice((0, 1, 8))}\n'
                f'stream = {str(rng.random() < 0.6).lower()}\n')

    def script(self) -> Script:
        """Faults for some of what is asked; what no limit binds is left out."""
        rng = self.rng
        known = {name: step for name, step in faults_of(rng, 30).items() if name not in OVERRUNS}
        wheres = [*(rf"(Double|Check) \d*{digit}\b.*" for digit in rng.sample(range(10), rng.randrange(1, 7))),
                  *([".*Summarize.*"] if rng.random() < 0.5 else [])]
        return Script(tuple(Rule(known[rng.choice(list(known))], question=where, per_question=True,
                                 times=rng.choice((1, 2))) for where in wheres), Step())

    def billed(self, requests: Requests) -> int:
        """What the provider charges, in nano-dollars."""
        return NANO_PER_TOKEN * sum(
            r["prompt_tokens"] * self.prices[r["body"]["model"]][0]
            + r["completion_tokens"] * self.prices[r["body"]["model"]][1]
            for r in requests if r["completion_tokens"])

    def hold(self, out: Outcome, requests: Requests, ledger: Path) -> None:
        """Hold what is billed against the cap and the ledger."""
        out.cap_nano, out.billed_nano = int(self.cap_usd * NANO), self.billed(requests)
        out.spent_nano = read_ledger(ledger).least
        if out.billed_nano > out.cap_nano:
            out.problems.append(f"over the cap: {out.billed_nano} of {out.cap_nano}")
        if out.spent_nano < out.billed_nano:
            out.problems.append(f"the ledger says too little: {out.spent_nano} of {out.billed_nano}")


def priced_chain(seed: int, folder: Path) -> Outcome:
    """Collect, grade, select and rewrite in this process, resumed some times; `folder` must be there."""
    made, out = PricedRecipe(seed, folder, judged=True), Outcome(seed, "honest")
    stages: tuple[Callable[[StageContext], None], ...] = (collect.run, grade.run, select.run, rewrite.run)
    with pytest.MonkeyPatch.context() as patch, fault_server(made.script()) as server:
        with_judge(patch)
        text, workspace = made.text(server.url), Workspace(folder / "workspace")
        recipe = parse_recipe(text)
        run = RunFolder.create(workspace.runs, recipe, text, {"base": str(folder), "stages": []})
        for _ in range(made.rng.choice((2, 3, 4))):
            due = len(server.requests) + made.rng.randrange(5, 120)
            context = StageContext(workspace, run, recipe, Store(workspace.store_path), silent,
                                   Cancel(lambda most=due: len(server.requests) >= most))
            for stage in stages:
                try:
                    stage(context)
                except LocalDistillError as problem:
                    out.faults[f"{stage.__module__.rsplit('.', 1)[1]}: {type(problem).__name__}"] += 1
                    break
            context.ledger.close()
            made.hold(out, [vars(seen) for seen in list(server.requests)], run.calls)
            if made.rng.random() < 0.3:
                made.cap_usd *= 1.5
                run.amend_request(max_usd=made.cap_usd)
    return out


def killed_chain(seed: int, folder: Path) -> Outcome:
    """The same recipe without its toy judge, run by the command line in processes that are killed, cancelled and
    resumed."""
    made, out = PricedRecipe(seed, folder, judged=False), Outcome(seed, "honest")
    with spawn_fault_server(made.script(), folder) as server:
        recipe, place = folder / "recipe.toml", folder / "workspace"
        recipe.write_text(made.text(server.url))
        words = ["rewrite", str(recipe)]
        for _ in range(made.rng.choice((2, 3))):
            due = len(server.requests()) + made.rng.randrange(1, 25)
            process = subprocess.Popen([*CLI, *words, "--workspace", str(place), "--json"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, cwd=folder)
            wait_for(lambda p=process, most=due: p.poll() is not None or len(server.requests()) >= most, 120)
            if process.poll() is None:
                out.faults["killed"] += 1
                _kill(process, place)
            else:
                out.faults[f"exit code {process.returncode}"] += 1
            (run,) = (place / "runs").glob("priced-*")
            made.hold(out, server.requests(), run / "calls.jsonl")
            words = ["resume", run.name]
    return out


def _kill(process: subprocess.Popen[bytes], workspace: Path) -> None:
    """SIGKILL for the command, the supervisor and the stage."""
    found = [p.pid for p in psutil.process_iter(["cmdline"]) if str(workspace) in " ".join(p.info["cmdline"] or ())]
    for pid in {process.pid, *found}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
                             for pid in found))


def main() -> None:
    """`python -m tests.faults.priced_chains chain|killed FIRST LAST`."""
    import tempfile

    play = {"chain": priced_chain, "killed": killed_chain}[sys.argv[1]]
    for seed in range(int(sys.argv[2]), int(sys.argv[3])):
        with tempfile.TemporaryDirectory() as folder:
            out = play(seed, Path(folder))
        sys.stdout.write(json.dumps({"seed": seed, "cap": out.cap_nano, "billed": out.billed_nano,
                                     "spent": out.spent_nano, **out.faults, "problems": out.problems}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
