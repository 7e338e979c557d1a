"""Kinds of instructions whose obedience a program can check: the 25 of IFEval (arXiv 2311.07911), 15 of which MathIF
(arXiv 2505.14810) uses, and our own. The rules of the published kinds are the published ones, odd as some are, so that
verdicts can be compared; the code is ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import InputError, nearest
from localdistill.graders.obedience.kind import Rule
from localdistill.graders.obedience.layout import LAYOUT
from localdistill.graders.obedience.lengths import LENGTHS
from localdistill.graders.obedience.own import OWN
from localdistill.graders.obedience.wording import WORDING
from localdistill.graders.obedience.words_used import WORDS_USED

KINDS: Mapping[str, Rule] = {**WORDS_USED, **LENGTHS, **LAYOUT, **WORDING, **OWN}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a prompt, ready to be checked."""

    kind: str
    parameters: Mapping[str, Any]

    @classmethod
    def read(cls, constraint: object) -> Instruction:
        """From a mapping with a `kind` and the parameters of that kind; those that are null are left out. InputError
        that says what is wrong."""
        if not isinstance(constraint, Mapping):
            raise InputError(f"a constraint is {type(constraint).__name__}, not an object with a 'kind'")
        stated = {str(key): value for key, value in constraint.items() if value is not None}
        kind = str(stated.pop("kind", ""))
        if kind not in KINDS:
            raise InputError(f"there is no constraint kind '{kind}'{nearest(kind, KINDS)}",
                             "known: " + ", ".join(KINDS))
        try:
            return cls(kind, KINDS[kind].checked(stated))
        except InputError as error:
            raise InputError(f"{kind}: {error.message}", error.hint) from None

    def holds(self, answer: str) -> bool:
        """Whether `answer`, as it is, keeps it. An empty answer keeps nothing."""
        return bool(answer.strip()) and KINDS[self.kind].holds(answer, **self.parameters)

    def holds_loosely(self, answer: str) -> bool:
        """Whether the answer keeps it as it is, or without its first line, its last, both, or its asterisks: what
        stands around an answer is forgiven."""
        return any(map(self.holds, loosened(answer)))

    def __str__(self) -> str:
        """`kind(key=value, ...)`, for reasons."""
        return f"{self.kind}({', '.join(f'{key}={value!r}' for key, value in self.parameters.items())})"


def loosened(answer: str) -> list[str]:
    """The eight forms of an answer that IFEval's loose verdict looks at, each once, the answer itself first."""
    lines = answer.split("\n")
    cut = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    forms = [answer, *cut]
    return list(dict.fromkeys([*forms, *(form.replace("*", "") for form in forms)]))
