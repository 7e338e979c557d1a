"""What a student in training answers to a few questions: development items between steps, written as the engine that
scores writes them, and without anything that the training would notice."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import TemplateRefused
from localdistill.core.events import Cancel
from localdistill.core.records import Reply, Request
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_decoding import MlxDecoder, MlxRow
from localdistill.modelfiles.student_rows import Asked, StudentRows


def answers(model: Any, folder: ModelFolder, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
    """Replies to `requests`, several at a time; ends early when asked to cancel."""
    student = StudentRows(folder, folder.mlx_context_length)
    asked: dict[MlxRow, Asked] = {}
    refused: list[Reply] = []

    def rows() -> Iterator[MlxRow]:
        for request in requests:
            try:
                one = student.asked(request)
            except TemplateRefused as refusal:
                refused.append(Reply(request.id, "error", cost_usd=0.0, error=refusal.message))
                continue
            if one.room > 0:
                row = MlxRow.of(one)
                asked[row] = one
                yield row
            else:
                refused.append(student.too_long(one))

    began = time.monotonic()
    for row in MlxDecoder(model, student.tokenizer.decode, BORDERS.answered_rows).run(rows(), cancel):
        yield student.reply(asked.pop(row), row, time.monotonic() - began)
        began = time.monotonic()
    yield from refused
