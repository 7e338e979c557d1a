"""The engines of contestants that answer one after the other in one process: each goes on with the base that the one
before it loaded, so that a base is loaded once and adapters are put on and taken off. Holds the weights of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from localdistill.engines.base import Engine
from localdistill.recipe import Member
from localdistill.stages.context import StageContext


@runtime_checkable
class Sharing(Protocol):
    """Of an engine whose weights another one may have loaded."""

    def take_over(self, other: Engine) -> bool:
        """Go on with what `other` loaded, and close it, where that is the same base held alike, whatever either adds to
        it: the answers are those of an engine that loads by itself. Else False, with nothing done."""


class EngineRelay:
    """Opens engines, and keeps the last one open for the next to take over from. Close it before anything else wants
    the memory: the next engine then loads anew."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._last: Engine | None = None

    @contextmanager
    def engine(self, member: Member) -> Iterator[Engine]:
        """See `StageContext.open_engine`. One that fails is closed at once."""
        engine = self._context.open_engine(member)
        if self._last is not None and not (isinstance(engine, Sharing) and engine.take_over(self._last)):
            self._last.close()
        self._last = engine
        try:
            yield engine
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free what the last engine holds. Harmless to call twice."""
        last, self._last = self._last, None
        if last is not None:
            last.close()
