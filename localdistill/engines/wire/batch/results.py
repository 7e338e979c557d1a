"""From the file of a batch's results to replies and to what they cost. Reads line by line, so that memory does not grow
with the batch; asks nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import IO

from localdistill.core.records import Reply, Request
from localdistill.engines.wire.batch.protocols import BatchProtocol, Item
from localdistill.engines.wire.batch.states import BatchState
from localdistill.engines.wire.charges import charge_of
from localdistill.engines.wire.collected import Malformed, asked_tokens, reply_of
from localdistill.engines.wire.dispatcher import Rules
from localdistill.engines.wire.http import KEPT_BYTES, MAX_LINE_BYTES, Target
from localdistill.spending.ledger import NANO

_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([^"\\]{1,64})"')
_PROVEN_BY = 8


class Results:
    """The results of one batch. `cost_nano` and `strays` are whole once `replies` has ended."""

    def __init__(self, state: BatchState, wanted: Mapping[int, Request], protocol: BatchProtocol, target: Target,
                 rules: Rules, problem: str) -> None:
        """wanted: who waits for which item; all others are counted only. problem: why results may be missing."""
        self._state, self._wanted, self._protocol, self._target = state, wanted, protocol, target
        self._rules, self._problem = rules, problem
        self.cost_nano = 0
        """What the whole batch cost, items included that nobody waits for; those whose cost nobody knows count with
        the most that they were told."""
        self.unseen = 0
        """How many these are."""
        self.excess_nano = 0
        """By how much an item cost more than that."""
        self.strays = 0
        """Lines that belong to no request."""

    def is_ours(self, file: IO[bytes]) -> bool:
        """Whether the results name items of this batch."""
        token = self._state.token.encode()
        return any(token in line for line, _ in zip(_lines(file), range(_PROVEN_BY), strict=False))

    def are_cut(self, file: IO[bytes], least: int) -> bool:
        """Whether something is missing at the end: there are fewer than `least` lines, or the last is half a one."""
        count, last = 0, b"{}"
        for line in _lines(file):
            count, last = count + 1, line
        try:
            json.loads(self._text(last))
        except (ValueError, RecursionError):
            return True
        return count < least

    def replies(self, file: IO[bytes], rest_is_free: bool = False) -> Iterator[Reply]:
        """A reply for every wanted item, be it an error. rest_is_free: what has no result was not worked on."""
        seen = bytearray(len(self._state.ids))
        for line in _lines(file):
            item = self._item(line)
            if item is None:
                self.strays += 1
                continue
            if seen[item.index]:
                continue
            seen[item.index] = 1
            reply, cost = self._judged(item, line)
            self.cost_nano += cost
            if item.index in self._wanted:
                yield self._priced(reply, cost)
        for index, was_seen in enumerate(seen):
            if not was_seen:
                cost = self._most(index, rest_is_free)
                self.cost_nano += cost
                if index in self._wanted:
                    error = self._problem or "the batch ended without a result for this request"
                    yield self._priced(Reply(self._wanted[index].id, "error", error=error), cost)

    def _item(self, line: bytes) -> Item | None:
        """What a line says; a damaged one is an item all the same as long as it shows whose it is."""
        try:
            row = json.loads(self._text(line)) if len(line) <= MAX_LINE_BYTES else None
        except (ValueError, RecursionError):
            row = None
        if row is not None:
            return self._protocol.read(self._state, row, self._target.dialect)
        named = _CUSTOM_ID.search(line)
        index = self._state.index_of(named[1].decode("ascii", "replace")) if named else None
        if index is None:
            return None
        fault = "longer than allowed" if len(line) > MAX_LINE_BYTES else "no JSON"
        return Item(index, error=f"the line of results is {fault}")

    def _judged(self, item: Item, line: bytes) -> tuple[Reply, int]:
        """The reply (of an unwanted item, anybody's) and its cost in nano-dollars."""
        request = self._wanted.get(item.index)
        name = request.id if request else self._state.ids[item.index]
        kept = self._text(line[:KEPT_BYTES])
        if item.error:
            return (Reply(name, "error", raw=kept, error=item.error[:500]), self._most(item.index, item.is_free))
        try:
            collected = self._target.dialect.collect(item.body)
        except Malformed as problem:
            return Reply(name, "error", raw=kept, error=str(problem)), self._most(item.index)
        raw = json.dumps(item.body, ensure_ascii=False)
        most, asked = (request.sampling.max_tokens, asked_tokens(request.messages)) if request else (0, 0)
        reply = reply_of(collected, name, raw, most, 0.0, prompt_tokens=asked,
                         may_lack_finish=self._rules.may_lack_finish)
        charge, told = charge_of(self._rules.price, reply, asked), self._state.worst[item.index]
        self.excess_nano = max(self.excess_nano, charge.seen - told)
        return reply, self._most(item.index) if charge.nano is None else charge.nano

    def _most(self, index: int, is_free: bool = False) -> int:
        """What an item counts with that has no cost of its own."""
        self.unseen += not is_free
        return 0 if is_free else self._state.worst[index]

    def _priced(self, reply: Reply, cost: int) -> Reply:
        return replace(reply, cost_usd=None if self._rules.price is None else cost / NANO)

    def _text(self, data: bytes) -> str:
        return self._target.text(data)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines of the whole file that hold something. Of one that is too long only the start comes, one byte longer than
    allowed."""
    file.seek(0)
    while line := file.readline(MAX_LINE_BYTES + 1):
        if not line.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        line = line.removesuffix(b"\n")
        if line.strip():
            yield line
