"""The process that attacks: takes cases as lines, does each on ground of its own, and answers with lines. It may die of
a case: whoever started it notices, and starts another. `python -m tests.attack.worker VICTIM PORT FOLDER`."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import IO

from localdistill.keys.access import CONFIG_ENV
from localdistill.runs.device_queue import STATE_ENV
from tests.attack.ground import Ground
from tests.attack.judging import of_error
from tests.attack.kind import Ending
from tests.attack.kinds import kind_called
from tests.attack.teacher import KEY_VARIABLE
from tests.attack.victim import Victim


def chance_of(seed: int, kind: str, number: int) -> random.Random:
    """The chance of one case, the same wherever it is done."""
    return random.Random(f"{seed} {kind} {number}")


def attack(ground: Ground, seed: int, name: str, number: int) -> Ending:
    """Do one case; what escapes it is a bad ending."""
    kind = kind_called(name)
    try:
        return kind.attack(ground, chance_of(seed, name, number), number)
    except Exception as error:
        how, said = of_error("the attack", error)
        return Ending("bad", f"number {number}", said if how == "bad" else f"the kind did not expect this: {said}")


def main() -> None:
    """Take cases until there are none."""
    folder = Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    cases, answers = _own_pipes(folder / "output.txt")
    key = f"{folder.parent.name}-{folder.name}"
    os.environ.update({KEY_VARIABLE: key, CONFIG_ENV: str(folder / "config"), STATE_ENV: str(folder / "state"),
                       "NO_COLOR": "1", "COLUMNS": "200"})
    ground = Ground(Victim(Path(sys.argv[1]), int(sys.argv[2])), folder, key)
    for line in cases:
        case = json.loads(line)
        began = time.monotonic()
        ending = attack(ground, case["seed"], case["kind"], case["number"])
        answers.write(json.dumps({"how": ending.how, "what": ending.what, "said": ending.said,
                                  "seconds": round(time.monotonic() - began, 3)}) + "\n")
        answers.flush()


def _own_pipes(log_path: Path) -> tuple[IO[str], IO[str]]:
    """The pipes of cases and of answers. From here on whoever reads standard input finds its end, and what anybody
    prints goes to `log_path`: commands take the standard streams for their own."""
    cases, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    with open(os.devnull, "rb") as nothing, open(log_path, "ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    return cases, answers


if __name__ == "__main__":
    main()
