"""Takes over how many steps a prompt needs from what its file said of it: the difficulty in the pantry world, and in
any data set that states it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from localdistill.core.facts import About
from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures


class StepsLabel(Measures):
    """The `steps` label, of prompts."""

    name = "steps"
    version = 1
    about: ClassVar[About] = "prompt"

    class Options(BaseOptions):
        """Where the number stands."""

        key: str = Field("steps", min_length=1)
        """Name of the number in the prompt's metadata."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Prompts and their steps."""
        said, unsaid = asks("1 + 1?", metadata={"steps": 2}), asks("1 + 1?", metadata={"steps": "many"})
        return (
            LabelSample(said, answers(said, "2"), 2.0),
            LabelSample(unsaid, answers(unsaid, "2"), None),
            LabelSample(unsaid, answers(unsaid, "2"), None, options={"key": "hops"}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """Where its metadata holds a number under the key."""
        return self._steps(prompt) is not None

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        known = {prompt.id: self._steps(prompt) for prompt, _ in pairs}
        for prompt_id, steps in known.items():
            yield Fact(prompt_id, self.name, self.version, kind=self.kind, value=steps)

    def _steps(self, prompt: Prompt) -> float | None:
        value = prompt.metadata.get(self.options.key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
