"""Tells the language of the question, the reasoning and the answer, and how much of each is in another one: teachers
think in a language of their own, and students learn to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.labels.base import Measures
from localdistill.texts.languages import language_of, share_elsewhere

Part = Literal["answer", "reasoning", "question"]


class LanguageLabel(Measures):
    """The `language` label: the code (ISO 639-1) of one part, none where it cannot be told; the reason names all."""

    name = "language"
    version = 1
    says: ClassVar[Literal["number", "text"]] = "text"
    metrics: ClassVar[Mapping[str, str]] = {
        "as_asked": "1 when the answer is in the language of the question, 0 when in another; none where either cannot "
                    "be told.",
        "thought_as_asked": "The same of the reasoning.",
        "mixed": "Share of the letters of the answer that are in another language or script than most of it.",
        "mixed_reasoning": "The same of the reasoning.",
        "mixed_question": "The same of the question.",
    }

    class Options(BaseOptions):
        """Options of `language`."""

        of: Part = "answer"
        """The part whose language is the value."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Traces and their languages."""
        prompt = asks("How many jars are on the table?")
        german = answers(prompt, "Es sind drei Gläser auf dem Tisch.", "There are three jars on the table, so it is 3.")
        same = {"mixed": 0.0, "mixed_reasoning": 0.0, "mixed_question": 0.0}
        return (
            LabelSample(prompt, german, "de", {"as_asked": 0.0, "thought_as_asked": 1.0, **same}),
            LabelSample(prompt, german, "en", {"as_asked": 0.0, "thought_as_asked": 1.0, **same},
                        options={"of": "reasoning"}),
            LabelSample(prompt, answers(prompt, "42"), None, {"mixed": 0.0, "mixed_question": 0.0}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        for prompt, trace in pairs:
            parts = {"question": prompt.question, "reasoning": trace.reasoning, "answer": trace.answer}
            told = {name: language_of(text) for name, text in parts.items() if text.strip()}
            codes = {name: one.code for name, one in told.items()}
            metrics = {}
            for metric, part in (("as_asked", "answer"), ("thought_as_asked", "reasoning")):
                if codes.get(part) and codes.get("question"):
                    metrics[metric] = float(codes[part] == codes["question"])
            for metric, part in (("mixed", "answer"), ("mixed_reasoning", "reasoning"), ("mixed_question", "question")):
                if part in told:
                    metrics[metric] = round(share_elsewhere(parts[part], codes[part]), 4) if codes[part] else 0.0
            yield Fact(trace.id, self.name, self.version, kind=self.kind, value=codes.get(self.options.of) or None,
                       metrics=metrics, reason=", ".join(f"{name} {code or 'unknown'}" for name, code in codes.items()))
