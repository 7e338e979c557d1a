"""Grades obedience: does the answer keep every constraint that its prompt carries in `metadata["constraints"]`?

A constraint is a mapping with a `kind` (`localdistill/graders/obedience`) and the parameters of that kind, for example
`{"kind": "keywords:frequency", "keyword": "jar", "frequency": 2, "relation": "at least"}`. The score is all or nothing,
as half of an instruction obeyed is an instruction broken; the metrics count each instruction, strictly and loosely.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from localdistill.core.errors import InputError
from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.base import JudgesTraces
from localdistill.graders.obedience import Instruction

_LONGEST_REASON = 500


class InstructionsGrader(JudgesTraces):
    """The `instructions` grader."""

    name = "instructions"
    version = 2
    metrics: ClassVar[Mapping[str, str]] = {
        "strict": "1 when every instruction is kept by the answer as it is (prompt level).",
        "loose": "1 when every instruction is kept with what stands around the answer forgiven (prompt level).",
        "stated": "Instructions of the prompt: what the next two are shares of.",
        "kept": "Instructions kept by the answer as it is.",
        "kept_loosely": "Instructions kept with what stands around the answer forgiven.",
    }

    class Options(BaseOptions):
        """Options of `instructions`."""

        verdict: Literal["strict", "loose"] = "strict"
        """Which verdict is the score: of the answer as it is, or without its first or last line or its asterisks."""
        strip_markdown: bool = False
        """Whether asterisks, backticks and quotation marks around the whole answer are ignored."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        prompt, plain = asks("Say 42 in two words.", metadata={"constraints": [
            {"kind": "contains", "value": "42"}, {"kind": "count_words", "n": 2}]}), asks("How many?", "42")
        unknown = asks("Say 42.", metadata={"constraints": [{"kind": "count_word", "n": 2}]})
        aside = answers(prompt, "Sure:\n*It's 42.*")
        return (
            GraderSample(prompt, answers(prompt, "It's 42."), 1.0, metrics=_metrics(2, 2, 2)),
            GraderSample(prompt, answers(prompt, "The answer is 42."), 0.0, metrics=_metrics(2, 1, 1)),
            GraderSample(prompt, aside, 0.0, metrics=_metrics(2, 1, 2)),
            GraderSample(prompt, aside, 1.0, metrics=_metrics(2, 1, 2), options={"verdict": "loose"}),
            GraderSample(plain, answers(plain, "42"), None),
            GraderSample(unknown, answers(unknown, "42"), None, refused="did you mean 'count_words'"),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """True for a prompt that carries constraints."""
        return bool(prompt.metadata.get("constraints"))

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        return (self.grade(prompt, trace) for prompt, trace in pairs)

    def grade(self, prompt: Prompt, trace: Trace) -> Fact:
        """1 when all constraints hold; the reason lists the broken ones. A constraint that cannot be read leaves the
        answer undecided."""
        reply = trace.answer
        if self.options.strip_markdown:
            reply = reply.strip().strip("*_`\"'").strip()
        stated = prompt.metadata.get("constraints") or ()
        if not stated:
            return self.verdict(trace, None, "the prompt has no constraints")
        try:
            instructions = [Instruction.read(one) for one in _listed(stated)]
        except InputError as error:
            return self.verdict(trace, None, f"cannot be judged: {error.message}")
        kept = [one.holds(reply) for one in instructions]
        loosely = [strictly or one.holds_loosely(reply) for one, strictly in zip(instructions, kept, strict=True)]
        metrics = _metrics(len(kept), sum(kept), sum(loosely))
        score = metrics[self.options.verdict]
        if not reply.strip():
            return self.verdict(trace, score, "the answer is empty", metrics=metrics)
        broken = [f"{one}{' but not loosely' if also else ''}"
                  for one, strictly, also in zip(instructions, kept, loosely, strict=True) if not strictly]
        reason = f"broken: {'; '.join(broken)}" if broken else f"all {len(kept)} constraints hold"
        return self.verdict(trace, score, reason[:_LONGEST_REASON], reply.strip(), metrics)


def _listed(stated: Any) -> Iterable[object]:
    return stated if isinstance(stated, Sequence) and not isinstance(stated, str) else [stated]


def _metrics(stated: int, kept: int, kept_loosely: int) -> dict[str, float]:
    return {"strict": float(kept == stated), "loose": float(kept_loosely == stated), "stated": float(stated),
            "kept": float(kept), "kept_loosely": float(kept_loosely)}
