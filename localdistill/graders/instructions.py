"""Grades obedience: does the answer keep every constraint that its prompt carries in `metadata["constraints"]`?

A constraint is a mapping with a `kind`: `exact {value}`, `one_of {values}`, `contains {value}`, `count_words {n}`,
`uppercase`, `lowercase`, `no_digits`, `ends_with {value}`, `repeat {word, n}`. All must hold; there is no partial
score, because half of an instruction obeyed is an instruction broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from localdistill.core.errors import InputError, nearest
from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.base import JudgesTraces

Constraint = Mapping[str, Any]


def _words(reply: str) -> list[str]:
    return [word.strip(".,!?:;\"'") for word in reply.split()]


CHECKS: dict[str, Callable[[str, Constraint], bool]] = {
    "exact": lambda reply, c: reply == c["value"],
    "one_of": lambda reply, c: reply.rstrip(".") in c["values"],
    "contains": lambda reply, c: str(c["value"]).lower() in reply.lower(),
    "count_words": lambda reply, c: len(_words(reply)) == int(c["n"]),
    "uppercase": lambda reply, c: reply == reply.upper() and reply != reply.lower(),
    "lowercase": lambda reply, c: reply == reply.lower() and reply != reply.upper(),
    "no_digits": lambda reply, c: not any(char.isdigit() for char in reply),
    "ends_with": lambda reply, c: reply.rstrip(".!?").lower().endswith(str(c["value"]).lower()),
    "repeat": lambda reply, c: [w.lower() for w in _words(reply)] == [str(c["word"]).lower()] * int(c["n"]),
}
"""Kind of a constraint to its check of an answer without surrounding space."""


class InstructionsGrader(JudgesTraces):
    """The `instructions` grader."""

    name = "instructions"
    version = 1

    class Options(BaseOptions):
        """Options of `instructions`."""

        strip_markdown: bool = False
        """Whether asterisks, backticks and quotation marks around the whole answer are ignored."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        prompt, plain = asks("Say 42 in two words.", metadata={"constraints": [
            {"kind": "contains", "value": "42"}, {"kind": "count_words", "n": 2}]}), asks("How many?", "42")
        return (
            GraderSample(prompt, answers(prompt, "It's 42."), 1.0),
            GraderSample(prompt, answers(prompt, "The answer is 42."), 0.0),
            GraderSample(plain, answers(plain, "42"), None),
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
        """1 when all constraints hold; the reason lists the broken ones. InputError for a malformed constraint."""
        reply = trace.answer.strip()
        if self.options.strip_markdown:
            reply = reply.strip("*_`\"'").strip()
        constraints = prompt.metadata.get("constraints") or ()
        if not constraints:
            return self._grade(trace, 0.0, "the prompt has no constraints", reply)
        if not reply:
            return self._grade(trace, 0.0, "the answer is empty", reply)
        broken = [describe(constraint) for constraint in constraints if not holds(reply, constraint)]
        if broken:
            return self._grade(trace, 0.0, "broken: " + "; ".join(broken), reply)
        return self._grade(trace, 1.0, f"all {len(constraints)} constraints hold", reply)

    def _grade(self, trace: Trace, score: float, reason: str, reply: str) -> Fact:
        note = "" if trace.status in ("complete", "length") else f" (status {trace.status})"
        return Fact(trace.id, self.name, self.version, value=score, passed=score >= 1, reason=reason + note,
                    extracted=reply[:200])


def holds(reply: str, constraint: Constraint) -> bool:
    """True when `reply` keeps `constraint`; InputError when the constraint itself is malformed."""
    kind = str(constraint.get("kind"))
    if kind not in CHECKS:
        raise InputError(f"there is no constraint kind '{kind}'{nearest(kind, CHECKS)}", "known: " + ", ".join(CHECKS))
    try:
        return CHECKS[kind](reply, constraint)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the constraint {describe(constraint)} cannot be checked ({error})",
                         "see the list of kinds and their keys in the documentation of this grader") from error


def describe(constraint: Constraint) -> str:
    """`kind(key=value, ...)`, for reasons."""
    rest = ", ".join(f"{key}={value!r}" for key, value in constraint.items() if key != "kind")
    return f"{constraint.get('kind')}({rest})"
