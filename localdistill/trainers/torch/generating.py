"""What a student in training answers to a few questions: development items between steps. Not the engine that scores:
short, batched, without anything that the training would notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, TemplateRefused
from localdistill.core.events import Cancel
from localdistill.core.explaining import reason_of
from localdistill.core.records import Reply, Request, Usage, content_id
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import is_out_of_memory
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.templates import ChatTemplate, opens_thinking_tag, reply_of_text


def answers(model: Any, folder: ModelFolder, requests: Iterable[Request], cancel: Cancel) -> Iterator[Reply]:
    """Replies to `requests`, in batches of those that follow each other; ends early when asked to cancel."""
    tokenizer, template = StudentTokenizer(folder.path), ChatTemplate.from_folder(folder.path)
    waiting, attention = iter(requests), model.config._attn_implementation
    # The attention for short rows takes no mask, and rows of unlike length need one.
    model.set_attn_implementation(folder.kind.attention)
    try:
        while not cancel.is_set() and (batch := list(islice(waiting, BORDERS.answered_rows))):
            yield from _in_memory(lambda some: _batch(model, folder, tokenizer, template, some), batch)
    finally:
        model.set_attn_implementation(attention)


def _in_memory(answer: Callable[[list[Request]], Iterable[Reply]], batch: list[Request]) -> list[Reply]:
    """Replies to a batch; to its halves, one after the other, where memory runs out. LocalDistillError where one
    request does not fit."""
    try:
        return list(answer(batch))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = reason_of(error)
    # Out here nothing holds the frames of the failed computation and their tensors any more.
    if len(batch) == 1:
        raise LocalDistillError(f"a development item does not fit into memory beside the training ({reason})",
                                "lower train.dev.max_tokens, or take shorter items")
    half = len(batch) // 2
    return [*_in_memory(answer, batch[:half]), *_in_memory(answer, batch[half:])]


def _batch(model: Any, folder: ModelFolder, tokenizer: StudentTokenizer, template: ChatTemplate,
           batch: list[Request]) -> Iterator[Reply]:
    rows: list[tuple[Request, str, list[int]]] = []
    for request in batch:
        try:
            prompt = template.prompt(request.messages, request.thinks)
        except TemplateRefused as refusal:
            yield Reply(request.id, "error", cost_usd=0.0, error=refusal.message)
            continue
        rows.append((request, prompt, tokenizer.encode_prompt(prompt)))
    for sampling in dict.fromkeys(request.sampling for request, _, _ in rows):
        alike = [row for row in rows if row[0].sampling == sampling]
        yield from _alike(model, folder, tokenizer, alike)


@torch.inference_mode()
def _alike(model: Any, folder: ModelFolder, tokenizer: StudentTokenizer,
           rows: list[tuple[Request, str, list[int]]]) -> list[Reply]:
    """Replies to requests that are sampled alike, padded on the left."""
    began, sampling = time.monotonic(), rows[0][0].sampling
    longest = max(len(ids) for _, _, ids in rows)
    ids = torch.tensor([[0] * (longest - len(own)) + own for _, _, own in rows], device=model.device)
    seen = torch.tensor([[0] * (longest - len(own)) + [1] * len(own) for _, _, own in rows], device=model.device)
    chosen: dict[str, Any] = {"do_sample": False}
    if not sampling.greedy_by:
        chosen = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p,
                  "top_k": sampling.top_k}
        torch.manual_seed(int(content_id("dev", sampling.seed, rows[0][1]).removeprefix("b2:")[:15], 16))
    room = max(1, min(sampling.max_tokens, folder.context_length - longest))
    written = model.generate(ids, attention_mask=seen, max_new_tokens=room, pad_token_id=tokenizer.stop_token_ids[0],
                             eos_token_id=list(tokenizer.stop_token_ids), **chosen)[:, longest:]
    elapsed_s = (time.monotonic() - began) / len(rows)
    return [_reply(row, new, tokenizer, elapsed_s) for row, new in zip(rows, written.tolist(), strict=True)]


def _reply(row: tuple[Request, str, list[int]], new: list[int], tokenizer: StudentTokenizer,
           elapsed_s: float) -> Reply:
    request, prompt, ids = row
    end = next((place for place, token in enumerate(new) if token in tokenizer.stop_token_ids), None)
    usage = Usage(prompt_tokens=len(ids), completion_tokens=len(new) if end is None else end + 1)
    return reply_of_text(request.id, tokenizer.decode(new[:end]), "length" if end is None else "stop",
                         opened=opens_thinking_tag(prompt), usage=usage, elapsed_s=elapsed_s)
