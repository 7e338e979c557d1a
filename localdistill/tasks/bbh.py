"""BIG-Bench Hard: 27 kinds of puzzles (arXiv 2210.09261), each a category. The path is the folder of the 27 files
(`boolean_expressions.json` ...), or one of them; keep its canary out of training rows.

What counts is the published rule: the text behind the last "So the answer is", without a full stop at its end, equal to
the target. `reads = "anywhere"` looks for an answer in other words too. With `shots`, worked examples of the item's own
kind come before it, as in the published figures; those that ship are ours, three of each kind.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field

from localdistill.core.errors import InputError
from localdistill.core.options import FileName
from localdistill.core.records import Message, Prompt
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask, ItemSource
from localdistill.tasks.rows import ItemRow, RowTask, rows_in

_LETTER, _YES_OR_NO = "the letter of the right option in parentheses, as in (B)", "Yes or No"
_FORMS: Mapping[str, str] = {
    "boolean_expressions": "True or False", "causal_judgement": _YES_OR_NO, "date_understanding": _LETTER,
    "disambiguation_qa": _LETTER, "dyck_languages": "the brackets that are missing, with a space between each",
    "formal_fallacies": "valid or invalid", "geometric_shapes": _LETTER, "hyperbaton": _LETTER,
    "logical_deduction_five_objects": _LETTER, "logical_deduction_seven_objects": _LETTER,
    "logical_deduction_three_objects": _LETTER, "movie_recommendation": _LETTER,
    "multistep_arithmetic_two": "a number", "navigate": _YES_OR_NO, "object_counting": "a number",
    "penguins_in_a_table": _LETTER, "reasoning_about_colored_objects": _LETTER, "ruin_names": _LETTER,
    "salient_translation_error_detection": _LETTER, "snarks": _LETTER, "sports_understanding": "yes or no",
    "temporal_sequences": _LETTER, "tracking_shuffled_objects_five_objects": _LETTER,
    "tracking_shuffled_objects_seven_objects": _LETTER, "tracking_shuffled_objects_three_objects": _LETTER,
    "web_of_lies": _YES_OR_NO, "word_sorting": "the words in order, with a space between each",
}
"""Kind of puzzle -> the form of its answer."""
SAID = "So the answer is"


class BbhTask(RowTask):
    """The `bbh` task."""

    name = "bbh"
    is_guard = False

    class Options(FileTask.Options):
        """Options of `bbh`."""

        path: FileName
        """The folder of the benchmark's 27 files, or one of them."""
        reads: Literal["stated", "anywhere"] = "stated"
        """`stated`: the answer must stand behind "So the answer is", as in the published figures. `anywhere`: it may be
        stated in other words, and capital letters do not matter."""
        shots: int = Field(0, ge=0)
        """How many worked examples of its own kind are shown before an item; the published figures have 3."""
        examples: FileName = "shipped:bbh/examples.jsonl"
        """File of worked examples: `kind`, `input`, `worked` (the thinking) and `target`. The default ships."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"input": "True and not False is", "target": "True"}
        shown = {"shots": 1, "examples": "own.jsonl"}
        pick = {"input": "Which is a fruit?\nOptions:\n(A) stone\n(B) plum", "target": "(B)"}
        return (
            TaskSample([row], [row["input"]], "Not false is true. So the answer is True.", "It is True."),
            TaskSample([row], [row["input"]], "I think the answer is true.", "False", options={"reads": "anywhere"}),
            TaskSample([pick], [pick["input"]], "It must be the plum.", "(A)", options={"reads": "anywhere"}),
            TaskSample([row], [row["input"]], "So the answer is True.", "True", options=shown,
                       files={"own.jsonl": json.dumps({"kind": "items", "input": "not True is", "target": "False"})}),
        )

    def __init__(self, options: Options, source: ItemSource | None = None) -> None:
        super().__init__(options, source)
        self.grader, self.grader_options = "exact", {"after": SAID, "ignore_case": False}
        if options.reads == "anywhere":
            stated = {"use": "exact", "options": {"after": SAID}}
            self.grader, self.grader_options = "combined", {"of": [stated, "choice", "exact"], "rule": "any"}

    def turns(self, prompt: Prompt) -> tuple[Message, ...]:
        """The examples of its kind, each with its worked answer, then the item."""
        assert isinstance(self.options, BbhTask.Options)
        ask, turns = super().turns, list[Message]()
        for one in self._shown(prompt)[:self.options.shots] if self.options.shots else ():
            turns += (*ask(one), Message("assistant", str(one.original)))
        return (*turns, *ask(prompt))

    def _shown(self, prompt: Prompt) -> Sequence[Prompt]:
        """Worked examples for an item, which is not among them. InputError without any."""
        kind = self.category(prompt)
        alike = [one for one in self._examples if self.category(one) == kind and one.question != prompt.question]
        if not alike:
            raise InputError(f"there is no worked example of '{kind}'",
                             "give a file of your own as `examples`, whose rows say this `kind`, or leave out `shots`")
        return alike

    @cached_property
    def _examples(self) -> Sequence[Prompt]:
        assert isinstance(self.options, BbhTask.Options)
        found = []
        for row in rows_in(self.source, self.placed(self.options.examples)):
            target, worked = row.text("target"), row.maybe("worked")
            found.append(row.prompt(row.text("input"), target, f"{worked} {SAID} {target}.".strip(),
                                    category=row.text("kind")))
        return found

    def behind(self, prompt: Prompt) -> str:
        """That it is to think, and in which form it is to say the answer."""
        form = _FORMS.get(self.category(prompt), "the answer")
        return f"Think step by step. End with the sentence \"{SAID} ...\", where the dots are {form}."

    def item(self, row: ItemRow) -> Prompt:
        """A puzzle and its target; the kind is the name of the file."""
        return row.prompt(row.text("input"), row.text("target"), category=Path(row.file).stem)

    def files(self) -> Iterator[Path]:
        """One file; or those of a folder that are named like a kind of puzzle, by name. InputError without any."""
        if not self.path.is_dir():
            yield self.path
            return
        found = sorted(path for path in self.path.iterdir() if path.is_file() and path.name.split(".")[0] in _FORMS)
        if not found:
            raise InputError(f"{self.path} holds none of the 27 files of BIG-Bench Hard",
                             f"they are named {next(iter(_FORMS))}.json and so on")
        yield from found
