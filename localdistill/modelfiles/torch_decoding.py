"""Continuous batching: rows join as others end, what several begin with is read once, and every row samples from its
own generator. Memory that runs out halves the rows and goes on. For the engine that scores, and for a student in
training. Must not render templates."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch

from localdistill.core.borders import BORDERS
from localdistill.core.errors import OutOfMemory
from localdistill.core.explaining import reason_of
from localdistill.core.records import TokenScores
from localdistill.modelfiles.beginnings import Ids, families
from localdistill.modelfiles.loading import is_out_of_memory
from localdistill.modelfiles.student_rows import Asked, StudentRow
from localdistill.modelfiles.torch_picking import pick_tokens
from localdistill.modelfiles.torch_slots import (
    DecodeStep,
    Prefill,
    SharedPrefix,
    SlotCache,
    slot_attention,
    whole_grains,
)

_FEWEST_SHARING = 4
"""Fewer rows than this hold what they have in common each by itself; it is still read once where they ask the same."""
_ROOM = 256
"""Tokens of a reply for which slots have room at first."""


@dataclass(eq=False)
class Generation(StudentRow):
    """A row that a model of torch writes."""

    generator: torch.Generator | None = None
    elapsed_s: float = 0.0
    """Its share of the time of every step that it was part of."""
    beginning: SharedPrefix | None = None
    """What it shares with others."""

    @classmethod
    def of(cls, asked: Asked) -> Generation:
        """The row that writes what was asked."""
        return cls.made_of(asked, generator=torch.Generator().manual_seed(asked.seed))

    @property
    def before(self) -> int:
        """Tokens of what it shares."""
        return len(self.beginning.ids) if self.beginning else 0

    @property
    def own(self) -> list[int]:
        """Its tokens behind that, as far as they are known; the last of them is read by its next step."""
        return [*self.prompt_ids[self.before:], *self.written]

    @property
    def size(self) -> int:
        """How many those are."""
        return len(self.prompt_ids) - self.before + len(self.written)


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


def padded(rows: Sequence[Sequence[int]], left: bool = False) -> torch.Tensor:
    """`rows` as one table (B, T); -1 fills the shorter ones, in front or behind."""
    longest = max(map(len, rows))
    table = torch.full((len(rows), longest), -1, dtype=torch.long)
    for place, row in enumerate(rows):
        begin = longest - len(row) if left else 0
        table[place, begin:begin + len(row)] = torch.tensor(row, dtype=torch.long)
    return table


class BatchDecoder:
    """Writes rows with one model, step by step. What a row writes does not depend on its neighbours, except through the
    rounding of the arithmetic."""

    def __init__(self, model: Any, decode: Callable[[Sequence[int]], str], most_rows: int, most_tokens: int = 1 << 62,
                 warn: Callable[[str], None] | None = None,
                 on_token: Callable[[Generation], None] | None = None) -> None:
        self.model = model
        self.decode = decode
        self.most_rows = most_rows
        """Rows that are written at once at most."""
        self._most_tokens, self._warn, self._on_token = most_tokens, warn, on_token
        self._waiting: deque[Generation] = deque()
        self._live: list[Generation] = []
        """In the order of their slots."""
        self._slots = SlotCache()

    @property
    def wants_more(self) -> bool:
        """Fewer rows wait than could be written at once."""
        return len(self._waiting) < self.most_rows

    @property
    def is_idle(self) -> bool:
        """There is nothing to write."""
        return not self._live and not self._waiting

    def add(self, rows: Sequence[Generation]) -> None:
        """Rows to write, the shortest prompts first, those that begin alike together."""
        by_prompt: dict[Ids, list[Generation]] = {}
        for row in rows:
            by_prompt.setdefault(tuple(row.prompt_ids), []).append(row)
        known = dict.fromkeys(row.beginning for row in (*self._live, *self._waiting) if row.beginning)
        for beginning in known:
            size = len(beginning.ids)
            for ids in [ids for ids in by_prompt if len(ids) > size and ids[:size] == beginning.ids]:
                self._queue({ids: by_prompt.pop(ids)}, beginning)
        found = sorted(families(by_prompt, branches=True), key=lambda family: len(family[0][0]))
        for prompts, common in found:
            members = {ids: by_prompt[ids] for ids in prompts}
            shares = common > 0 and sum(map(len, members.values())) >= _FEWEST_SHARING
            self._queue(members, SharedPrefix(prompts[0][:common]) if shares else None)

    def _queue(self, members: dict[Ids, list[Generation]], beginning: SharedPrefix | None) -> None:
        for ids in sorted(members, key=len):
            for row in members[ids]:
                row.beginning = beginning
                self._waiting.append(row)

    def step(self) -> list[Generation]:
        """Write one token of every row that there is room for; those that ended. OutOfMemory when not even one row
        fits."""
        began = time.monotonic()
        while True:
            reason = ""
            try:
                with torch.inference_mode(), slot_attention(self.model):
                    self._fit()
                    self._admit()
                    logits = self._logits()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = reason_of(error)
            if not reason:
                break
            # Out here nothing holds the frames of what failed, and their tensors, any more.
            self._give_way(reason)
        with torch.inference_mode():
            return self._take(logits, began)

    def _give_way(self, reason: str) -> None:
        """Go on with half as many slots, however few of them are in use; rows that were under way are read again."""
        rows = self._slots.rows
        if rows <= 1:
            raise OutOfMemory(f"memory ran out while one reply was written: {reason}",
                              "take a smaller dtype or quantization for the student, or a smaller max_tokens")
        self.most_rows = rows // 2
        self._waiting.extendleft(reversed(self._live))
        self._live = []
        self._slots.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self._warn is not None:
            self._warn(f"memory ran out with room for {rows} replies at once; going on with {self.most_rows}")

    # ---- room

    def _fit(self) -> None:
        """Slots as many and as long as they are needed, within the tokens that may be held. Where longer ones leave
        fewer, the rows that wrote least wait and are read again."""
        slots, live = self._slots, [row.size for row in self._live]
        nexts = [row.size for row in islice(self._waiting, self.most_rows)]
        needed = max([*live, *(nexts[:1] if len(live) < slots.rows or not live else [])])
        wanted = max([*live, *nexts])
        capacity = slots.capacity
        if needed > capacity or (nexts and slots.rows < self.most_rows and 2 * (wanted + _ROOM) < capacity):
            most = max(row.size - len(row.written) + row.max_tokens for row in (*self._live, *self._waiting))
            grown = capacity * 3 // 2 if needed > capacity else 0
            capacity = whole_grains(max(needed, min(most, max(wanted + _ROOM, grown))))
        shared = sum(len(beginning.ids) for beginning in {row.beginning for row in self._live if row.beginning})
        rows = min(self.most_rows, max(1, (self._most_tokens - shared) // capacity), len(live) + len(self._waiting))
        if capacity == slots.capacity and rows <= slots.rows:
            return
        self._evict(len(live) - rows)
        slots.shape(rows, capacity, len(self._live), max((row.size for row in self._live), default=1) - 1)

    def _evict(self, rows: int) -> None:
        """Let so many rows wait again, those that wrote least."""
        for row in sorted(self._live, key=lambda row: len(row.written))[:max(0, rows)]:
            self._remove(self._live.index(row))
            self._waiting.appendleft(row)

    def _remove(self, place: int) -> None:
        """Free a slot: the last one moves into it."""
        last = len(self._live) - 1
        if place < last:
            self._slots.copy(last, place, self._live[last].size - 1)
            self._live[place] = self._live[last]
        self._live.pop()

    # ---- reading

    def _admit(self) -> None:
        """Rows that wait join while there is room. Those whose prompt another one holds copy it."""
        while self._waiting and len(self._live) < self._slots.rows and self._waiting[0].size <= self._slots.capacity:
            joining, holders = self._joining()
            first = len(self._live)
            if joining[0].beginning is not None:
                self._read_beginning(joining[0].beginning)
            read = [place for place, holder in enumerate(holders) if holder == first + place]
            self._read([joining[place] for place in read], [first + place for place in read])
            for place, holder in enumerate(holders):
                if holder is not None and holder != first + place:
                    self._slots.copy(holder, first + place, joining[place].size - 1)
            for row in joining:
                self._waiting.popleft()
                self._live.append(row)

    def _joining(self) -> tuple[list[Generation], list[int | None]]:
        """The next rows with one beginning that are read together, and the slot of each that holds first what it has to
        read: its own where nobody else does, None where it has nothing to read."""
        first, beginning = len(self._live), self._waiting[0].beginning
        joining: list[Generation] = []
        holders: list[int | None] = []
        read = longest = 0
        for row in islice(self._waiting, self._slots.rows - first):
            if row.beginning is not beginning or row.size > self._slots.capacity:
                break
            own = first + len(joining)
            holder = None if row.size == 1 else next(
                (place for place, other in enumerate(chain(self._live, joining)) if _asks_the_same(other, row)), own)
            if holder == own:
                if read and max(longest, row.size - 1) * (read + 1) > BORDERS.read_tokens:
                    break
                read, longest = read + 1, max(longest, row.size - 1)
            joining.append(row)
            holders.append(holder)
        return joining, holders

    def _read_beginning(self, beginning: SharedPrefix) -> None:
        if not beginning.is_read:
            device = self.model.device
            work = Prefill(torch.zeros(1, dtype=torch.long, device=device), None, beginning)
            self._forward([list(beginning.ids)], [0], work)
            beginning.is_read = True

    def _read(self, rows: Sequence[Generation], places: Sequence[int]) -> None:
        """Read all but the last token of each row into its slot."""
        if rows:
            work = Prefill(torch.tensor(places, device=self.model.device), rows[0].beginning)
            self._forward([row.own[:-1] for row in rows], [row.before for row in rows], work)

    def _forward(self, pieces: Sequence[Sequence[int]], begin: Sequence[int], work: Prefill) -> None:
        """The body over `pieces`, padded behind: what stands there is masked until it is written over."""
        ids, device = padded(pieces).clamp(min=0), self.model.device
        positions = torch.tensor(begin).unsqueeze(1) + torch.arange(ids.shape[1])
        self.model.model(input_ids=ids.to(device), position_ids=positions.to(device), use_cache=False,
                         slots=self._slots, work=work)

    # ---- writing

    def _logits(self) -> torch.Tensor:
        """Logits (B, V) behind every live row."""
        device = self.model.device
        tokens = [row.written[-1] if row.written else row.prompt_ids[-1] for row in self._live]
        lengths = torch.tensor([row.size - 1 for row in self._live], device=device)
        before = torch.tensor([row.before for row in self._live], device=device)
        work = DecodeStep(lengths, max(row.size for row in self._live), before, list(self._groups(device)))
        output = self.model(
            input_ids=torch.tensor(tokens, device=device).unsqueeze(1), position_ids=(before + lengths).unsqueeze(1),
            use_cache=False, slots=self._slots, work=work)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _groups(self, device: torch.device) -> Iterator[tuple[SharedPrefix, torch.Tensor | None]]:
        """The beginnings of live rows, each with its rows; None for all."""
        found: dict[SharedPrefix, list[int]] = {}
        for place, row in enumerate(self._live):
            if row.beginning is not None:
                found.setdefault(row.beginning, []).append(place)
        for beginning, places in found.items():
            yield beginning, None if len(places) == len(self._live) else torch.tensor(places, device=device)

    def _take(self, logits: torch.Tensor, began: float) -> list[Generation]:
        """Give every live row its token; those that ended leave."""
        tokens, rows = pick_tokens(logits, self._live), list(self._live)
        share_s = (time.monotonic() - began) / len(rows)
        for place, row in enumerate(rows):
            if row.top:
                row.scores.append(token_scores(logits[place:place + 1], torch.tensor(tokens[place:place + 1]), row.top))
            row.accept(tokens[place], self.decode)
            row.elapsed_s += share_s
            if self._on_token is not None:
                self._on_token(row)
        for place in reversed(range(len(rows))):
            if rows[place].finish:
                self._remove(place)
        if self.is_idle:
            self._slots.clear()
        return [row for row in rows if row.finish]


def _asks_the_same(other: Generation, row: Generation) -> bool:
    """`other` holds in its slot all that `row` has to read."""
    return other.beginning is row.beginning and not row.written and other.prompt_ids == row.prompt_ids
