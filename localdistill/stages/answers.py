"""What an artifact of answers holds: the results of every item, what made them, and how fast the replies came. Typed
here for whoever reads one; `benchmarking` makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localdistill.core.records import Reply
from localdistill.core.stored import Stored
from localdistill.scorecard import ItemResult
from localdistill.scorecard.card import items_from_text
from localdistill.workspace.folder import Artifact

ITEMS_FILE, SERVED_FILE = "items.jsonl", "served.json"


@dataclass(frozen=True)
class AnsweringPace:
    """How fast the replies of one measurement came, for plans: of those that were asked for at one go."""

    student: str
    """As the recipe names it."""
    task: str
    replies: int
    new_tokens: int
    elapsed_s: float
    """With the loading of the model and the grading."""

    @classmethod
    def of(cls, student: str, task: str, replies: Sequence[Reply], elapsed_s: float) -> AnsweringPace:
        """Of these replies."""
        return cls(student, task, len(replies), sum(reply.usage.completion_tokens or 0 for reply in replies), elapsed_s)


@dataclass(frozen=True)
class ServedAnswers(Stored):
    """What made the answers; kept beside the items as `served.json`."""

    served: Mapping[str, str]
    """Engine, arithmetic, how weights are held, template; empty where an older version wrote the answers."""
    pace: AnsweringPace | None = None
    """None where an older version did."""


def items_of(answers: Artifact) -> tuple[ItemResult, ...]:
    """The results that an artifact of answers holds. LocalDistillError when it holds something else."""
    return items_from_text(answers.file(ITEMS_FILE).read_text(), f"{ITEMS_FILE} of the answers {answers.digest}")


def served_of(answers: Artifact) -> ServedAnswers:
    """What made them. LocalDistillError when that is not what was written."""
    if SERVED_FILE not in answers.manifest["files"]:
        return ServedAnswers({})
    return ServedAnswers.from_bytes(answers.checked(SERVED_FILE).read_bytes(),
                                    f"{SERVED_FILE} of the answers {answers.digest}")
