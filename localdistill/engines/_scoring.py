"""Scoring of given continuations in torch (teacher forcing) with the beginning that they have in common read once:
first what all prefixes of a batch share, then the rest of each prefix, then the continuations, each on a copy of the
keys and values before it. Must not tokenize or know requests."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel
from localdistill.engines._continuations import ScoringBatch
from localdistill.modelfiles.beginnings import Ids
from localdistill.modelfiles.student_rows import joined
from localdistill.modelfiles.torch_decoding import padded, token_scores


class BatchScorer:
    """Scores batches with one model. What it finds for a target does not depend on the others of the batch, except
    through the rounding of the arithmetic."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._beginning: Ids = ()
        self._kept: Any = None

    def run(self, batch: ScoringBatch, cancel: Cancel) -> None:
        """Fill `scores` of every target of `batch`; after a cancel some are left without."""
        with torch.inference_mode():
            self._run(batch, cancel)

    def _run(self, batch: ScoringBatch, cancel: Cancel) -> None:
        prefixes = list(dict.fromkeys(target.prefix for target in batch.targets))
        logits, cache, mask = self._prefill(prefixes, batch.common)
        # The longest first: a row that is at its end leaves by cutting the batch.
        rows = sorted(batch.targets, key=lambda target: len(target.ids), reverse=True)
        places = [prefixes.index(target.prefix) for target in rows]
        found = [[token_scores(logits[place:place + 1], torch.tensor(target.ids[:1]), target.top)]
                 for place, target in zip(places, rows)]
        step = max(1, BORDERS.scored_bytes // (4 * logits.shape[-1] * len(rows)))
        for begin in range(0, len(rows[0].ids) - 1, step):
            if cancel.is_set():
                return
            live = sum(len(target.ids) - 1 > begin for target in rows)
            if places[:live] != list(range(len(mask))):
                index = torch.tensor(places[:live], device=mask.device)
                cache, mask = _taken(cache, index), mask[index]
            places = list(range(live))
            pieces = [target.ids[begin:min(begin + step, len(target.ids) - 1)] for target in rows[:live]]
            logits, mask = self._read(padded(pieces), mask, cache, 0)
            for place, piece in enumerate(pieces):
                wanted = torch.tensor(rows[place].ids[begin + 1:begin + 1 + len(piece)])
                found[place].append(token_scores(logits[place, :len(piece)], wanted, rows[place].top))
        for target, parts in zip(rows, found):
            target.scores = joined(parts)

    def _prefill(self, prefixes: Sequence[Ids], common: int) -> tuple[torch.Tensor, Any, torch.Tensor]:
        """Logits (B, V) behind the prefixes, their keys and values, and the mask (B, T) of what of those counts."""
        from transformers import DynamicCache

        device = self.model.device
        if not common:
            cache, mask = DynamicCache(config=self.model.config), torch.ones(len(prefixes), 0, dtype=torch.long)
        else:
            beginning = prefixes[0][:common]
            if beginning != self._beginning:
                self._beginning, self._kept = (), None  # let go before the next one is read
                kept = DynamicCache(config=self.model.config)
                self._read(torch.tensor([beginning]), torch.ones(1, 0, dtype=torch.long), kept, 1)
                self._beginning, self._kept = beginning, kept
            cache = _taken(self._kept, torch.zeros(len(prefixes), dtype=torch.long, device=device))
            mask = torch.ones(len(prefixes), common, dtype=torch.long)
        ids = padded([prefix[common:] for prefix in prefixes], left=True)
        logits, mask = self._read(ids, mask, cache, 1)
        return logits[:, -1], cache, mask

    def _read(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Read ids (B, T), where -1 is padding, on top of `cache`: logits of the last `keep` places (0: of all), and
        the mask with these places."""
        device = self.model.device
        ids = ids.to(device)
        mask = torch.cat([mask.to(device), (ids >= 0).long()], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1]:]
        output = self.model(input_ids=ids.clamp(min=0), attention_mask=mask, position_ids=positions,
                            past_key_values=cache, use_cache=True, logits_to_keep=keep)
        return output.logits, mask


def _taken(cache: Any, places: torch.Tensor) -> Any:
    """A cache with the rows `places` of `cache`, which stays as it is."""
    taken = copy(cache)
    taken.layers = [copy(layer) for layer in cache.layers]
    taken.batch_select_indices(places)
    return taken
