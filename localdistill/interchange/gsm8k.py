"""GSM8K rows: `{"question", "answer"}`, the answer being a worked solution that ends in `#### N`.

The solution without its calculator marks (`<<3*3=9>>`) becomes the original response, its last line included; the
number after `####`, thousands commas removed, the reference. The question is taken as it stands, not even stripped,
so that every file that quotes it byte for byte gives the same prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.records import Message, Prompt
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import ReadOnly
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import RowPlace, need_user, text_at

_MARK = re.compile(r"<<[^<>]*>>")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_KEYS = {"question", "answer", "insufficient_question"}


class Gsm8kLayout(ReadOnly):
    """The `gsm8k` layout."""

    name = "gsm8k"

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        return (
            LayoutSample({"question": "1 + 999?", "answer": "1+999=<<1+999=1000>>1000\n#### 1,000"},
                         asks("1 + 999?", "1000", "1+999=1000\n#### 1,000")),
            LayoutSample({"question": "", "answer": "#### 2"}, asks(""), refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """`question`, and an `answer` with `####`; no reply of a model beside them."""
        answer = row.get("answer")
        return "question" in row and set(row) <= _KEYS and isinstance(answer, str) and "####" in answer

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """A prompt with reference and original response."""
        return Imported(gsm8k_prompt(row, RowPlace(source, number)))


def gsm8k_prompt(row: Mapping[str, Any], place: RowPlace) -> Prompt:
    """The prompt of a row with GSM8K's `question` and `answer`."""
    solution = text_at(row, "answer", place)
    _, found, reference = solution.rpartition("####")
    if not found or not reference.strip():
        raise place.error("the answer has no number after '####'")
    return Prompt(
        messages=need_user((Message("user", text_at(row, "question", place)),), place),
        reference=_THOUSANDS.sub("", reference.strip()),
        original=_MARK.sub("", solution),
        source=place.source,
    )
