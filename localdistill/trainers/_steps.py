"""Gradient accumulation: forward and backward of one optimizer step in micro-batches that fit the memory. Only
trained positions reach the output projection, in chunks, so memory does not grow with vocabulary x sequence. Must not
own the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from localdistill.core.errors import UsageError
from localdistill.core.losses import ListedLogprobs
from localdistill.objectives.base import Objective
from localdistill.trainers._batches import micro_batches
from localdistill.trainers._rows import Dataset

LOGIT_CHUNK_BYTES = 256 * 1024 * 1024

HALF_PRECISION_SCALE = 1024.0
"""float16 gradients of a mean over thousands of tokens would vanish below its smallest number without it."""


@dataclass(frozen=True)
class StepNumbers:
    """What one step saw: mean loss per unit of weight, and token counts."""

    loss: float
    tokens: int
    trained_tokens: int


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text
                                                or "can't allocate memory" in text)


class Stepper:
    """Accumulates the gradient of one batch, whatever the micro-batches are."""

    def __init__(self, model: Any, rows: Dataset, objective: Objective, device: torch.device,
                 micro_tokens: int) -> None:
        self.model = model
        self.rows = rows
        self.lengths = rows.lengths
        self.objective = objective
        self.device = device
        self.micro_tokens = micro_tokens
        self.scale = HALF_PRECISION_SCALE if model.dtype == torch.float16 else 1.0
        self.chunk_rows = max(16, LOGIT_CHUNK_BYTES // (4 * int(model.config.vocab_size)))

    def accumulate(self, batch: Sequence[int]) -> StepNumbers:
        """Add the gradient of `scale` x the mean loss over `batch` (row numbers) to the parameters."""
        weight = self.rows.units(batch, self.objective.unit)
        loss, trained = 0.0, 0
        for portion in micro_batches(batch, self.lengths, self.micro_tokens):
            piece_loss, piece_trained = self._piece(portion.rows, weight)
            loss += piece_loss
            trained += piece_trained
        return StepNumbers(loss, sum(self.lengths[row] for row in batch), trained)

    def halve(self, batch: Sequence[int]) -> bool:
        """Make micro-batches half as large; False when they are single rows already."""
        longest = max(self.lengths[row] for row in batch)
        largest = max(len(portion.rows) * self.lengths[portion.rows[0]]
                      for portion in micro_batches(batch, self.lengths, self.micro_tokens))
        if largest <= longest:
            return False
        self.micro_tokens = max(longest, largest // 2)
        return True

    def heaviest(self) -> list[int]:
        """The rows of the largest micro-batch that can occur: the longest rows that fit together."""
        order = sorted(range(len(self.lengths)), key=lambda row: -self.lengths[row])
        return order[:max(1, self.micro_tokens // self.lengths[order[0]])]

    def _piece(self, piece: Sequence[int], batch_weight: float) -> tuple[float, int]:
        ids, weights = self._collate(piece)
        # Right padding needs no mask: under causal attention nothing that is trained can see what follows it.
        hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        at = (weights[:, 1:] > 0).nonzero(as_tuple=True)
        picked = hidden[at]
        targets, wanted = ids[:, 1:][at], weights[:, 1:][at] * (self.scale / batch_weight)
        leaf = picked.detach().requires_grad_()
        total = torch.zeros((), device=self.device)
        for part in torch.split(torch.arange(len(targets), device=self.device), self.chunk_rows):
            logits = self.model.lm_head(leaf[part]).float()
            loss = self._loss(logits, targets[part], wanted[part].cpu().numpy(), at[0][part].cpu().numpy(), piece)
            torch.autograd.backward(loss)
            total += loss.detach()
        torch.autograd.backward(picked, leaf.grad)
        return float(total) / self.scale, len(targets)

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor, weight: Any, row: Any,
              piece: Sequence[int]) -> torch.Tensor:
        """Of positions N, for an objective whose slope is known beforehand: logits (N, V)."""
        ones = np.ones(len(piece), np.int64)
        slope = self.objective.known(ListedLogprobs(
            np.zeros((len(weight), 1)), weight, row, self.rows.row_weights[list(piece)], ones, np.arange(len(piece))))
        if self.objective.shape != "constant" or slope is None:
            raise UsageError(f"this trainer cannot minimise {self.objective.name}", 'use objective = { use = "sft" }')
        entropy = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        loss = -(torch.from_numpy(slope.by_logprob[:, 0]).to(entropy) * entropy).sum()
        if slope.by_mean is not None:
            mean = torch.log_softmax(logits, dim=-1).mean(-1)
            loss = loss + (torch.from_numpy(slope.by_mean).to(mean) * mean).sum()
        return loss

    def _collate(self, piece: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """ids (B, T), weights (B, T) of the rows, right-padded with zeros of weight 0."""
        longest = max(self.lengths[row] for row in piece)
        ids = torch.zeros(len(piece), longest, dtype=torch.long)
        weights = torch.zeros(len(piece), longest)
        for place, row in enumerate(piece):
            start, end = self.rows.starts[row], self.rows.starts[row + 1]
            ids[place, :end - start] = torch.from_numpy(self.rows.ids[start:end])
            weights[place, :end - start] = torch.from_numpy(self.rows.weights[start:end])
        return ids.to(self.device), weights.to(self.device)
