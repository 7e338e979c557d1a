"""The graders of a recipe as one question while answers are asked for: is this one accepted? Verdicts are worked out in
a thread of their own, of all answers that are there at the time: so a judge that likes batches is given what is ready
and never waits for answers that its own verdicts would bring."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from localdistill.core.judgements import judgement_among
from localdistill.core.means import Means
from localdistill.core.records import PERSON, Fact, FactScope, Prompt, Trace
from localdistill.stages.fact_makers import Saying, scope_of
from localdistill.store import Store

Pair = tuple[Prompt, Trace]


@dataclass(frozen=True)
class Verdict:
    """What the graders say of one answer."""

    facts: list[Fact] = field(default_factory=list)
    accepted: bool | None = None
    """None where an engine that a grader asks gave no reply."""


class Verifier:
    """The recipe's graders. `means` are those of each."""

    def __init__(self, graders: Sequence[tuple[Saying, Means]]) -> None:
        self._graders = graders

    def verdicts(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """On each answer, in order. A complete one that every grader which applies found right is accepted; where none
        applies, completeness is all there is. What is not complete is not judged."""
        found: dict[str, list[Fact]] = {trace.id: [] for _, trace in pairs}
        for saying, means in self._graders:
            judged = [pair for pair in pairs if pair[1].status == "complete" and saying.maker.applies(pair[0])]
            for fact in saying.facts(judged, means) if judged else ():
                found[fact.subject_id].append(fact)
        return [self.verdict(*pair, found[pair[1].id]) for pair in pairs]

    def recalled(self, pairs: Sequence[Pair], store: Store) -> list[Verdict]:
        """On stored answers, in order: what is known of them, else a verdict of now."""
        known = store.facts([trace.id for _, trace in pairs], [*self.scope, PERSON])
        found = {trace.id: self.verdict(prompt, trace, known.get(trace.id, [])) for prompt, trace in pairs}
        missing = [pair for pair in pairs if found[pair[1].id].accepted is None]
        found |= {trace.id: verdict for (_, trace), verdict in zip(missing, self.verdicts(missing))}
        return [found[trace.id] for _, trace in pairs]

    @property
    def scope(self) -> FactScope:
        """Whose verdicts count."""
        return scope_of(saying for saying, _ in self._graders)

    def verdict(self, prompt: Prompt, trace: Trace, facts: list[Fact]) -> Verdict:
        """What facts that are known come to."""
        if trace.status != "complete":
            return Verdict([], False)
        if (judged := judgement_among(facts).passed) is not None:
            return Verdict(facts, judged)
        graded = [fact for fact in facts if fact.kind != "judgement"]
        said = {fact.by for fact in graded}
        if any(not fact.passed for fact in graded):
            return Verdict(facts, False)
        wanted = {saying.key[0] for saying, _ in self._graders if saying.maker.applies(prompt)}
        return Verdict(facts, True if wanted <= said else None)


class VerdictQueue:
    """Answers that wait for their verdict, and the thread that gives it."""

    def __init__(self, verifier: Verifier, tell: Callable[[int, Pair, Verdict], None]) -> None:
        """tell: called in that thread with the place of the teacher, the answer and its verdict."""
        self._verifier, self._tell = verifier, tell
        self._waiting: queue.SimpleQueue[tuple[int, Pair] | None] = queue.SimpleQueue()
        self._count = 0
        self._changed = threading.Condition()
        self.problem: BaseException | None = None
        """What ended the thread."""
        self._thread = threading.Thread(target=self._work, daemon=True, name="verdicts")
        self._thread.start()

    def put(self, place: int, pair: Pair) -> None:
        """Let this answer be judged."""
        with self._changed:
            self._count += 1
        self._waiting.put((place, pair))

    def wait(self) -> None:
        """Return when every answer has its verdict. Raises what ended the thread."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count or self.problem is not None)
        if self.problem is not None:
            raise self.problem

    def close(self) -> None:
        """End the thread, after the answers that it looks at now."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while batch := self._ready():
                for (place, pair), verdict in zip(batch, self._verifier.verdicts([pair for _, pair in batch])):
                    self._tell(place, pair, verdict)
                with self._changed:
                    self._count -= len(batch)
                    self._changed.notify_all()
        except BaseException as problem:
            with self._changed:
                self.problem = problem
                self._changed.notify_all()

    def _ready(self) -> list[tuple[int, Pair]]:
        """What is there, at least one answer; nothing when it is over."""
        first = self._waiting.get()
        batch = [first] if first is not None else []
        while batch and not self._waiting.empty():
            if (further := self._waiting.get()) is None:
                self._waiting.put(None)
                break
            batch.append(further)
        return batch
