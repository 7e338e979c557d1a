"""GPQA: questions for experts that the web does not answer (arXiv 2311.12022), four options each. The file is the
user's own copy (`gpqa_diamond.csv`): its authors ask that no question is put online, so keep it out of what you share.

The right option stands first in the file, so the options are mixed by the seed `order`, and the right one is at each of
the four places equally often.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from localdistill.core.samples import TaskSample
from localdistill.tasks.choices import Choices, ChoiceTask
from localdistill.tasks.rows import ItemRow


class GpqaTask(ChoiceTask):
    """The `gpqa` task."""

    name = "gpqa"
    is_guard = False

    class Options(ChoiceTask.Options):
        """Options of `gpqa`."""

        order: int = Field(0, ge=0)
        """Seed of the order of the options, the right one at every place equally often."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"Question": "Which number is prime?", "Correct Answer": "97", "Incorrect Answer 1": "91",
               "Incorrect Answer 2": "93", "Incorrect Answer 3": "95", "High-level domain": "Mathematics"}
        asked = "Which number is prime?\n\nA. {}\nB. {}\nC. {}\nD. {}"
        return (
            TaskSample([row], [asked.format("97", "91", "95", "93")], "The answer is (A).", "The answer is (B)."),
            TaskSample([row], [asked.format("91", "97", "93", "95")], (-2.0, -1.0, -2.0, -2.0),
                       (-1.0, -2.0, -2.0, -2.0), options={"order": 1, "by": "likelihood"}),
        )

    def choices(self, row: ItemRow) -> Choices:
        """The right option and the three wrong ones, each in a column of its own."""
        wrong = [row.text(f"Incorrect Answer {number}").strip() for number in (1, 2, 3)]
        return Choices(row.text("Question"), [row.text("Correct Answer").strip(), *wrong], 0,
                       row.maybe("High-level domain"))
