"""Generation in MLX for several rows at once: a row that ends makes room for the next one at once (continuous
batching), and every row is sampled by itself. For the engine that scores, and for a student in training. Must not
render templates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from localdistill.core.events import Cancel
from localdistill.core.records import TokenScores
from localdistill.modelfiles.student_rows import Asked, StudentRow

_PREFILL_ROWS = 8


@dataclass(eq=False)
class MlxRow(StudentRow):
    """A row that a model of MLX writes."""

    seed: int = 0

    @classmethod
    def of(cls, asked: Asked) -> MlxRow:
        """The row that writes what was asked."""
        return cls.made_of(asked, seed=asked.seed)


class RowSampler:
    """Picks the tokens of one row: the largest at temperature 0, else drawn after top-k and top-p from random numbers
    of its own, so that its neighbours change nothing."""

    def __init__(self, row: MlxRow) -> None:
        import mlx.core as mx

        self._row, self._mx = row, mx
        self._key = mx.random.key(row.seed)

    def __call__(self, logprobs: Any) -> Any:
        """logprobs (1, V) -> (1,)."""
        mx, row = self._mx, self._row
        if row.temperature <= 0:
            return mx.argmax(logprobs, axis=-1)
        scores = logprobs.astype(mx.float32) / row.temperature
        if 0 < row.top_k < scores.shape[-1]:
            least = mx.min(mx.topk(scores, row.top_k, axis=-1), axis=-1, keepdims=True)
            scores = mx.where(scores < least, -mx.inf, scores)
        if row.top_p < 1:
            order = mx.argsort(-scores, axis=-1)
            shares = mx.softmax(mx.take_along_axis(scores, order, axis=-1), axis=-1)
            # The token that crosses top_p stays, so at least one always does.
            beyond = mx.cumsum(shares, axis=-1) - shares >= row.top_p
            drop = mx.put_along_axis(mx.zeros(beyond.shape, dtype=mx.bool_), order, beyond, axis=-1)
            scores = mx.where(drop, -mx.inf, scores)
        self._key, key = mx.random.split(self._key)
        return mx.random.categorical(scores, axis=-1, key=key)


def token_scores(logits: Any, tokens: Sequence[int], top: int) -> TokenScores:
    """Log-probabilities of `tokens` (T,) and of the `top` likeliest ones, from logits (T, V) of MLX: the model's own,
    before temperature, top-k and top-p."""
    import mlx.core as mx

    values = logits.astype(mx.float32)
    offset = mx.logsumexp(values, axis=-1, keepdims=True)
    chosen = (mx.take_along_axis(values, mx.array(list(tokens))[:, None], axis=-1) - offset)[:, 0]
    count = min(top, values.shape[-1])
    best = mx.argsort(-values, axis=-1)[:, :count] if count else mx.zeros((len(tokens), 0), dtype=mx.int32)
    likely = mx.take_along_axis(values, best, axis=-1) - offset
    return TokenScores(tuple(tokens), tuple(chosen.tolist()), tuple(map(tuple, best.tolist())),
                       tuple(map(tuple, likely.tolist())))


class MlxDecoder:
    """Generates with one model, at most `rows` at once, which come to at most `most_tokens` when all are as long as
    the longest may become (a single one may be longer). All calls come from one thread."""

    def __init__(self, model: Any, decode: Callable[[Sequence[int]], str], rows: int,
                 most_tokens: int = 1 << 62) -> None:
        self.model, self._decode, self._rows, self._most_tokens = model, decode, rows, most_tokens

    def run(self, rows: Iterable[MlxRow], cancel: Cancel,
            on_token: Callable[[MlxRow], None] | None = None) -> Iterator[MlxRow]:
        """The rows as they end, pulled as room comes free; those that a cancel leaves unfinished do not come."""
        import mlx.core as mx
        from mlx_lm.generate import BatchGenerator, StopSequences

        generator = BatchGenerator(self.model, completion_batch_size=self._rows,
                                   prefill_batch_size=min(self._rows, _PREFILL_ROWS),
                                   stream=mx.default_stream(mx.default_device()))
        waiting, live = iter(rows), dict[int, MlxRow]()
        held = next(waiting, None)
        try:
            while (held is not None or live) and not cancel.is_set():
                while held is not None and self._has_room(held, live.values()):
                    stops = StopSequences([(token,) for token in sorted(held.stop_ids)])
                    (number,) = generator.insert([list(held.prompt_ids)], [held.max_tokens],
                                                 samplers=[RowSampler(held)], stop_sequences=[stops])
                    live[number] = held
                    held = next(waiting, None)
                for said in generator.next_generated():
                    row = live[said.uid]
                    self._accept(row, said)
                    if on_token is not None:
                        on_token(row)
                    if row.finish:
                        del live[said.uid]
                        if said.finish_reason is None:
                            generator.remove([said.uid])
                        yield row
        finally:
            generator.close()

    def _has_room(self, row: MlxRow, live: Iterable[MlxRow]) -> bool:
        sizes = [len(one.prompt_ids) + one.max_tokens for one in (row, *live)]
        return len(sizes) == 1 or (len(sizes) <= self._rows and max(sizes) * len(sizes) <= self._most_tokens)

    def _accept(self, row: MlxRow, said: Any) -> None:
        if row.top:
            row.scores.append(token_scores(said.logprobs[None], [said.token], row.top))
        row.accept(said.token, self._decode)
