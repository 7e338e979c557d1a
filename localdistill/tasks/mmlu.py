"""MMLU: knowledge of 57 subjects, four options each (arXiv 2009.03300); the subject is the category. The file is the
user's own copy, the rows of `test`; with those of `dev` as `examples` it is the usual five-shot form."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.samples import TaskSample
from localdistill.tasks.choices import LETTERS, Choices, ChoiceTask
from localdistill.tasks.rows import ItemRow


class MmluTask(ChoiceTask):
    """The `mmlu` task."""

    name = "mmlu"
    is_guard = True

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"question": "Which is a fruit?", "subject": "pantry", "choices": ["stone", "plum", "cloud", "jar"],
               "answer": "B"}
        asked = "Which is a fruit?\n\nA. stone\nB. plum\nC. cloud\nD. jar"
        likely, other = (-2.0, -1.0, -3.0, -4.0), (-1.0, -2.0, -3.0, -4.0)
        shown = {"examples": "dev.jsonl", "by": "likelihood", "of": "texts", "normalised": "length"}
        dev = '{"question": "Which has a lid?", "subject": "pantry", "choices": ["jar", "plum"], "answer": 0}\n'
        return (
            TaskSample([row], [asked], "It is a plum. The answer is (B).", "The answer is (A)."),
            TaskSample([row | {"answer": 1}], [asked], likely, other, options={"by": "likelihood"}),
            TaskSample([row], [asked], (-9.0, -3.0, -8.0, -9.0), likely[::-1], options=shown, files={"dev.jsonl": dev}),
            TaskSample([row], [asked], (likely, other), (likely, (-4.0, -0.1, -3.0, -4.0)),
                       options={"by": "likelihood", "normalised": "unconditional"}),
        )

    def choices(self, row: ItemRow) -> Choices:
        """`choices`, and the letter or the place of the right one in `answer`."""
        options, answer = row.get("choices", "options"), row.get("answer")
        if not isinstance(options, list):
            raise row.error("'choices' is no list")
        letter = str(answer).strip().upper()
        if letter not in LETTERS and not letter.isdigit():
            raise row.error("'answer' names no option")
        right = int(letter) if letter.isdigit() else LETTERS.index(letter)
        return Choices(row.text("question"), [str(one) for one in options], right, row.maybe("subject"))
