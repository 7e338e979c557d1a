"""The datasets that the format stage of a run wrote, by their shape: how long their rows are against the student's
limit, and what had to be left out. It reads what is stored and judges nothing."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

from localdistill.core.errors import LocalDistillError, UsageError, nearest
from localdistill.core.explaining import reason_of
from localdistill.stages.outputs import DatasetFacts, FormatOutput, PartFacts, read_output
from localdistill.workspace.folder import Artifact, Workspace
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class DatasetShape:
    """One arm's dataset."""

    arm: str
    format: str
    """Name and version."""
    thinks: bool | None
    """None where some rows teach to think and some do not."""
    rewrite: str
    digest: str
    limit: int
    """Longest row that the student takes, in tokens; longer ones were left out."""
    lengths: array[int]
    """Tokens of every row, ascending."""
    trained_tokens: int
    left_out: Mapping[str, int]
    """Reason -> traces that this format could not serve."""
    prompts: int = 0
    """That its rows belong to; 0 where it was not counted."""
    several: int = 0
    """Prompts that have several rows, which count as one together."""
    wrong: int = 0
    """Rows of what not to do."""
    groups: int = 0
    """Groups of rows that training sees together."""
    parts: tuple[PartFacts, ...] = ()
    """Of an arm with several parts."""

    @property
    def median(self) -> int:
        """Tokens of the middle row."""
        return self.lengths[len(self.lengths) // 2] if self.lengths else 0

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return self.lengths[-1] if self.lengths else 0


def dataset_shapes(workspace: Workspace, run: RunFolder) -> list[DatasetShape]:
    """The datasets of `run`, one per arm. UsageError when the run has not come as far, LocalDistillError when a dataset
    is gone or not what was written."""
    student = run.recipe().student
    found = []
    for arm in read_output(run, FormatOutput).arms:
        artifact, facts = dataset_of(workspace, run, arm)
        found.append(DatasetShape(
            arm, facts.format, facts.thinks, facts.rewrite, artifact.digest,
            student.max_tokens if student else 0, _lengths(artifact.file("rows.parquet")), facts.trained_tokens,
            facts.left_out, facts.prompts, facts.several, facts.wrong, facts.groups,
            facts.parts))
    return found


def dataset_of(workspace: Workspace, run: RunFolder, arm: str) -> tuple[Artifact, DatasetFacts]:
    """The dataset of one arm of `run`, whose files are what was written. UsageError when the run has not come as far or
    made none for it, LocalDistillError when it is gone or damaged."""
    arms = read_output(run, FormatOutput).arms
    if arm not in arms:
        raise UsageError(f"run {run.id} made no dataset of an arm '{arm}'{nearest(arm, arms)}",
                         f"it made those of {', '.join(arms)}")
    artifact = workspace.find_artifact("dataset", arms[arm].dataset)
    why = "its folder is gone" if artifact is None else artifact.damage()
    if artifact is None or why:
        raise LocalDistillError(f"the dataset of arm {arm} cannot be shown: {why}",
                                f"localdistill resume {run.id} makes it again")
    return artifact, arms[arm].facts


def _lengths(path: object) -> array[int]:
    import pyarrow.compute as pc
    import pyarrow.parquet as parquet

    try:
        column = parquet.read_table(path, columns=["input_ids"]).column("input_ids")
    except (OSError, ValueError) as error:
        raise LocalDistillError(f"{path} cannot be read: {reason_of(error, 'it is damaged')}",
                                "remove its folder and resume the run") from None
    return array("q", sorted(pc.list_value_length(column).to_pylist()))
