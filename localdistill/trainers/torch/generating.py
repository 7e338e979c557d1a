"""What a student in training answers to a few questions: development items between steps, written as the engine that
scores writes them, and without anything that the training would notice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, OutOfMemory, TemplateRefused
from localdistill.core.events import Cancel
from localdistill.core.records import Reply, Request
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.student_rows import Asked, StudentRows
from localdistill.modelfiles.torch_decoding import BatchDecoder, Generation


def answers(model: Any, folder: ModelFolder, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
    """Replies to `requests` as they end; no more once it was asked to cancel. LocalDistillError where not even one fits
    into memory."""
    rows, asked = StudentRows(folder, folder.context_length), dict[Generation, Asked]()
    for request in requests:
        try:
            one = rows.asked(request)
        except TemplateRefused as refusal:
            yield Reply(request.id, "error", cost_usd=0.0, error=refusal.message)
            continue
        if one.room > 0:
            asked[Generation.of(one)] = one
        else:
            yield rows.too_long(one)
    decoder = BatchDecoder(model, rows.tokenizer.decode, BORDERS.answered_rows)
    decoder.add(list(asked))
    while not decoder.is_idle and not cancel.is_set():
        try:
            ended = decoder.step()
        except OutOfMemory as error:
            raise LocalDistillError(
                f"a development item does not fit into memory beside the training ({error.message})",
                "lower train.dev.max_tokens, or take shorter items") from None
        for row in ended:
            yield rows.reply(asked[row], row, row.elapsed_s)
