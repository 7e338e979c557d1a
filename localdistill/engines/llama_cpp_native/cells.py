"""Allocates the cells of one KV cache that all sequences share, with prefix sharing: which cells are held by whom, and
how many are free. Sequences that have a beginning in common hold the same cells. Knows nothing of llama.cpp."""

from __future__ import annotations


class _Run:
    """Cells in a row that the same sequences hold."""

    __slots__ = ("holders", "tokens")

    def __init__(self, tokens: int, holders: set[int]) -> None:
        self.tokens = tokens
        self.holders = holders


class CellAllocator:
    """The cells of one unified KV cache; a sequence is known by its number."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._chains: dict[int, list[_Run]] = {}

    def held_by(self, sequence: int) -> int:
        """Cells that `sequence` can see."""
        return sum(run.tokens for run in self._chains.get(sequence, ()))

    def gained_without(self, sequence: int) -> int:
        """Cells that become free when `sequence` leaves: those that nobody else holds."""
        return sum(run.tokens for run in self._chains.get(sequence, ()) if len(run.holders) == 1)

    def extend(self, sequence: int, tokens: int) -> None:
        """Give `tokens` more cells to `sequence`. Raises ValueError when there are not so many."""
        if tokens > self.free:
            raise ValueError(f"{tokens} cells wanted, {self.free} free")
        if tokens <= 0:
            return
        self.free -= tokens
        chain = self._chains.setdefault(sequence, [])
        if chain and len(chain[-1].holders) == 1:
            chain[-1].tokens += tokens
        else:
            chain.append(_Run(tokens, {sequence}))

    def share(self, donor: int, sequence: int, tokens: int) -> None:
        """Let `sequence`, which holds nothing yet, hold the first `tokens` cells of `donor` too."""
        if self._chains.get(sequence):
            raise ValueError(f"sequence {sequence} holds cells already")
        runs = self._cut_at(donor, tokens)
        for run in runs:
            run.holders.add(sequence)
        self._chains[sequence] = list(runs)

    def keep(self, sequence: int, tokens: int) -> None:
        """Let `sequence` go of everything behind its first `tokens` cells."""
        kept = self._cut_at(sequence, tokens)
        for run in self._chains.get(sequence, [])[len(kept) :]:
            run.holders.discard(sequence)
            if not run.holders:
                self.free += run.tokens
        self._chains[sequence] = kept

    def release(self, sequence: int) -> None:
        """Let `sequence` go of everything."""
        self.keep(sequence, 0)
        self._chains.pop(sequence, None)

    def _cut_at(self, sequence: int, tokens: int) -> list[_Run]:
        """The runs that make up the first `tokens` cells of `sequence`, after cutting one in two where needed."""
        left, runs = tokens, []
        for run in self._chains.get(sequence, []):
            if left <= 0:
                break
            if run.tokens > left:
                self._split(run, left)
            runs.append(run)
            left -= run.tokens
        if left > 0:
            raise ValueError(f"sequence {sequence} holds {tokens - left} of {tokens} cells")
        return runs

    def _split(self, run: _Run, tokens: int) -> None:
        rest = _Run(run.tokens - tokens, set(run.holders))
        run.tokens = tokens
        for holder in run.holders:
            chain = self._chains[holder]
            chain.insert(chain.index(run) + 1, rest)
