"""Batched generation with a KV cache: left-padded rows, finished rows leave the batch, every row samples from
its own generator. Must not render templates or know requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from localdistill.core.events import Cancel
from localdistill.core.records import TokenScores

TAIL_TOKENS = 48
"""How far back a stop string is looked for after each token."""


@dataclass
class Generation:
    """One row: what is asked of it, and what it wrote so far."""

    prompt_ids: Sequence[int]
    max_tokens: int
    stop_ids: frozenset[int]
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    generator: torch.Generator | None = None
    stop_texts: tuple[str, ...] = ()
    top: int = 0
    """How many of the most likely tokens to keep at every new token."""
    written: list[int] = field(default_factory=list)
    """New tokens, without the stop token."""
    scores: list[TokenScores] = field(default_factory=list)
    """Of every new token, when `top` asks for them; the stop token is the last of them."""
    finish: Literal["", "stop", "length"] = ""


def pick_token(logits: torch.Tensor, row: Generation) -> int:
    """The next token of `row` from logits (V,): the largest at temperature 0, else sampled after top-k and top-p."""
    if row.temperature <= 0:
        return int(logits.argmax())
    scores = logits.float().cpu() / row.temperature
    if 0 < row.top_k < len(scores):
        scores[scores < scores.topk(row.top_k).values[-1]] = -torch.inf
    order = scores.argsort(descending=True, stable=True)
    shares = scores[order].softmax(-1)
    if row.top_p < 1:
        # The token that crosses top_p stays, so at least one always does.
        shares[shares.cumsum(-1) - shares >= row.top_p] = 0
    return int(order[int(torch.multinomial(shares, 1, generator=row.generator))])


def token_scores(logits: torch.Tensor, tokens: torch.Tensor, top: int) -> TokenScores:
    """Log-probabilities of `tokens` (T,) and of the `top` likeliest ones, from logits (T, V): the model's own, before
    temperature, top-k and top-p."""
    values = logits.float()
    offset = values.logsumexp(-1, keepdim=True)
    chosen = values.gather(-1, tokens.to(values.device).unsqueeze(-1)) - offset
    best = values.topk(min(top, values.shape[-1]))
    return TokenScores(
        tuple(tokens.tolist()), tuple(chosen.squeeze(-1).tolist()), tuple(map(tuple, best.indices.tolist())),
        tuple(map(tuple, (best.values - offset).tolist())),
    )


class BatchDecoder:
    """Generates for several rows at once. The result of a row does not depend on its neighbours, except through the
    rounding of the arithmetic."""

    def __init__(self, model: Any, decode: Callable[[Sequence[int]], str]) -> None:
        self.model = model
        self.decode = decode

    def run(self, rows: Sequence[Generation], cancel: Cancel,
            on_token: Callable[[Generation], None] | None = None) -> None:
        """Fill `written` and `finish` of every row; after a cancel rows are left without `finish`."""
        live = list(rows)
        with torch.inference_mode():
            logits, cache, mask = self._prefill(live)
            while True:
                tokens = self._take(live, logits, on_token)
                if all(row.finish for row in live) or cancel.is_set():
                    return
                if 2 * sum(not row.finish for row in live) <= len(live):
                    keep = [place for place, row in enumerate(live) if not row.finish]
                    live, tokens = [live[place] for place in keep], [tokens[place] for place in keep]
                    index = torch.tensor(keep, device=mask.device)
                    cache.batch_select_indices(index)
                    mask = mask[index]
                mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)
                output = self.model(
                    input_ids=torch.tensor(tokens, device=mask.device).unsqueeze(1), attention_mask=mask,
                    position_ids=mask.sum(1, keepdim=True) - 1, past_key_values=cache, use_cache=True)
                logits = output.logits[:, -1]

    def _prefill(self, rows: Sequence[Generation]) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Logits (B, V) after the prompts, the cache, and the mask (B, T) of left-padded prompts."""
        from transformers import DynamicCache

        longest = max(len(row.prompt_ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, longest - len(row.prompt_ids):] = torch.tensor(row.prompt_ids)
            mask[place, longest - len(row.prompt_ids):] = 1
        device = self.model.device
        ids, mask = ids.to(device), mask.to(device)
        cache = DynamicCache(config=self.model.config)
        output = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True,
                            position_ids=(mask.cumsum(1) - 1).clamp(min=0), logits_to_keep=1)
        return output.logits[:, -1], cache, mask

    def _take(self, rows: Sequence[Generation], logits: torch.Tensor,
              on_token: Callable[[Generation], None] | None) -> list[int]:
        """Pick a token for every unfinished row; finished ones repeat any token until they leave the batch."""
        best = logits.argmax(-1).tolist()
        tokens: list[int] = []
        for place, row in enumerate(rows):
            token = int(best[place]) if row.temperature <= 0 else -1
            if not row.finish:
                token = token if token >= 0 else pick_token(logits[place], row)
                if row.top:
                    row.scores.append(token_scores(logits[place:place + 1], torch.tensor([token]), row.top))
                self._accept(row, token)
                if on_token is not None:
                    on_token(row)
            tokens.append(max(token, 0))
        return tokens

    def _accept(self, row: Generation, token: int) -> None:
        if token in row.stop_ids:
            row.finish = "stop"
            return
        row.written.append(token)
        if row.stop_texts and any(text in self.decode(row.written[-TAIL_TOKENS:]) for text in row.stop_texts):
            row.finish = "stop"
        elif len(row.written) >= row.max_tokens:
            row.finish = "length"
