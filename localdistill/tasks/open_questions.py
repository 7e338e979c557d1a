"""Open questions, where there is no one right answer: a judge compares each reply with the answer that the file has, as
little trusted as any (see the grader `judge`). The file is any that can be imported, with an answer to each
question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from localdistill.core.options import EngineName
from localdistill.core.records import Reply
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask, ItemSource


class OpenQuestionsTask(FileTask):
    """The `open_questions` task."""

    name = "open_questions"
    is_published = False
    grader = "judge"

    class Options(FileTask.Options):
        """Options of `open_questions`."""

        judge: EngineName = ""
        """The engine that compares, by its name in the recipe; a stronger model than the student, of another kind than
        its teacher."""
        against: Literal["original", "reference"] = "original"
        """What a reply is compared with: the response that the file has, for being at least as good; or its reference
        answer, for being right."""
        rule: str = ""
        """What else the judge is told to look at, in a sentence or two."""
        known: int = Field(default=20, ge=0, le=1000)
        """How many items with a known verdict the judge is tried on first; 0 trusts it untried."""
        is_guard: bool = True
        """Whether this task is outside the target, and must only not get worse."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"messages": [{"role": "user", "content": "Why do plums fall?"}], "original": "They are heavy."}
        better, worse = Reply("", "complete", answer="A"), Reply("", "complete", answer="B")
        return (TaskSample([row], ["Why do plums fall?"], "They are ripe.", "Why not?",
                           replies=(better, worse, worse, better), options={"known": 0, "judge": "j"}),)

    def __init__(self, options: Options, source: ItemSource | None = None) -> None:
        super().__init__(options, source)
        self.is_guard = options.is_guard
        self.grader_options = {"judge": options.judge, "against": options.against, "rule": options.rule,
                               "known": options.known}
