"""ARC: science questions of schools, three to five options each (arXiv 1803.05457); also OpenBookQA, whose rows are
alike. The file is the user's own copy, in the columns of its authors or in those of LLM-Adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.samples import TaskSample
from localdistill.tasks.choices import Choices, ChoiceTask
from localdistill.tasks.rows import ItemRow

_TOLD = re.compile(r"\s*Answer(\d):\s*")
_BEFORE = re.compile(r"^Please choose the correct answer to the question:\s*")
_BEHIND = re.compile(r"\s*Answer format:.*\Z", re.DOTALL)


class ArcTask(ChoiceTask):
    """The `arc` task."""

    name = "arc"
    is_guard = False

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"id": "1", "question": "Which is a fruit?", "answerKey": "2",
               "choices": {"text": ["stone", "plum", "cloud"], "label": ["1", "2", "3"]}}
        told = {"instruction": "Please choose the correct answer to the question: Which is a fruit?\n\nAnswer1: stone "
                               "Answer2: plum Answer3: cloud\n\nAnswer format: answer1/answer2/answer3",
                "input": "", "output": "the correct answer is answer2", "answer": "answer2"}
        stem = {"question": {"stem": "Which is a fruit?", "choices": [
            {"text": "stone", "label": "A"}, {"text": "plum", "label": "B"}, {"text": "cloud", "label": "C"}]},
                "answerKey": "B"}
        asked = "Which is a fruit?\n\nA. stone\nB. plum\nC. cloud"
        by = {"by": "likelihood", "of": "texts", "normalised": "length"}
        return (
            TaskSample([row], [asked], "The answer is (B).", "The answer is (C)."),
            TaskSample([told], [asked], "plum", "stone"),
            TaskSample([stem], [asked], (-5.0, -3.0, -5.0), (-4.0, -3.9, -5.0), options=by),
        )

    def choices(self, row: ItemRow) -> Choices:
        """Options and labels, of which `answerKey` is one; or options that are told behind the question."""
        if row.get("answerKey") is None:
            return _told(row)
        asked: Any = row.get("question")
        inner: Mapping[str, Any] = asked if isinstance(asked, Mapping) else {}
        asked, listed = inner.get("stem", asked), inner.get("choices", row.get("choices"))
        texts, labels = _listed(listed)
        key = row.text("answerKey").strip()
        if key not in labels or not isinstance(asked, str):
            raise row.error(f"'answerKey' {key} is the label of no option")
        return Choices(asked, texts, labels.index(key))


def _listed(listed: Any) -> tuple[list[str], list[str]]:
    """Texts and labels, as lists of their own or as one of objects."""
    if isinstance(listed, Mapping):
        return [*map(str, listed.get("text") or ())], [*map(str, listed.get("label") or ())]
    found = [one for one in listed or () if isinstance(one, Mapping)]
    return [str(one.get("text")) for one in found], [str(one.get("label")) for one in found]


def _told(row: ItemRow) -> Choices:
    question, *rest = _TOLD.split(_BEHIND.sub("", _BEFORE.sub("", row.text("instruction"))))
    key = row.text("answer").strip().lower().removeprefix("answer")
    if key not in rest[::2]:
        raise row.error(f"'answer' {key} is none of the options")
    return Choices(question, rest[1::2], rest[::2].index(key))
