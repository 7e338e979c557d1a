"""How the learning rate of a run was found: every try, what was kept, and what did not fit into the time."""

from __future__ import annotations

from collections.abc import Iterator

from localdistill.scorecard.paper import table, wrapped
from localdistill.stages.outputs import TuneOutput, read_output
from localdistill.stages.tuning import TuningResult
from localdistill.workspace.folder import Workspace
from localdistill.workspace.run_folder import RunFolder

HEAD = ("rung", "rate", "rank", "epochs", "steps", "loss", "score", "took", "")


def tuning_of(workspace: Workspace, run: str = "last") -> TuningResult:
    """What the tuning of the run `run` came to. UsageError when it has none, LocalDistillError when that is damaged."""
    return read_output(RunFolder.open(workspace.runs, run), TuneOutput).result


def tuning_to_text(result: TuningResult) -> str:
    """The table of all tries, with how it came about, as plain text."""
    lines = [*table(HEAD, list(tuning_rows(result))), ""] if result.tries else []
    told = (*result.notes, result.line)
    return "\n".join(line.rstrip() for line in [*lines, *(row for text in told for row in wrapped(text))]) + "\n"


def tuning_rows(result: TuningResult) -> Iterator[tuple[str, ...]]:
    """The tries, rung by rung, the best first, under the columns of `HEAD`."""
    last = max((one.rung for one in result.tries), default=0)
    for one in result.tries:
        became = "went astray" if one.astray else "dropped" if not one.kept else (
            "chosen" if one.rung == last else "kept")
        yield (str(one.rung), f"{one.setting.learning_rate:.1e}", str(one.setting.rank), f"{one.setting.epochs:g}",
               f"{one.steps:,}", "-" if one.loss is None else f"{one.loss:.4f}",
               "-" if one.score is None else f"{100 * one.score:.1f} %", f"{one.seconds:.1f} s", became)
