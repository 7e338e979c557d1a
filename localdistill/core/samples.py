"""What the members of every family say of themselves as examples: small inputs with what must come out, a frozen type
per family. A member's `samples()` returns them; one test runs those of every member through its door. Plain values
only: tensors, tables and files are made by whoever runs a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from localdistill.core.records import Candidate, Continuation, Message, Prompt, Reply, Status, Trace


def asks(question: str, reference: str | None = None, original: str | None = None,
         metadata: Mapping[str, object] | None = None) -> Prompt:
    """A prompt of one user turn."""
    return Prompt((Message("user", question),), reference, original, metadata=metadata or {})


def answers(prompt: Prompt, answer: str, reasoning: str = "", status: Status = "complete", *,
            id: str = "sample") -> Trace:
    """A trace that answers `prompt`."""
    return Trace(id, prompt.id, "replay", "sample", reasoning, answer, status,
                 trace_kind="raw" if reasoning else "none")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What all samples have."""

    options: Mapping[str, object] = field(default_factory=dict)
    """The member's options, as a recipe says them."""
    refused: str = ""
    """Part of the reason or error that must come instead of a result; empty when a result must come."""


@dataclass(frozen=True)
class AugmentationSample(Sample):
    """Prompts, what the engines reply, and the question that must come of them."""

    prompts: Sequence[Prompt]
    replies: Sequence[str]
    """In the order in which they are asked: the writer, then who checks. All of them are needed."""
    question: str = ""
    reference: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """Files in the folder that the options' file names start from: name to text."""


@dataclass(frozen=True)
class EngineSample(Sample):
    """A question and the reply that must come; of an engine that needs a model, what must be refused without one."""

    messages: tuple[Message, ...] = (Message("user", "What is 2 + 2?"),)
    files: Mapping[str, str] = field(default_factory=dict)
    """Files in the folder that the options' file names start from: name to text."""
    served: str = ""
    """The body with which a server on loopback answers; the engine's `base_url` is set to that server."""
    sent: Mapping[str, object] = field(default_factory=dict)
    """What the body that was sent must hold."""
    reply: Reply | None = None
    """What must come: status, reasoning, answer, kind of trace, usage and scores; None when it is `refused`."""
    costs: bool = False
    """What `who` must say of the options as they stand here."""
    continuations: tuple[Continuation, ...] = ()
    """What is to be scored behind the messages, where anything is."""
    top_logprobs: int = 0


@dataclass(frozen=True)
class ExporterSample(Sample):
    """A student and the files that must come of it."""

    config: Mapping[str, object] = field(default_factory=dict)
    """What differs from a small Llama in the student's config.json."""
    given: Sequence[str] = ()
    """Files that stand in the output folder before; NAME in them is the export's name."""
    made: Mapping[str, str] = field(default_factory=dict)
    """Files that must be written, and a text that each must hold."""


@dataclass(frozen=True)
class FilterSample(Sample):
    """Rows of traces and which of them stay."""

    rows: Sequence[Mapping[str, object]]
    """What matters here of the columns of `trace_view`; the others are those of a right and complete trace."""
    kept: Sequence[bool]
    items: Sequence[str] = ()
    """Questions of evaluation items, for a filter that compares with them."""
    golds: Sequence[str] = ()
    """Their reference answers."""


@dataclass(frozen=True)
class LaidText:
    """A turn to learn."""

    texts: Sequence[str]
    """Its spans, in order."""
    trained: Sequence[str] | None = None
    """Those of them whose tokens count; None is all."""
    sign: int = 1
    group: int = 0
    """The same number for those that are seen together; 0 stands by itself."""


@dataclass(frozen=True)
class FormatSample(Sample):
    """The traces of a prompt and the training text that they must become. Refused: what none of them can serve for."""

    prompt: Prompt
    candidates: Sequence[Candidate]
    examples: Sequence[LaidText] = ()
    """In order."""
    skipped: Sequence[str] = ()
    """Part of the reason for each trace that is in no example."""


@dataclass(frozen=True)
class GraderSample(Sample):
    """An answer and its score; `refused` is part of the reason of one that cannot be decided."""

    prompt: Prompt
    trace: Trace
    score: float | None
    """None when the prompt must be left to other graders, or it cannot be decided."""
    replies: Sequence[Reply] = ()
    """What the engines answer, in the order in which they are asked."""
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelSample(Sample):
    """Traces of one prompt and what is measured; every character is a token, and items of evaluations are none."""

    prompt: Prompt
    trace: Trace
    value: float | str | None
    """None when there is nothing to measure."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    more: Sequence[Trace] = ()
    """Further answers to the prompt, in the order of their sample index."""
    passed: Sequence[bool | None] = ()
    """Whether each was found right."""
    replies: Sequence[Reply] = ()
    """What the engines answer, in the order in which they are asked."""


@dataclass(frozen=True)
class LayoutSample(Sample):
    """A row and what must be read from it."""

    row: Mapping[str, object]
    prompt: Prompt
    answer: str | None = None
    """None when the row holds no answer of a model."""
    reasoning: str = ""


@dataclass(frozen=True)
class ObjectiveSample(Sample):
    """Log-probabilities at N trained positions of R rows, and their loss."""

    logprobs: Sequence[Sequence[float]]
    """(N, K)"""
    weights: Sequence[float]
    """(N,)"""
    rows: Sequence[int]
    """(N,): the row of each position, ascending."""
    signs: Sequence[int]
    """(R,): +1 right, -1 wrong."""
    groups: Sequence[int] = ()
    """(R,): the group of each row; empty where none belongs to one."""
    row_weights: Sequence[float] = ()
    """(R,): empty where all count alike."""
    tail: Sequence[float] = ()
    """(N,): the pseudo-tokens, where the objective needs them."""
    mean: Sequence[float] = ()
    stored: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """Column -> (N, K)."""
    loss: float = 0.0
    """Sum over the objective's units."""


@dataclass(frozen=True)
class RewriteSample(Sample):
    """A trace and the reasoning that must stand in its place."""

    prompt: Prompt
    trace: Trace
    reply: str | None = None
    """What the engine answers when it is asked; None when there is no engine."""
    reasoning: str = ""
    """Of the new trace, where it is kept; `refused` is the reason where it is not."""


Said = str | tuple[float, ...]
"""A reply: its text, or the log-probabilities of the continuations that were asked for."""


@dataclass(frozen=True)
class TaskSample(Sample):
    """Rows of a benchmark's file and how their items are scored."""

    rows: Sequence[Mapping[str, object]]
    questions: Sequence[str]
    """The questions of the items, in order."""
    right: Said | Sequence[Said]
    """An answer to the first item that must count: the same to all its requests, or one to each."""
    wrong: Said | Sequence[Said]
    """One that must not."""
    replies: Sequence[Reply] = ()
    """What the engines answer that the task's grader asks about the right answer, then about the wrong one."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files that the options name: name to text."""


@dataclass(frozen=True)
class TrainerSample(Sample):
    """Rows of a dataset and what training on them must come to; the student has at least 300 tokens, 256 to a text."""

    ids: Sequence[Sequence[int]]
    """Tokens of each row; -1 stands for the student's stop token."""
    weights: Sequence[Sequence[float]]
    steps: int = 0
    """How many optimizer steps must be taken."""
