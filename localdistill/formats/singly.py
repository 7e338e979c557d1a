"""Formats in which every trace makes an example of its own, whatever else its prompt has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace

from localdistill.core.losses import Grouping
from localdistill.core.records import Candidate, Example, Prompt, Skip, TokenCounter, Trace
from localdistill.templates.thinking import split_thinking


class SinglyFormat(ABC):
    """One example per trace, of what to do."""

    every_turn = False
    """The turns of the assistant before the answer make examples, too."""

    @property
    def signs(self) -> frozenset[int]:
        """What to do."""
        return frozenset({1})

    @property
    def grouping(self) -> Grouping:
        """No groups."""
        return "none"

    @abstractmethod
    def of_trace(self, prompt: Prompt, trace: Trace) -> Example | Skip:
        """The example of one trace, or why there is none."""

    def lay_out(self, prompt: Prompt, candidates: Sequence[Candidate],
                count: TokenCounter) -> Sequence[Example | Skip]:
        """Each trace by itself, and where every turn is wanted the turns before the answers, once for all of them."""
        made = [self.of_trace(prompt, candidate.trace) for candidate in candidates]
        used = next((one.trace for one, example in zip(candidates, made, strict=True) if isinstance(example, Example)),
                    None)
        return made if used is None or not self.every_turn else [*made, *self._earlier(prompt, used)]

    def _earlier(self, prompt: Prompt, trace: Trace) -> Iterator[Example | Skip]:
        """The turns of the assistant before the answer `trace`, each as the answer to what was said before it."""
        for place, turn in enumerate(prompt.messages):
            if turn.role != "assistant":
                continue
            split = split_thinking(turn.content)
            inline = split.found and split.closed and not turn.reasoning
            reasoning, answer = (split.reasoning, split.answer) if inline else (turn.reasoning, turn.content)
            said = replace(trace, reasoning=reasoning, answer=answer, tool_calls=turn.tool_calls, raw="",
                           status="complete", trace_kind="raw" if reasoning else "none")
            one = self.of_trace(replace(prompt, messages=prompt.messages[:place]), said)
            yield replace(one, prompt_id=prompt.id) if isinstance(one, Example) else Skip(
                prompt.id, trace.id, f"an earlier turn: {one.reason}")
