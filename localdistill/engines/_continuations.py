"""What engines with a tokenizer agree on in scoring: which tokens a continuation is, which requests cannot be scored
and why, in the same words, and which of them are read together. Loads no library."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from localdistill.core.records import Continuation, Reply, Request, TokenScores, Usage
from localdistill.modelfiles.beginnings import Ids, families


class Unscorable(Exception):
    """This request cannot be scored by this model; the text says why."""


def refuse_strange_ids(request: Request, identity: Callable[[], str]) -> None:
    """Raise Unscorable when the token ids of `request` were made for another tokenizer than the one that `identity`
    names, where both are known."""
    if request.tokenizer and any(one.token_ids for one in request.continuations):
        own = identity()
        if own and own != request.tokenizer:
            raise Unscorable(f"the token ids were made for the tokenizer {request.tokenizer}, this model has {own}: "
                             "give the continuations as text, or make the ids again")


def target_ids(continuations: Sequence[Continuation], prefix: Sequence[int], encode: Callable[[str], Sequence[int]],
               vocabulary: int, context_tokens: int) -> list[Ids]:
    """The tokens of every continuation of one request. prefix: the tokens before them; vocabulary: how many there are;
    context_tokens: how many the model holds, prefix and continuation. Raises Unscorable for the first that cannot be
    scored."""
    if not prefix:
        raise Unscorable("nothing stands before the continuations, so their first token follows from nothing: begin "
                         "with a text of at least one token")
    return [_targets(number, one, len(prefix), encode, vocabulary, context_tokens)
            for number, one in enumerate(continuations, 1)]


def _targets(number: int, continuation: Continuation, before: int, encode: Callable[[str], Sequence[int]],
             vocabulary: int, context_tokens: int) -> Ids:
    name = f"continuation {number}"
    if continuation.text and continuation.token_ids:
        raise Unscorable(f"{name} is given both as text and as token ids; give one of the two")
    ids = continuation.token_ids or tuple(encode(continuation.text))
    if not ids:
        raise Unscorable(f"{name} is empty")
    strange = next((one for one in ids if not 0 <= one < vocabulary), None)
    if strange is not None:
        raise Unscorable(f"token id {strange} of {name} is outside the vocabulary of {vocabulary} tokens")
    if before + len(ids) > context_tokens:
        raise Unscorable(f"{name} has {len(ids)} tokens behind {before}; the context holds {context_tokens}")
    return ids


@dataclass(eq=False, slots=True)
class ScoringTarget:
    """One continuation to score."""

    prefix: Ids
    ids: Ids
    top: int
    """How many of the most likely tokens to report at every place."""
    scores: TokenScores | None = None

    @property
    def size(self) -> int:
        """Tokens of prefix and continuation."""
        return len(self.prefix) + len(self.ids)


@dataclass(frozen=True, slots=True)
class ScoringBatch:
    """Targets that are read together."""

    targets: tuple[ScoringTarget, ...]
    common: int
    """So many tokens at the start of all prefixes are the same, and are worth to be read once."""


def batches(targets: Sequence[ScoringTarget], most_rows: int, most_tokens: int,
            branches: bool) -> Iterator[ScoringBatch]:
    """`targets` in batches of at most `most_rows`, which come to at most `most_tokens` when all are as long as the
    longest (a single one may be longer). Prefixes with most of their beginning in common stay together, all others
    are put beside those of their length. branches: whether prefixes that only begin alike may share."""
    loose: list[tuple[ScoringTarget, ...]] = []
    for family in _families(targets, branches):
        parts = list(_cut([(row,) for row in sorted(family.targets, key=_size)], most_rows, most_tokens))
        if len(parts) > 1 or len({target.prefix for target in family.targets}) > 1:
            yield from (ScoringBatch(part, family.common) for part in parts)
        else:
            loose += parts
    yield from (ScoringBatch(part, 0) for part in _cut(sorted(loose, key=_longest), most_rows, most_tokens))


def _size(target: ScoringTarget) -> int:
    return target.size


def _longest(targets: Sequence[ScoringTarget]) -> int:
    return max(map(_size, targets))


def _families(targets: Sequence[ScoringTarget], branches: bool) -> Iterator[ScoringBatch]:
    """Targets by what their prefixes have in common."""
    by_prefix: dict[Ids, list[ScoringTarget]] = {}
    for target in targets:
        by_prefix.setdefault(target.prefix, []).append(target)
    for prefixes, common in families(by_prefix, branches):
        yield ScoringBatch(tuple(target for prefix in prefixes for target in by_prefix[prefix]), common)


def _cut(units: Sequence[Sequence[ScoringTarget]], most_rows: int,
         most_tokens: int) -> Iterator[tuple[ScoringTarget, ...]]:
    """`units`, the shortest first, put together until a limit is reached."""
    batch: list[ScoringTarget] = []
    for unit in units:
        rows = len(batch) + len(unit)
        if batch and (rows > most_rows or _longest(unit) * rows > most_tokens):
            yield tuple(batch)
            batch = []
        batch += unit
    if batch:
        yield tuple(batch)


def scored_replies(asked: Sequence[tuple[Request, Sequence[ScoringTarget]]], run: Callable[[ScoringBatch], None],
                   most_rows: int, most_tokens: int, branches: bool) -> Iterator[Reply]:
    """Replies to score requests, each as soon as `run`, which scores a batch, has scored its last continuation; ends
    when it leaves one out. The other arguments as of `batches`."""
    owner = {id(target): place for place, (_, targets) in enumerate(asked) for target in targets}
    left, seconds = [len(targets) for _, targets in asked], [0.0] * len(asked)
    for batch in batches([target for _, targets in asked for target in targets], most_rows, most_tokens, branches):
        began = time.monotonic()
        run(batch)
        share_s = (time.monotonic() - began) / len(batch.targets)
        for target in batch.targets:
            if target.scores is None:
                return
            place = owner[id(target)]
            left[place] -= 1
            seconds[place] += share_s
            if not left[place]:
                request, targets = asked[place]
                yield scored_reply(request.id, len(targets[0].prefix),
                                   [one.scores for one in targets if one.scores is not None], seconds[place])


def scored_reply(request_id: str, prefix_tokens: int, scores: Sequence[TokenScores], elapsed_s: float) -> Reply:
    """The reply of an engine on this machine that read the prefix once, and every continuation."""
    read = prefix_tokens + sum(len(one.ids) for one in scores)
    return Reply(request_id, "complete", usage=Usage(read), cost_usd=0.0, elapsed_s=elapsed_s,
                 continuations=tuple(scores))
