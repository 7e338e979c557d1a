"""The trace files of the missing-premise study: GSM8K rows with the reply of one model beside them.

The reply stands under `NAME (question)`, NAME being the model, or under `model_answer`, and then the file name ends
in the model. Reasoning models write `reasoning</think>answer` without an opening tag; a reply of theirs that never
closes its thinking was cut off (status `truncated`). Replies of other models hold no reasoning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import ReadOnly
from localdistill.interchange.gsm8k import gsm8k_prompt
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import RowPlace, SplitReply, answer_of, imported, reason_in, text_at
from localdistill.templates.marks import closing_alone

_KEY = re.compile(r"(.+) \(question\)")
_REASONERS = {"deepseek-reasoner", "QwQ", "DSQ"}


class MipTracesLayout(ReadOnly):
    """The `mip_traces` layout."""

    name = "mip_traces"

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        row = {"question": "1 + 1?", "answer": "2\n#### 2"}
        prompt = asks("1 + 1?", "2", "2\n#### 2")
        return (
            LayoutSample(row | {"gpt-4o (question)": "It is 2."}, prompt, "It is 2."),
            LayoutSample(row | {"QwQ (question)": "easy\n</think>\n\n2"}, prompt, "2", "easy"),
            LayoutSample(row | {"question": "", "QwQ (question)": "2"}, prompt, refused="there is no user turn"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """`question`, `answer` and exactly one key with a reply."""
        return "question" in row and "answer" in row and len(_reply_keys(row)) == 1

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """GSM8K's prompt and the model's trace."""
        place = RowPlace(source, number)
        keys = _reply_keys(row)
        if len(keys) != 1:
            raise place.error(f"{len(keys) or 'no'} keys hold a reply", "expected `NAME (question)` or `model_answer`")
        named = _KEY.fullmatch(keys[0])
        model = named[1] if named else re.sub(r"\..*$", "", source).rpartition("_")[2]
        prompt = gsm8k_prompt(row, place)
        reply = text_at(row, keys[0], place)
        is_reasoner = model in _REASONERS or bool(closing_alone(reply))
        answer = answer_of(reply, opened=True) if is_reasoner else SplitReply("", reply.strip(), reply)
        return imported(prompt, answer, {}, place, model, reason_in(row))


def _reply_keys(row: Mapping[str, Any]) -> list[str]:
    return [key for key in row if key == "model_answer" or _KEY.fullmatch(key)]
