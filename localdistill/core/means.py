"""What a stage hands to a member that looks at traces, so that no member opens an engine, a tokenizer or a file of
items itself, and none is asked by `hasattr` what it could use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from localdistill.core.events import Cancel, Emit, silent
from localdistill.core.records import Reply, Request, TokenCounter

Ask = Callable[[Iterable[Request]], Iterator[Reply]]
"""Requests in, under ids of the member's own choice that are unique within the call; replies out under the same ids, in
any order. The requests are pulled lazily, some of them ahead: none may wait for a reply of the same call. A reply is
paid for, kept and known by its content and attempt (`sample_index`) before the member sees it; what is known is not
asked again. A reply with the status `error` is not handed on: it is counted, and asked for again by a resume."""

PART = "#"
"""Stands in the id of a request behind the id of what it is about, where a member asks several questions about one
trace or prompt: forgetting that finds the replies by it."""

Need = Literal["tokens", "items", "verdicts", "others"]
"""What a member says that it needs: the student's tokens, the questions of evaluation items, what the graders decided,
all the other traces at once.
Which engines it needs is said by its options of the type `EngineName`."""


def _nobody_decided(trace_id: str) -> bool | None:
    """Without graders nothing is decided."""
    return None


@dataclass(frozen=True)
class Means:
    """What a member may use beside its options."""

    ask: Mapping[str, Ask] = field(default_factory=dict)
    """The engines, by the name of the option that names them."""
    count: TokenCounter | None = None
    """The student's tokens of a text; None where the recipe has no student."""
    items: Sequence[str] = ()
    """Questions of evaluation items."""
    golds: Sequence[str] = ()
    """The reference answer of each, empty where it has none."""
    passed: Callable[[str], bool | None] = _nobody_decided
    """Whether the trace of this id was found right: by a person, else by every grader; None where nobody decided."""
    parts: Sequence[Means] = ()
    """The same for each of the members that its options choose, in their order."""
    emit: Emit = silent
    cancel: Cancel = field(default_factory=Cancel)
