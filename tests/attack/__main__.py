"""`python -m tests.attack`: thousands of faults, each of which must end as the same result, as a healed one that was
said, or as a named error. Prints a table by kind; exits 1 when one ended otherwise, with the command that repeats it.

    python -m tests.attack                        the whole attack
    python -m tests.attack --faults 400           a small one of every kind
    python -m tests.attack --kinds bits,cuts      some kinds
    python -m tests.attack --minutes 20           as many as can be done in that time; any part is like the whole
    python -m tests.attack --only bits:17         one case; prints what was told
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from tests.attack import shim
from tests.attack.crew import Case, Done, work
from tests.attack.kind import HOW
from tests.attack.kinds import KINDS, kind_called
from tests.attack.victim import Victim, usual_folder, victim_at

SEED = 1
MOST_SHOWN = 200


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def cases_of(names: Sequence[str], faults: int, seed: int) -> list[Case]:
    """So many cases in all, as the kinds share them, in an order in which every part is like the whole."""
    counts = {name: kind_called(name).faults for name in names}
    whole = sum(counts.values())
    wanted = {name: count if not faults else max(1, round(faults * count / whole)) for name, count in counts.items()}
    cases = [Case(name, number) for name, count in wanted.items() for number in range(count)]
    random.Random(seed).shuffle(cases)
    return cases


def usable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The kinds that can be done here, and those that cannot."""
    without = [name for name in names if kind_called(name).needs_failing_files and shim.library() is None]
    return [name for name in names if name not in without], without


def report(done: Sequence[Done], names: Sequence[str], began: float) -> str:
    """The table by kind."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    for one in done:
        counts[one.case.kind][one.ending.how] += 1
        seconds[one.case.kind] += one.seconds
    rows = [("kind", "injected", "same", "healed", "named error", "bad", "seconds each", "what is attacked")]
    for name in names:
        count, total = counts[name], counts[name].total()
        rows.append((name, f"{total:,}", *(f"{count[how]:,}" for how in HOW),
                     f"{seconds[name] / max(1, total):.2f}", kind_called(name).about))
    total = sum((counts[name] for name in names), Counter())
    rows.append(("all", f"{total.total():,}", *(f"{total[how]:,}" for how in HOW), "",
                 f"in {time.monotonic() - began:.0f} s"))
    widths = [max(len(row[place]) for row in rows) for place in range(7)]
    aligned = [[row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:7], widths[1:])), row[7]]
               for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in aligned)


def attack(victim: Victim, names: Sequence[str], cases: Sequence[Case], seed: int, workers: int,
           told: bool = False, minutes: float = math.inf) -> list[Done]:
    """Do the cases and say of each bad one how it is repeated."""
    ends_at = time.monotonic() + 60 * minutes
    folder, done = Path(tempfile.mkdtemp(prefix="attack-")), list[Done]()
    try:
        for one in work(victim, folder, seed, cases, workers, lambda: time.monotonic() > ends_at):
            done.append(one)
            if one.ending.how == "bad" or told:
                say(f"{one.ending.how.upper()}  {one.case.kind}:{one.case.number}  {one.ending.what}\n"
                    f"     {one.ending.said}\n     python -m tests.attack --seed {seed} --victim {victim.folder} "
                    f"--only {one.case.kind}:{one.case.number}")
            elif len(done) % 500 == 0:
                say(f"{len(done):,} of {len(cases):,}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 when anything ended badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--faults", type=int, default=0, help="so many in all; 0 does a whole attack")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin none after so many")
    parser.add_argument("--kinds", default=",".join(KINDS), help="names with commas between")
    parser.add_argument("--only", default="", help="KIND:NUMBER, one case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--victim", type=Path, default=None, help="where the attacked workspace is kept")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    names, without = usable([given.only.split(":")[0]] if given.only else given.kinds.split(","))
    cases = [Case(names[0], int(given.only.split(":")[1]))] if given.only else cases_of(names, given.faults, given.seed)
    folder = given.victim or usual_folder()
    is_needed = any(kind_called(name).needs_workspace for name in names)
    with victim_at(folder) if is_needed else nullcontext(Victim(folder, 0)) as victim:
        say(f"victim: {victim.folder}, seed {given.seed}, {len(cases):,} faults")
        done = attack(victim, names, cases, given.seed, 1 if given.only else given.workers, bool(given.only),
                      given.minutes)
    say(report(done, names, began))
    if len(done) < len(cases):
        say(f"ended after {given.minutes:g} minutes: {len(done):,} of {len(cases):,}")
    for name in without:
        say(f"left out: {name} needs Linux and a C compiler")
    return int(any(one.ending.how == "bad" for one in done))


if __name__ == "__main__":
    sys.exit(main())
