"""IFEval: instructions that a program can check (arXiv 2311.07911). The file is the user's own copy.

The score is the published prompt-level strict accuracy; the grader's metrics give the loose one, and how many of the
stated instructions were kept, whose ratio is the accuracy at the level of instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from localdistill.core.records import Prompt
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask


class IfEvalTask(FileTask):
    """The `ifeval` task."""

    name = "ifeval"
    grader = "instructions"
    is_guard = True
    layout = "ifeval"

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        rows: list[dict[str, object]] = [
            {"key": n, "prompt": f"Name {n} jars.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
            for n in (2, 3)]
        return (TaskSample(rows, ["Name 2 jars.", "Name 3 jars."], "Red and blue.", "Red, blue."),)

    def category(self, prompt: Prompt) -> str:
        """What its first instruction is about: `keywords`, `length_constraints` and so on."""
        constraints: Sequence[Mapping[str, object]] = prompt.metadata.get("constraints") or ({},)
        return str(constraints[0].get("kind", "")).partition(":")[0]
