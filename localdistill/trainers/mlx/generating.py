"""What a student in training answers to a few questions: development items between steps. Not the engine that scores:
short, batched, without anything that the training would notice."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import TemplateRefused
from localdistill.core.events import Cancel
from localdistill.core.records import Reply, Request, Usage, content_id
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_decoding import MlxDecoder, MlxRow
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.templates import ChatTemplate, opens_thinking_tag, reply_of_text


def answers(model: Any, folder: ModelFolder, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
    """Replies to `requests`, several at a time; ends early when asked to cancel."""
    tokenizer, template = StudentTokenizer(folder.path), ChatTemplate.from_folder(folder.path)
    asked: dict[int, tuple[Request, str]] = {}
    refused: list[Reply] = []

    def rows() -> Iterator[MlxRow]:
        for request in requests:
            try:
                prompt = template.prompt(request.messages, request.thinks)
            except TemplateRefused as refusal:
                refused.append(Reply(request.id, "error", cost_usd=0.0, error=refusal.message))
                continue
            ids, sampling = tokenizer.encode_prompt(prompt), request.sampling
            seed = int(content_id("dev", sampling.seed, prompt).removeprefix("b2:")[:15], 16)
            row = MlxRow(ids, max(1, min(sampling.max_tokens, folder.context_length - len(ids))),
                         frozenset(tokenizer.stop_token_ids), sampling.temperature, sampling.top_p, sampling.top_k,
                         seed)
            asked[id(row)] = request, prompt
            yield row

    began = time.monotonic()
    for row in MlxDecoder(model, tokenizer.decode, BORDERS.answered_rows).run(rows(), cancel):
        request, prompt = asked.pop(id(row))
        usage = Usage(len(row.prompt_ids), len(row.written) + (row.finish == "stop"))
        yield reply_of_text(request.id, tokenizer.decode(row.written), row.finish or "length",
                            opened=opens_thinking_tag(prompt), usage=usage, elapsed_s=time.monotonic() - began)
        began = time.monotonic()
    yield from refused
