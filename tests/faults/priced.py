"""Random priced runs: engines under one cap against a provider that fails in every way it can, cancelled, killed and
resumed, with the ledger of calls damaged between. What the provider bills is held against the cap.

    outcome = priced_run(seed, folder)
    assert not outcome.problems, outcome

A seed always asks the same of the same provider; only what overlaps in time may differ. `python -m tests.faults.priced
FIRST LAST` runs many and prints what they met.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from localdistill.core.errors import LocalDistillError, SpendingUnknown
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.safety.record_lines import decode
from localdistill.spending.ledger import NANO, SpendLedger
from localdistill.spending.reading import Book, read_ledger, state_spent
from localdistill.stages.asking import side_by_side
from tests.faults import BatchPlan, FaultServer, Recorded, Rule, Script, Step, fault_server
from tests.faults.asking import KINDS, Engine, engine_for

Honesty = Literal["honest", "ignores max_tokens", "ignores max_tokens at times"]
NANO_PER_TOKEN = 1000
"""At a dollar per million tokens."""
LONGEST = 400
"""Requests of one life: waiting for as long as a server asks has no end of its own."""
ERROR = '{"error": {"message": "the model went away", "type": "server_error", "code": %s}}'
HTML: dict[str, Any] = {"body": "<html>gateway</html>", "content_type": "text/html"}
RATE_LIMIT = '{"error": {"message": "Rate limit reached for requests", "type": "requests", "code": null}}'
BEGUN = '{"choices": [{"message": {"content": "It is"}}], "error": {"message": "a limit"}}'
OVERRUNS = ("too long", "too long, hidden", "too long, uncounted")
IN_BATCHES = ("5xx after generation", "refused at the door", "no usage", "nonsense for usage", "usage too low",
              *OVERRUNS)
DAMAGE = ("bit", "bit", "bit of its size", "cut", "line", "deleted", "size deleted", "both deleted")


def usage(prompt: Any, new: Any) -> dict[str, Any]:
    """Counts in the words of both forms."""
    return {"prompt_tokens": prompt, "completion_tokens": new, "input_tokens": prompt, "output_tokens": new}


def faults_of(rng: random.Random, max_tokens: int) -> dict[str, Step]:
    """One of each kind of fault; the model had written before most of them."""
    long = "word " * (max_tokens * rng.choice((2, 10)))
    return {
        "5xx after generation": Step(status=rng.choice((500, 502, 503, 504, 520)), billed=True,
                                     **rng.choice((HTML, {"body": ERROR % "null"}))),
        "429 after generation": Step(status=429, billed=True,
                                     **rng.choice((HTML, {"body": ERROR % "null"}, {"body": BEGUN}))),
        "408 after generation": Step(status=408, billed=True),
        "error in a 200": Step(body=ERROR % rng.choice((400, 404, 429, 500, 502, 503, 529)), billed=True),
        "error in a stream": Step(error_after=rng.randrange(1, 9)),
        "cut": Step(cut=rng.randrange(900), ending=rng.choice(("clean", "abrupt", "reset", "stall"))),
        "cut before the head": Step(wire=rng.choice(("", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-"))),
        "empty": Step(body="", billed=True),
        "no JSON": Step(billed=True, **HTML),
        "twice": Step(twice=True),
        "refused at the door": Step(status=rng.choice((400, 422))),
        "limited at the door": Step(status=429, headers={"Retry-After": "0.01"}, body=RATE_LIMIT),
        "no usage": Step(usage=None),
        "nonsense for usage": Step(usage=rng.choice((-1, "many", [1], usage(0, 0), usage(None, "7")))),
        "usage too low": Step(usage=usage(1, rng.choice((1, 2, 5, max_tokens // 3)))),
        "too long": Step(answer=long),
        "too long, hidden": Step(hidden_tokens=max_tokens * rng.choice((2, 10))),
        "too long, uncounted": Step(answer=long, usage=rng.choice((None, usage(1, 1)))),
    }


@dataclass(frozen=True)
class Asked:
    """One engine of a run, and what it asks."""

    name: str
    kind: str
    input: int
    output: int
    """Dollars per million tokens."""
    max_tokens: int
    questions: tuple[str, ...]
    options: dict[str, Any]

    def engine(self, url: str) -> Engine:
        """Built, impatient."""
        return engine_for(url, self.kind, model=self.name, usd_per_million_input=self.input,
                          usd_per_million_output=self.output, backoff_s=0.002, patience_s=2.0, finish_s=0.2,
                          idle_s=0.15, batch_poll_s=0.01, **self.options)

    def requests(self, done: set[tuple[str, str]]) -> Iterator[Request]:
        """What has no answer yet."""
        for question in self.questions:
            if (self.name, question) not in done:
                yield Request(question, (Message("user", question),), Sampling(max_tokens=self.max_tokens))

    def worst(self) -> int:
        """About the most that a call is told to cost, in nano-dollars."""
        return (400 * self.input + self.max_tokens * self.output) * NANO_PER_TOKEN

    def bill(self, seen: Recorded) -> int:
        """What the provider charges for a request."""
        return (seen.prompt_tokens * self.input + seen.completion_tokens * self.output) * NANO_PER_TOKEN

    def beyond(self, seen: Recorded) -> int:
        """The part of it that nobody asked for."""
        return max(0, seen.completion_tokens - self.max_tokens) * self.output * NANO_PER_TOKEN


@dataclass
class Outcome:
    """What came of one run."""

    seed: int
    honesty: Honesty
    cap_nano: int = 0
    billed_nano: int = 0
    """By the provider, in all."""
    spent_nano: int = 0
    """What the ledger counts as spent or reserved."""
    faults: Counter[str] = field(default_factory=Counter)
    """What was done to the run, by kind."""
    problems: list[str] = field(default_factory=list)
    """Promises that did not hold."""


class PricedRun:
    """One run, its provider, and its lives."""

    def __init__(self, seed: int, folder: Path, honesty: Honesty) -> None:
        self.rng, self.out = random.Random(seed), Outcome(seed, honesty)
        self.live, self.frozen = folder / "live", folder / "frozen"
        self.live.mkdir(parents=True)
        self.ledger_path = self.live / "calls.jsonl"
        self.max_tokens = self.rng.choice((20, 100, 500))
        self.asked = {f"m{place}": self._asked(f"m{place}") for place in range(self.rng.choice((1, 1, 2, 3)))}
        self.steps, self.script = self._script()
        whole = sum(len(one.questions) * one.worst() for one in self.asked.values())
        least = 2 * max(one.worst() for one in self.asked.values())
        self.cap_usd = max(whole * self.rng.choice((0.03, 0.1, 0.3, 1.0)), least) / NANO
        self.done: set[tuple[str, str]] = set()
        self.unseen = 0
        """Calls whose end nobody saw, in ledgers before this one."""
        self.server: FaultServer

    def _asked(self, name: str) -> Asked:
        rng = self.rng
        batch = rng.random() < 0.2 and self.out.honesty != "ignores max_tokens"
        options = {"retries": rng.randrange(4), "concurrency": rng.choice((0, 0, 1, 4, 32)), "batch": batch,
                   "stream": rng.random() < 0.6}
        questions = tuple(f"{'Please ' * rng.randrange(9)}Double {n}" for n in range(rng.randrange(10, 50)))
        return Asked(name, rng.choice(KINDS), rng.randrange(1, 9), rng.randrange(1, 40), self.max_tokens, questions,
                     options)

    def _script(self) -> tuple[dict[int, str], Script]:
        """Which last digit of a question meets which fault, and what the server plays."""
        rng, batched = self.rng, [one for one in self.asked.values() if one.options["batch"]]
        always = self.out.honesty == "ignores max_tokens"
        room = (self.max_tokens * rng.choice((2, 5)) if always else self.max_tokens) - 16
        used = rng.choice((room // 2, room)) if always else rng.choice((0, room // 2, room))
        known = faults_of(rng, self.max_tokens)
        shown = always or rng.random() < 0.5
        for name, step in known.items():
            if name not in OVERRUNS:  # what nobody shows or counts, nobody can know
                seen = shown or name == "usage too low"
                known[name] = replace(step, **({"answer": "word" * (used + 1)} if seen else {"hidden_tokens": used}))
        names = [name for name in known if self.out.honesty == "ignores max_tokens at times" or name not in OVERRUNS]
        if batched:
            names = [name for name in names if name in IN_BATCHES]
            known["5xx after generation"] = replace(known["no usage"], usage="auto", status=500, billed=True)
        if any(one.kind == "anthropic" for one in batched):
            names.remove("5xx after generation")  # this provider says that it does not bill what failed in a batch
        steps = {digit: rng.choice(names) for digit in rng.sample(range(10), rng.randrange(1, 8))}
        rules = tuple(Rule(known[name], question=f".*{digit}", per_question=True, times=rng.choice(
            (1, 2) if name == "limited at the door" else (1, 2, None))) for digit, name in steps.items())
        usual = replace(known["no usage"], usage="auto")
        return steps, Script(rules, usual, service_s=rng.choice((0, 0, 0.002)),
                             batch=BatchPlan(polls=rng.randrange(1, 4), doubled=("Double 7",)))

    # ---- lives

    def play(self) -> Outcome:
        """All lives of the run."""
        with fault_server(self.script) as self.server:
            for _ in range(self.rng.choice((1, 2, 3, 4))):
                self._live()
                self._hold()
                if self.rng.random() < 0.4:
                    self._damage(self.rng.choice(DAMAGE))
                if self.rng.random() < 0.2:
                    self.cap_usd *= 1.5
        for digit, name in self.steps.items():
            self.out.faults[name] += sum(r.question.endswith(str(digit)) for r in self.server.requests)
        return self.out

    def _live(self) -> None:
        """From a start to an end of its own, a cancel or a kill."""
        ending = self.rng.choice(("own", "cancelled", "killed"))
        self.out.faults[f"a life's end: {ending}"] += 1
        due = len(self.server.requests) + (LONGEST if ending == "own" else self.rng.randrange(1, 60))
        over, ledger = threading.Event(), SpendLedger(self.ledger_path, self.cap_usd, self._proof)

        def heard(seen: Recorded) -> None:
            if seen.number >= due and not over.is_set():
                if ending == "killed":
                    self._freeze(ledger)
                over.set()

        self.server.on_request = heard
        try:
            for name, reply in side_by_side([partial(self._answers, one, ledger, over.is_set)
                                             for one in self.asked.values()]):
                if reply.status != "error" and not self.frozen.exists():
                    self.done.add((name, reply.request_id))
        except LocalDistillError as problem:
            self.out.faults[type(problem).__name__] += 1
        ledger.close()
        if self.frozen.exists():
            shutil.rmtree(self.live)
            self.frozen.rename(self.live)
            self.server.is_gone = False

    def _answers(self, one: Asked, ledger: SpendLedger, is_over: Callable[[], bool],
                 stopped: Callable[[], bool]) -> Iterator[tuple[str, Reply]]:
        engine = one.engine(self.server.url)
        engine.ledger, engine.folder = ledger, self.live / "batches"
        try:
            for reply in engine.answer(one.requests(self.done), silent, Cancel(lambda: stopped() or is_over())):
                yield one.name, reply
        finally:
            engine.close()

    def _freeze(self, ledger: SpendLedger) -> None:
        """What a killed process leaves: its files as they are now, and nobody who asks any more."""
        with ledger._lock:
            self.server.is_gone = True
            shutil.copytree(self.live, self.frozen)

    def _damage(self, kind: str) -> None:
        """Spoil the ledger. What is not seen to be whole must count as the whole cap, and nothing may be asked until a
        person says what was spent; what is taken for whole must be."""
        self.out.faults[f"ledger: {kind}"] += 1
        damage(kind, self.ledger_path, self.rng)
        ledger, billed = SpendLedger(self.ledger_path, self.cap_usd, self._proof), self._known_bill()
        if ledger.spent_nano < min(billed, ledger.cap_nano or 0):
            self._broke(f"ledger: {kind}", f"{ledger.spent_nano} of {billed} are said to be spent")
        if ledger.problem:
            try:
                ledger.reserve(1)
                self._broke(f"ledger: {kind}", "a call was let through")
            except SpendingUnknown:
                pass
        ledger.close()
        book = read_ledger(self.ledger_path, self._proof)
        if book.least < billed and ("bit" in kind or not book.problem):
            self._broke(f"ledger: {kind}", f"{book.least} of {billed} are known")
        if book.problem:
            under_way = sum(sum(json.loads(path.read_text())["worst"]) for path in self.live.glob("batches/*.json"))
            self.unseen += _unseen(book)
            state_spent(self.ledger_path, (self._billed() + under_way) / NANO)

    # ---- promises

    def _proof(self) -> str:
        return "the provider has been asked" if self._billed() else ""

    def _bills(self) -> list[tuple[Asked, Recorded]]:
        return [(self.asked[r.body["model"]], r) for r in list(self.server.requests) if r.completion_tokens]

    def _billed(self) -> int:
        return sum(one.bill(seen) for one, seen in self._bills())

    def _known_bill(self) -> int:
        """What is billed, without what servers wrote beyond their limit and nobody saw."""
        accounts = read_ledger(self.ledger_path).entries.accounts
        learned = {name: next((account.excess for of, account in accounts.items() if of.endswith(f"/{name}")), 0)
                   for name in self.asked}
        return sum(one.bill(seen) - max(0, one.beyond(seen) - learned[one.name]) for one, seen in self._bills())

    def _hold(self) -> None:
        """Hold what is billed against the cap."""
        out, book = self.out, read_ledger(self.ledger_path)
        out.cap_nano, out.billed_nano, out.spent_nano = int(self.cap_usd * NANO), self._billed(), book.least
        beyond = max((one.beyond(seen) for one, seen in self._bills()), default=0)
        beyond *= 1 + self.unseen + _unseen(book)
        known = self._known_bill()
        if out.spent_nano < known:
            self._broke("the ledger says too little", f"{out.spent_nano} of {out.billed_nano}")
        if out.honesty != "ignores max_tokens at times" and known > out.cap_nano + beyond:
            self._broke("over the cap", f"{out.billed_nano} of {out.cap_nano}, and {beyond} beyond max_tokens")
        lines = [decode(line) or {} for line in self.ledger_path.read_bytes().splitlines()]
        if any("reserved" in line and line["total"] > out.cap_nano for line in lines):
            self._broke("over the cap", "a call was sent that had no room")

    def _broke(self, promise: str, how: str) -> None:
        self.out.problems.append(f"{promise}: {how}")


def _unseen(book: Book) -> int:
    return sum(account.calls for account in book.entries.accounts.values())


def damage(kind: str, path: Path, rng: random.Random) -> None:
    """Spoil the ledger at `path` in one of the ways of DAMAGE."""
    side = path.with_name(f"{path.name}.size")
    if kind.startswith("bit"):
        target = side if kind == "bit of its size" else path
        data = bytearray(target.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        target.write_bytes(data)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    elif kind == "line":
        lines = path.read_bytes().splitlines(keepends=True)
        del lines[rng.randrange(len(lines))]
        path.write_bytes(b"".join(lines))
    if kind in ("deleted", "both deleted"):
        path.unlink()
    if kind in ("size deleted", "both deleted"):
        side.unlink()


def honesty_of(seed: int) -> Honesty:
    """Every other run has a provider that keeps to its limits."""
    ways: tuple[Honesty, ...] = ("honest", "ignores max_tokens at times", "honest", "ignores max_tokens")
    return ways[seed % len(ways)]


def priced_run(seed: int, folder: Path) -> Outcome:
    """One random run with its files in `folder`, which is made."""
    from localdistill.engines.wire.batch import answering, protocols

    slack, protocols._SLACK_S = protocols._SLACK_S, 1e9  # the provider's clock stands still
    pause, answering._JOURNALLED_S = answering._JOURNALLED_S, 0.0  # and nobody writes a journal
    try:
        return PricedRun(seed, folder, honesty_of(seed)).play()
    finally:
        protocols._SLACK_S, answering._JOURNALLED_S = slack, pause


def main() -> None:
    """Runs from the first to the last seed, and a table of what they met."""
    met, broken = Counter[str](), 0
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        with tempfile.TemporaryDirectory() as folder:
            out = priced_run(seed, Path(folder) / "run")
        met += out.faults
        broken += bool(out.problems)
        for problem in out.problems:
            sys.stdout.write(f"{seed} ({out.honesty}): {problem}\n")
    sys.stdout.writelines(f"{count:7,}  {name}\n" for name, count in sorted(met.items()))
    sys.stdout.write(f"{broken} runs broke a promise\n")


if __name__ == "__main__":
    main()
