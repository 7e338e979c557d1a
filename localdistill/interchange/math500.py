"""MATH-500 rows: `{"problem", "solution", "answer", "subject", "level", "unique_id"}`. The solution becomes the
original response, the answer the reference; subject, level and id go to the metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.records import Message, Prompt
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import ReadOnly
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import RowPlace, need_user, optional_text, text_at

_KEYS = {"problem", "solution", "answer"}
_FACTS = ("subject", "level", "unique_id")


class Math500Layout(ReadOnly):
    """The `math500` layout."""

    name = "math500"

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        row = {"problem": "1+1", "solution": "\\boxed{2}", "answer": "2", "subject": "Algebra", "level": 1}
        return (
            LayoutSample(row, asks("1+1", "2", "\\boxed{2}", {"subject": "Algebra", "level": 1})),
            LayoutSample(row | {"problem": "\n"}, asks(""), refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """`problem`, `solution` and `answer`, and nothing that the layout does not have."""
        return _KEYS <= set(row) <= {*_KEYS, *_FACTS}

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """A prompt with reference and original response."""
        place = RowPlace(source, number)
        return Imported(Prompt(
            messages=need_user((Message("user", text_at(row, "problem", place)),), place),
            reference=optional_text(row, "answer", place), original=optional_text(row, "solution", place),
            source=source, metadata={key: row[key] for key in _FACTS if row.get(key) is not None},
        ))
