"""Tuning beside a full grid: is the learning rate that `localdistill tune` chooses as good as the best of a grid,
within the noise of the seeds?

    python -m benchmarks.tuning [--seeds 3] [--prompts 2000] [--items 300] [--minutes 20] [--keep FOLDER]

On the pantry world, one arm. The tuning sees the rows and development items only; then the student is trained with what
it chose, and with every rate of a grid over two decades and a half, so many seeds each, and all are scored on the same
items, which neither saw. What a rate is worth is its mean over the seeds. Figures are scores: a busy machine makes the
tuning's tries fewer or shorter, and nothing else worse.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from statistics import fmean, variance

from benchmarks import machine
from localdistill import Workspace, parse_recipe, score_card, start, tuning_of, tuning_to_text, wait

RECIPE = """
name = "tuning"
[prompts]
files = ["shipped:pantry/prompts.jsonl"]
limit = {prompts}
holdout = {{ dev = {dev} }}
[teacher]
use = "llama_cpp"
model = "shipped:pantry/teacher.gguf"
[collect]
max_tokens = 320
[[grade]]
use = "exact"
[[filter]]
use = "verified"
[student]
model = "shipped:pantry/student"
max_tokens = 512
[arm.answer_only]
format = "answer_only"
[train]
use = "torch_lora"
rank = 64
epochs = 2
learning_rate = {rate}
seeds = {seeds}
{tune}
[evaluate]
max_tokens = 40
[[evaluate.task]]
use = "pantry"
limit = {items}
"""
TUNE = "[train.tune]\nminutes = {minutes}\n[train.dev]\nmax_tokens = 40\nevery_steps = 100000\n"
GRID = tuple(float(f"{1e-4 * 10 ** (step / 2):.1e}") for step in range(6))
"""From 1e-4 to 3.2e-2."""


def scores(workspace: Workspace, text: str) -> tuple[str, tuple[float, ...]]:
    """Run it; its id, and the score of every seed."""
    folder = start(workspace, parse_recipe(text), text, Path.cwd(), "evaluate")
    status = wait(folder)
    if status.state != "finished":
        raise SystemExit(f"run {folder.id} is {status.state}: {status.data.get('message', '')}")
    (card,) = score_card(workspace, folder.id).cards
    return folder.id, next(row.seed_scores for row in card.rows if row.name != card.base)


def noise(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The difference of two means that seeds alone make in 19 of 20 cases, about: twice its standard error."""
    return 2 * math.sqrt((variance(one) + variance(other)) / len(one))


def main() -> None:
    """Tune, then train the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    parser.add_argument("--keep", type=Path, help="the workspace; a run that was broken off goes on there")
    given = parser.parse_args()
    if given.seeds < 2:
        raise SystemExit("two seeds at least: without them nobody knows the noise")
    machine.describe(["torch", "peft", "llama_cpp_python"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(given.keep or Path(folder))
        said = {"prompts": given.prompts, "items": given.items, "seeds": given.seeds, "dev": 64 / given.prompts}
        run, tuned = scores(workspace, RECIPE.format(rate='"tuned"', tune=TUNE.format(minutes=given.minutes), **said))
        found = tuning_of(workspace, run)
        machine.say(tuning_to_text(found))
        grid = {rate: scores(workspace, RECIPE.format(rate=rate, tune="", **said))[1] for rate in GRID}
    rows = [*(("grid ", rate, values) for rate, values in grid.items()), ("tuned", found.chosen.learning_rate, tuned)]
    for name, rate, values in rows:
        each = ", ".join(f"{value:.3f}" for value in values)
        machine.say(f"  {name} {rate:.1e}: {100 * fmean(values):5.1f} %  ({each})")
    best = max(grid, key=lambda rate: fmean(grid[rate]))
    behind, spread = fmean(grid[best]) - fmean(tuned), noise(grid[best], tuned)
    machine.say(f"best of the grid {best:.1e}; the tuned rate is {100 * behind:.1f} points behind it, the seeds' noise "
                f"is {100 * spread:.1f}: {'within' if behind <= spread else 'NOT within'} the noise")
    machine.say(json.dumps({"tuned": found.chosen.learning_rate, "best": best, "behind": behind, "noise": spread,
                            "seeds": given.seeds, "tries": len(found.tries), "seconds": round(found.seconds)}))
    machine.check_idle(True)


if __name__ == "__main__":
    main()
