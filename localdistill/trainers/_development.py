"""What development items decide about one training: when it ends, and which of its weights come out. Must not know a
library, nor how items are scored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localdistill.core.events import Cancel, Emit, Measured, Noted
from localdistill.core.records import Reply
from localdistill.trainers._checkpoints import find_checkpoint, save_checkpoint
from localdistill.trainers.backend import Backend
from localdistill.trainers.job import DevItems
from localdistill.trainers.report import DevOutcome

DECIDES = "score"
"""The figure that decides; the others are only told."""


class DevDecisions:
    """The measurements of one training so far."""

    def __init__(self, items: DevItems, folder: Path, fingerprint: str, name: str) -> None:
        """folder: where the best weights are kept; fingerprint: of the training, and name: of its arm."""
        self._items, self._folder, self._fingerprint, self._name = items, folder, fingerprint, name
        self._points: list[tuple[int, float]] = []
        self._best: dict[str, Any] = {}
        """Step, score and totals of the training at the best measurement."""
        self._elapsed_s = 0.0

    def is_due(self, step: int, total: int) -> bool:
        """This step is to be measured, and was not yet."""
        wanted = step > 0 and (step % self._items.every_steps == 0 or step >= total)
        return wanted and all(step != measured for measured, _ in self._points)

    @property
    def is_over(self) -> bool:
        """The training ends here: there was no better score for long enough."""
        patience = self._items.patience
        return bool(patience) and self._since_best() >= patience

    def measure(self, step: int, totals: Mapping[str, Any], backend: Backend, emit: Emit, cancel: Cancel) -> bool:
        """Let the student answer at `step` and remember the score, and where it is the best one the weights, if those
        are to be kept. totals: of the training up to this step. True when its weights were kept; nothing is remembered
        when it was asked to cancel."""
        began = time.monotonic()
        replies = list(backend.generate(self._items.requests, cancel))
        if cancel.is_set():
            return False
        figures = self._items.score(self._in_order(replies))
        self._elapsed_s += time.monotonic() - began
        for name, value in figures.items():
            emit(Measured(f"dev {name}", value, step))
        score = figures[DECIDES]
        self._points.append((step, score))
        is_better = not self._best or score > self._best["score"]
        emit(Noted(f"{self._name}: development score at step {step}: {_percent(score)}" + (
            "" if is_better else f" (best: {_percent(self._best['score'])} at step {self._best['step']})")))
        if is_better:
            self._best = {"step": step, "score": score, **totals}
        if is_better and self._items.keeps_best:
            save_checkpoint(self._folder, step, {"fingerprint": self._fingerprint}, backend.save)
        return is_better and self._items.keeps_best

    def choose(self, step: int, backend: Backend, emit: Emit) -> Mapping[str, Any]:
        """Give the backend the best weights where those are to be kept and are not the newest; the totals of the
        training at the weights that it has then, empty where they are the newest."""
        if self.is_over:
            emit(Noted(f"{self._name}: ended at step {step}: {self._since_best()} measurements without a better "
                       f"development score than {_percent(self._best['score'])} of step {self._best['step']}"))
        if not self._items.keeps_best or not self._best or self._best["step"] == step:
            return {}
        backend.restore(self._kept())
        emit(Noted(f"{self._name}: the weights of step {self._best['step']} of {step} come out: best development "
                   f"score, {_percent(self._best['score'])}"))
        return self._best

    def outcome(self, last_step: int, kept_step: int) -> DevOutcome:
        """What is told of it."""
        return DevOutcome(self._items.count, tuple(self._points), last_step, kept_step, self._items.patience,
                          "best" if self._items.keeps_best else "last", self.is_over, self._elapsed_s)

    # ---- checkpoints

    def state(self) -> dict[str, Any]:
        """What a checkpoint remembers of it."""
        return {"points": self._points, "best": self._best, "elapsed_s": self._elapsed_s}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint remembers."""
        self._points = [(int(step), float(score)) for step, score in state["points"]]
        self._best, self._elapsed_s = dict(state["best"]), float(state["elapsed_s"])

    def is_whole(self, state: Mapping[str, Any]) -> bool:
        """The weights that `state` speaks of as the best ones are there."""
        best = state.get("best") or {}
        return not self._items.keeps_best or not best or self._found(int(best["step"])) is not None

    def _found(self, step: int) -> Path | None:
        found = find_checkpoint(self._folder, self._fingerprint, step).newest
        return found.folder if found else None

    def _kept(self) -> Path:
        folder = self._found(int(self._best["step"]))
        assert folder is not None, "it was looked for when the training was resumed, and is written whole"
        return folder

    def _since_best(self) -> int:
        """Measurements after the best one."""
        return sum(step > self._best["step"] for step, _ in self._points) if self._best else 0

    def _in_order(self, replies: Sequence[Reply]) -> list[Reply]:
        """In the order of the requests, whatever the order in which they came."""
        by_id = {reply.request_id: reply for reply in replies}
        return [by_id[request.id] for request in self._items.requests]


def _percent(score: float) -> str:
    return f"{100 * score:.1f} %"
