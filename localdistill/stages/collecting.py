"""The asking of the collect stage: requests out to every engine at once, replies into the journal as they come. Which
sets there are and what becomes of them is the stage's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from localdistill.core.borders import BORDERS
from localdistill.core.errors import BudgetReached, EngineUnavailable, PartialResult
from localdistill.core.events import Cancel, Counted, Measured, Progressed, Streamed
from localdistill.core.records import Reply, Request, trace_of
from localdistill.stages.asked_prompts import terms_with
from localdistill.stages.asking import RequestQueue, Teacher, making_few, side_by_side
from localdistill.stages.context import JournalledWriter, StageContext
from localdistill.stages.questions import with_way_on
from localdistill.stages.rechecking import RejectionWatch, SilenceWatch, keep_probe, last_probe, recheck
from localdistill.stages.verifying import Pair, Verdict, VerdictQueue, Verifier
from localdistill.templates.unknown_marks import unknown_mark
from localdistill.workspace.quarantine import quarantine

SHOW_EVERY_S = 0.05
MOST_ERRORS = 5
"""Kinds of errors told while asking."""
TAIL = 1000
"""Characters of thinking, and of answer, told of the newest reply."""


class Collecting:
    """One round of asking: queues of requests out, replies into the journal."""

    def __init__(self, context: StageContext, teachers: Sequence[Teacher], queues: Sequence[RequestQueue],
                 verifier: Verifier | None, done: int) -> None:
        """done: how many answers are there already. The queues are those of the teachers, in their order."""
        self._context, self._teachers, self._queues, self._verifier = context, teachers, queues, verifier
        self._done, self._total = done, done + sum(map(len, queues))
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self._of_sets: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        """What looks like a mark of reasoning and is none that we know -> answers that hold it."""
        self.foreign: Counter[str] = Counter()
        """Runs that ask for some of it meanwhile -> how many questions."""
        self._tokens = 0
        self._shown_at = 0.0
        self._lanes: dict[str, list[int]] = {}
        """Places of the queues that one engine serves."""
        for place, teacher in enumerate(teachers):
            self._lanes.setdefault(teacher.name, []).append(place)
        self._asked_by: dict[str, int] = {}
        """Request -> place of its queue."""
        self._watches = {name: RejectionWatch() for name in self._lanes}
        self._silent = [SilenceWatch(teacher.reasoning_within) for teacher in teachers]
        self._verdicts: VerdictQueue | None = None
        self._scores = context.logprobs() if any(one.top_logprobs for one in context.recipe.asked) else None

    def run(self) -> None:
        """Ask for everything that is queued. Raises what ends the asking early; what came is kept."""
        context, began = self._context, time.monotonic()
        try:
            with context.journal() as journal, making_few(), self._judging(journal):
                # Rejected answers queue further tries; what came too late for one round starts the next.
                while any(self._queues) and not context.cancel.is_set() and not self._is_silent():
                    for reply in side_by_side([self._stream(lane) for lane in self._lanes.values()]):
                        self._take(journal, self._asked_by.pop(reply.request_id), reply)
                    if self._verdicts is not None:
                        self._verdicts.wait()
        except (BudgetReached, EngineUnavailable) as error:
            raise with_way_on(context, error, f"{self._done} of {self._total} answers are kept") from None
        finally:
            if self._scores is not None:
                self._scores.close()
            context.store.release(context.run.id)
            context.emit(Counted("replies", dict(self._counts)))
            context.say_spending()
            elapsed_s = time.monotonic() - began
            context.emit(Measured("tokens_per_s", self._tokens / max(elapsed_s, 1e-9)))
        context.cancel.check()
        for teacher, watch in zip(self._teachers, self._silent, strict=True):
            if watch.fired:
                raise PartialResult(
                    f"{teacher.name} is to think, and {watch.seen}; {self._done} of {self._total} answers are kept",
                    "where another field holds the reasoning, name it in the engine's reasoning_fields; a server of "
                    "your own may need a reasoning parser. reasoning_within = 0 in the set takes answers without "
                    f"reasoning: localdistill resume {context.run.id} goes on")
        for run_id, count in self.foreign.items():
            context.note(f"{count} questions are being asked by run {run_id}: localdistill attach {run_id}")
        for text, count in self._errors.most_common(3):
            context.warn(f"{count} replies failed: {text}",
                         f"what came instead: localdistill quarantine {context.run.id}")

    @contextmanager
    def _judging(self, journal: JournalledWriter) -> Iterator[None]:
        """Answers get their verdicts, where the recipe wants them, in the length of the block."""
        if self._verifier is None:
            yield
            return
        self._verdicts = VerdictQueue(self._verifier, partial(self._judged, journal))
        try:
            yield
            self._verdicts.wait()
        finally:
            self._verdicts.close()

    def _judged(self, journal: JournalledWriter, place: int, pair: Pair, verdict: Verdict) -> None:
        """Keep a verdict; an answer that was rejected queues the next try, one without a verdict waits for a resume."""
        queue, (_, trace) = self._queues[place], pair
        if verdict.facts:
            journal.add_facts(verdict.facts)
        if verdict.accepted is None:
            queue.gave_up(trace.id)
            return
        before = len(queue)
        queue.answered(trace.id, verdict.accepted)
        self._total += max(0, len(queue) - before)

    def _is_without_verdicts(self) -> bool:
        """What gives verdicts has ended early: nothing more is to be asked."""
        return self._verdicts is not None and self._verdicts.problem is not None

    def _is_silent(self) -> bool:
        """A teacher that is to think shows nothing of it: nobody is asked more."""
        return any(watch.fired for watch in self._silent)

    def _stream(self, lane: Sequence[int]) -> Callable[[Callable[[], bool]], Iterator[Reply]]:
        def answers(stopped: Callable[[], bool]) -> Iterator[Reply]:
            cancel = Cancel(lambda: stopped() or self._context.cancel.is_set() or self._is_without_verdicts()
                            or self._is_silent())
            yield from self._teachers[lane[0]].engine.answer(self._claimed(lane), self._context.emit, cancel)

        return answers

    def _claimed(self, lane: Sequence[int]) -> Iterator[Request]:
        """The queued requests that no other run asks or has asked meanwhile, claimed just before they are sent; those
        of the first set first."""
        count, most = BORDERS.claimed_first, BORDERS.claimed_most
        while taken := next(((at, chunk) for at in lane if (chunk := self._queues[at].take(count))), None):
            at, chunk = taken
            queue = self._queues[at]
            foreign = self._context.claim([request.id for request in chunk])
            answered = self._context.answered_elsewhere([one.id for one in chunk if one.id not in foreign])
            for request in chunk:
                if request.id in foreign or request.id in answered:
                    queue.gave_up(request.id)
            self._done += len(answered)
            self.foreign.update(foreign.values())
            for request in chunk:
                if request.id not in foreign and request.id not in answered:
                    self._asked_by[request.id] = at
                    yield request
            count = min(most, count * 4)

    def _take(self, journal: JournalledWriter, place: int, reply: Reply) -> None:
        teacher, queue = self._teachers[place], self._queues[place]
        question = queue.question(reply.request_id)
        prompt = question.prompt
        self._counts[reply.status] += 1
        if self._watches[teacher.name].saw(reply.status):
            self._look_again(teacher)
        self._silent[place].saw(reply)
        if reply.status == "error":
            self._errors[reply.error] += 1
            if reply.raw:
                quarantine(self._context.run.quarantine, reply, prompt.id, teacher.model)
            queue.gave_up(reply.request_id)
            self._show(teacher, None)
            return
        request = next(r for r in question.requests if r.id == reply.request_id)
        trace = trace_of(reply, request, prompt, teacher.engine.name, teacher.model,
                         terms_with(teacher.terms, prompt))
        journal.add(trace)
        if mark := unknown_mark(trace.answer):
            self.marks[mark] += 1
        if self._scores is not None and reply.scores is not None:
            self._scores.add(trace.id, reply.scores)
        if self._verdicts is None or not teacher.until_verified:
            queue.answered(reply.request_id, True)
        else:
            self._verdicts.put(place, (prompt, trace))
        self._done += 1
        self._answers[teacher.name] += 1
        self._of_sets[teacher.trace_set] += 1
        self._tokens += reply.usage.completion_tokens
        self._show(teacher, reply)

    def _look_again(self, teacher: Teacher) -> None:
        """Too many replies are of no use: find out whether the teacher changed, and say what was found."""
        context = self._context
        before = last_probe(context.workspace, teacher.model)
        for text in recheck(teacher.engine, before, context.ledger, context.cancel,
                            lambda probe: keep_probe(context.workspace, probe)):
            context.warn(f"{teacher.name}: {text}")

    def _show(self, teacher: Teacher, reply: Reply | None) -> None:
        """Say how far the asking is, and what `teacher` wrote last, where that is readable."""
        now = time.monotonic()
        if now - self._shown_at < SHOW_EVERY_S and self._done < self._total:
            return
        self._shown_at = now
        counters: dict[str, float] = {"tokens": self._tokens, "errors": self._counts["error"]}
        if spent := self._context.ledger.spent_usd:
            counters["usd"] = spent
        several = len(self._lanes)
        label = "asking the teacher" if several == 1 else f"asking {several} teachers"
        self._context.emit(Progressed(label, self._done, self._total, "answers", counters, self._tables()))
        if reply is not None:
            several_sets = len({one.trace_set for one in self._teachers}) > 1
            who = f"{teacher.name} for {teacher.trace_set}" if several_sets else teacher.name
            self._context.emit(Streamed(reply.reasoning[-TAIL:], reply.answer[-TAIL:], who,
                                        trace_set=teacher.trace_set))

    def _tables(self) -> dict[str, dict[str, int]]:
        """Who answered how often, for which sets, how the replies ended, and what the errors were."""
        sets = {"sets": dict(self._of_sets)} if len({teacher.trace_set for teacher in self._teachers}) > 1 else {}
        return {"teachers": dict(self._answers), **sets, "replies": dict(self._counts),
                "errors": dict(self._errors.most_common(MOST_ERRORS))}
