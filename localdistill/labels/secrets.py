"""Counts what should not be trained on or passed on in a prompt or trace: keys, mail addresses, telephone numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import LabelSample, answers, asks
from localdistill.core.secrets import keys_in
from localdistill.labels.base import Measures

_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
_EXAMPLE = re.compile(r"@(?:[\w-]+\.)*example(?:\.\w+)?$|@(?:test|localhost|domain|email)\.", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\w.,+*/^=-])(?:\+\d{1,3}[ .()-]{1,2}\d[\d ().-]{5,16}\d|\(\d{3}\) ?\d{3}[ .-]\d{4}"
                    r"|\d{3}[.-]\d{3}[.-]\d{4})(?![\w*/^=-])")
_NOBODYS = re.compile(r"555[ .-]?\d{4}|123[ .-]?456")
"""Numbers of films and of textbooks."""
_CUT = re.compile(r"\S{300,}")
"""A run of so many characters without a space is no address, and would be slow to look through."""


class SecretsLabel(Measures):
    """The `secrets` label: how many there are in the question, the reasoning and the answer together. They are counted,
    never repeated."""

    name = "secrets"
    version = 1
    metrics: ClassVar[Mapping[str, str]] = {
        "keys": "API keys, by how issuers let them begin, and blocks of private keys.",
        "mails": "Mail addresses, but for those of examples.",
        "phones": "Telephone numbers as they are usually written, but for those of films and textbooks.",
    }

    class Options(BaseOptions):
        """There is nothing to set."""

    @classmethod
    def samples(cls) -> Sequence[LabelSample]:
        """Traces and what they give away."""
        prompt, key = asks("Write to me."), "hf" + "_" + "aB3dE5gH7jK9mN1pQ3"
        return (
            LabelSample(prompt, answers(prompt, f"Eve: eve@plums.org, +49 30 1234 5678. Not me@example.com. {key}"),
                        3.0, {"keys": 1.0, "mails": 1.0, "phones": 1.0}),
            LabelSample(prompt, answers(prompt, "It is 3.14159 * 1000000 = 3141590; 555-0199."), 0.0,
                        {"keys": 0.0, "mails": 0.0, "phones": 0.0}),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        for prompt, trace in pairs:
            text = "\n".join([*(message.content for message in prompt.messages), trace.reasoning, trace.answer])
            keys, text = float(keys_in(text)), _CUT.sub(" ", text)
            mails = float(sum(1 for found in _MAIL.finditer(text) if not _EXAMPLE.search(found[0])))
            phones = float(sum(1 for found in _PHONE.finditer(text) if not _NOBODYS.search(found[0])))
            yield Fact(trace.id, self.name, self.version, kind=self.kind, value=keys + mails + phones,
                       metrics={"keys": keys, "mails": mails, "phones": phones})
