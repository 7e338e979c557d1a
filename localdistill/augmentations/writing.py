"""What augmentations share: the options, the question to the writer with a seed in it, the draft that its reply
becomes, and the checks by solver and judge."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import Field

from localdistill.augmentations.base import PromptDraft
from localdistill.augmentations.checking import GATES, Gate, agrees, solved, through_gates
from localdistill.augmentations.comparing import marked, why_no_question
from localdistill.core.events import Emit, silent
from localdistill.core.means import PART, Means, Need
from localdistill.core.options import EngineName
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Message, Prompt, Request, Sampling


class WriterOptions(BaseOptions):
    """Who writes, how many, and what a question must pass."""

    writer: EngineName = ""
    """The engine that writes; empty takes the recipe's first."""
    solver: EngineName = ""
    """The engine that answers a new question to check it; empty takes the recipe's first."""
    judge: EngineName = ""
    """The engine that looks whether a new question is valid; empty takes the recipe's first."""
    count: int = Field(1, ge=1, le=64)
    """Questions asked of the writer for each prompt or piece of a document."""
    tries: int = Field(0, ge=0, le=16)
    """Answers asked of the solver per new question: most must be the reference. 0 asks none, and believes it."""
    gates: tuple[Gate, ...] = tuple(GATES)
    """What the judge looks at, one question each, until one fails: `question` (nothing but a question), `language`,
    `facts` (each possible), `consistent` (no contradiction), `complete` (enough to answer). Empty asks no judge."""
    votes: int = Field(1, ge=1, le=15)
    """Verdicts asked of the judge at each gate; most of them must be a yes."""
    temperature: float = Field(0.7, ge=0.0, le=5.0)
    """Of the writer; 0 is greedy and writes the same `count` times."""
    max_tokens: int = Field(1024, ge=1)
    """Upper limit of new tokens in one reply of writer, solver or judge, reasoning included."""
    seed: int = 0
    """Seed of the writer's sampler; the number of the question is added."""


@dataclass(frozen=True)
class Seed:
    """What the writer is shown once."""

    text: str
    """The question to it."""
    made_from: tuple[str, ...]
    parent: Prompt | None = None
    document: str = ""
    """Name of the document, where it is shown a piece of one."""
    chunk: int = 0
    """Which piece, from 1."""
    has_answer: bool = False
    """The writer is asked for an answer, too, though it may be none that is believed."""


class Writes:
    """What members have in common. A member says what the writer is shown (`seeds`) and what becomes of the question
    and the answer that it wrote (`read`)."""

    version: ClassVar[int] = 1
    wording: ClassVar[int] = 1
    reads: ClassVar[Literal["prompts", "documents"]] = "prompts"
    needs: ClassVar[frozenset[Need]] = frozenset()
    Options: ClassVar[type[WriterOptions]] = WriterOptions

    def __init__(self, options: WriterOptions) -> None:
        self.options = options

    @abstractmethod
    def seeds(self, prompts: Sequence[Prompt], emit: Emit) -> Iterator[Seed]:
        """What the writer is shown, in order."""

    @abstractmethod
    def read(self, seed: Seed, question: str, answer: str) -> Prompt | str:
        """The new prompt of what was written; or why it is none, which may not depend on the texts."""

    def most(self, prompts: Sequence[Prompt]) -> int:
        """See Augmentation."""
        return sum(1 for _ in self.seeds(prompts, silent)) * self.options.count

    def drafts(self, prompts: Sequence[Prompt], means: Means) -> Iterator[PromptDraft]:
        """See Augmentation."""
        options = self.options
        sampling = Sampling(options.max_tokens, options.temperature, seed=options.seed)
        asked: list[Seed] = []

        def questions() -> Iterator[Request]:
            for seed in self.seeds(prompts, means.emit):
                for number in range(options.count):
                    asked.append(seed)
                    key = f"{seed.made_from[0]}{PART}{len(asked) - 1}"
                    yield Request(key, (Message("user", seed.text),), sampling, number)

        for reply in means.ask["writer"](questions()):
            place = int(reply.request_id.rpartition(PART)[2])
            seed = asked[place]
            made: Prompt | str = f"the writer's reply is {reply.status}"
            if reply.status == "complete":
                said = marked(reply.answer)
                made = why_no_question(said.get("question", "")) or self.read(
                    seed, said["question"], said.get("answer", ""))
            is_made = isinstance(made, Prompt)
            yield PromptDraft(place, seed.made_from, made if isinstance(made, Prompt) else None,
                        "" if is_made else str(made), parent=seed.parent)

    def check(self, drafts: Sequence[PromptDraft], means: Means) -> Iterator[PromptDraft]:
        """See Augmentation: first the answers, then the gates."""
        options, left = self.options, []
        for draft in self.check_answers(drafts, means):
            if draft.refused:
                yield draft
            else:
                left.append(draft)
        if options.gates:
            yield from through_gates(left, options.gates, means.ask["judge"], options.votes, options.max_tokens)
        else:
            yield from left

    def check_answers(self, drafts: Sequence[PromptDraft], means: Means) -> Iterator[PromptDraft]:
        """Most of the solver's answers are the reference, where there is one."""
        options = self.options
        asked = {place: draft.prompt for place, draft in enumerate(drafts)
                 if options.tries and draft.prompt is not None and draft.prompt.reference is not None}
        yield from (draft for place, draft in enumerate(drafts) if place not in asked)
        for place, answers in solved(
                asked, lambda place: drafts[place].made_from[0], means.ask["solver"], options.tries,
                options.max_tokens).items():
            is_right = agrees(answers, asked[place].reference or "")
            yield (replace(drafts[place], checked=(*drafts[place].checked, "solved")) if is_right else
                   replace(drafts[place], refused="the solver's answers are not the one that is claimed"))


def asking_instead(prompt: Prompt, question: str, reference: str | None) -> Prompt:
    """`prompt` with another last question; what came beside the old one, tests and an original answer, goes."""
    last = max(place for place, message in enumerate(prompt.messages) if message.role == "user")
    return replace(prompt, messages=(*prompt.messages[:last], Message("user", question)), reference=reference,
                   tests=None, original=None)
