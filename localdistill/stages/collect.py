"""collect: prompts and their traces come into the store, from teachers that answer or from files that hold answers.
Only what is not stored yet is asked; every reply is in the journal before anything else happens to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from localdistill.core.errors import BudgetReached, EngineUnavailable, InputError, PartialResult, SpendingUnknown
from localdistill.core.events import Cancel, Counted, Measured, Progressed, Streamed
from localdistill.core.records import Prompt, Reply, Request, trace_of
from localdistill.graders import GRADERS
from localdistill.recipe import advice_on
from localdistill.recipe.sections import PromptsSection
from localdistill.stages.asking import (
    Asker,
    RequestQueue,
    Teacher,
    evenly,
    find_open,
    making_few,
    side_by_side,
    unique,
)
from localdistill.stages.context import JournalledWriter, StageContext, read_section
from localdistill.stages.fact_makers import makers_of, sayings_of
from localdistill.stages.outputs import CollectOutput, write_output
from localdistill.stages.questions import Questions
from localdistill.stages.rechecking import RejectionWatch, keep_probe, last_probe, recheck
from localdistill.stages.verifying import Pair, Verdict, VerdictQueue, Verifier
from localdistill.store.writing import chunked
from localdistill.templates.unknown_marks import MARK_HINT, unknown_mark
from localdistill.workspace.quarantine import quarantine
from localdistill.workspace.terms import terms_of

CLAIM_S = 3600.0
CLAIM_ROWS = (64, 1024)
"""Requests claimed in one session: few at first, so that the first is sent soon, then many."""
SHOW_EVERY_S = 0.05
RECALLED = 256
"""Stored answers that are judged together."""
MOST_ERRORS = 5
"""Kinds of errors told while asking."""
TAIL = 1000
"""Characters of thinking, and of answer, told of the newest reply."""


def run(context: StageContext) -> None:
    """Leave `collect.ids` (traces, in prompt order) and the counts per status."""
    for key, text in advice_on(context.recipe):
        context.warn(f"{key}: {text}")
    ids: list[str] = []
    unanswered, marks = 0, Counter[str]()
    if context.recipe.traces:
        ids += _import(context, context.recipe.traces, marks)
    if context.recipe.prompts:
        asked, unanswered = _ask(context, context.recipe.prompts, marks)
        ids += asked
    context.run.write_ids("collect", ids)
    write_output(context.run, CollectOutput(len(ids), context.ledger.spent_usd, unanswered, dict(marks.most_common())))


def _import(context: StageContext, section: PromptsSection, marks: Counter[str]) -> list[str]:
    rows = list(read_section(section, context.base))
    if not any(row.trace for row in rows):
        raise InputError(
            f"{', '.join(section.files)}: no row holds an answer of a model",
            "files that hold only questions belong under [prompts], with a [teacher]",
        )
    new = context.store.add_prompts(row.prompt for row in rows)
    new += context.store.add_traces(row.trace for row in rows if row.trace)
    if new:
        context.worked()
    traces = [row.trace for row in rows if row.trace]
    context.emit(Counted("imported", dict(Counter(f"{t.model} {t.status}" for t in traces))))
    marks.update(mark for trace in traces if (mark := unknown_mark(trace.answer)))
    _say_unknown_marks(context, marks)
    return list(dict.fromkeys(trace.id for trace in traces))


def _say_unknown_marks(context: StageContext, marks: Counter[str]) -> None:
    """Count and warn of answers that hold what looks like a mark of reasoning and is none that we know."""
    if marks:
        context.emit(Counted("unknown marks", dict(marks.most_common())))
        named = ", ".join(f"{count} x {mark}" for mark, count in marks.most_common(MOST_ERRORS))
        context.warn(f"{marks.total()} answers hold what looks like a mark of reasoning and is none that we "
                     f"know: {named}", MARK_HINT)


def _ask(context: StageContext, section: PromptsSection, marks: Counter[str]) -> tuple[list[str], int]:
    """The ids of the answers, and how many questions have none."""
    options = context.recipe.collect
    prompts: Iterable[Prompt] = (item.prompt for item in read_section(section, context.base))
    if sample := int(context.run.request().get("sample", 0)):
        prompts = evenly(list(unique(prompts)), sample)

    def answered(ids: list[str]) -> set[str]:
        context.cancel.check()
        return context.store.known_traces(ids)

    with ExitStack() as stack:
        teachers = _teachers(context, stack)
        context.take_in_journals()
        context.release_claims_of_the_dead()
        orphans = context.store.without_prompt()
        count = find_open(teachers, prompts, answered, partial(_keep, context), options.until_verified,
                          orphans, context.store.give_prompts)
        _say_what_came_back(context, orphans)
        wanted = [key for teacher in teachers for key in teacher.ids]
        verifier = None
        if options.until_verified:
            verifier = _verifier(context, stack)
            _recall(context, teachers, verifier)
        queues = [RequestQueue(teacher, context.store.prompts, options.until_verified) for teacher in teachers]
        if any(queues):
            context.worked()
            collecting = _Collecting(context, teachers, queues, verifier, count)
            try:
                collecting.run()
            finally:
                _say_unknown_marks(context, collecting.marks)
                marks.update(collecting.marks)
    stored = context.store.known_traces(wanted)
    lost = _say_what_is_lost(context, teachers, stored)
    if verifier is not None:
        _count_tries(context, teachers)
    return [key for key in wanted if key in stored], lost


def _keep(context: StageContext, prompts: Sequence[Prompt]) -> None:
    """Store the prompts of questions without an answer, and of answers whose prompt is lost."""
    there = context.store.known_prompts(prompt.id for prompt in prompts)
    if context.store.add_prompts(prompt for prompt in prompts if prompt.id not in there):
        context.worked()


def _say_what_came_back(context: StageContext, orphans: Mapping[str, str]) -> None:
    if orphans and (back := len(orphans) - len(context.store.without_prompt())):
        context.worked()
        context.note(f"{back} stored answers had lost their prompt; it is stored again")


def _teachers(context: StageContext, stack: ExitStack) -> list[Teacher]:
    """Every teacher of the recipe."""
    teachers = []
    for section in context.recipe.teachers:
        engine = stack.enter_context(context.engine(section))
        terms = terms_of(section.use, section.options)
        asker = Asker(context.recipe, engine)
        teachers.append(Teacher(section.name or engine.name, engine, asker, engine.identity(), terms))
    return teachers


def _verifier(context: StageContext, stack: ExitStack) -> Verifier:
    """The graders of the recipe, with the engines that they ask."""
    questions = stack.enter_context(Questions(context))
    graders = [made for made in makers_of(context.recipe) if made[0] is GRADERS]
    sayings = stack.enter_context(sayings_of(context, questions, graders))
    return Verifier([(one, questions.means_of(one.maker.name, one.options, one.maker.needs)) for one in sayings])


def _recall(context: StageContext, teachers: Sequence[Teacher], verifier: Verifier) -> None:
    """Where each question stands, from the answers that are stored; those without a verdict are judged now."""
    asked = {request.id: question for t in teachers for question in t.questions for request in question.requests
             if request.id not in t.unasked}
    for pairs in chunked(context.pairs(list(asked)), RECALLED):
        context.cancel.check()
        for (_, trace), verdict in zip(pairs, verifier.recalled(pairs, context.store), strict=True):
            question = asked[trace.id]
            question.tries += 1
            question.accepted |= bool(verdict.accepted)


def _say_what_is_lost(context: StageContext, teachers: Sequence[Teacher], stored: set[str]) -> int:
    """How many prompts have no answer. PartialResult when these are more than allowed; a warning when a few."""
    options = context.recipe.collect
    total = lost = 0
    for teacher in teachers:
        if options.until_verified:
            total += len(teacher.questions)
            lost += sum(question.is_open(True) for question in teacher.questions)
        else:
            total += len(teacher.ids)
            lost += sum(key not in stored for key in teacher.ids)
    if lost > options.may_fail * total:
        raise PartialResult(
            f"{lost} of {total} questions have no answer yet",
            f"localdistill resume {context.run.id} asks only for those",
        )
    if lost:
        context.warn(
            f"{lost} of {total} questions have no answer and are left out",
            f"localdistill resume {context.run.id} asks for those again",
        )
    return lost


def _count_tries(context: StageContext, teachers: Sequence[Teacher]) -> None:
    """Say how many tries each prompt took, of the teacher that needed fewest; `>n` where none was accepted."""
    tries: dict[str, str] = {}
    for teacher in teachers:
        for question in teacher.questions:
            before = tries.get(question.prompt.id, ">")
            mine = str(question.tries) if question.accepted else f">{question.tries}"
            if before.startswith(">") or (question.accepted and question.tries < int(before)):
                tries[question.prompt.id] = mine
    counts = Counter(tries.values())
    context.emit(Counted("tries until verified", {k: counts[k] for k in sorted(counts, key=_by_size)}))


def _by_size(tries: str) -> tuple[int, int]:
    return (int(tries.lstrip(">")), tries.startswith(">"))


class _Collecting:
    """The asking of one stage: lines of requests out, replies into the journal."""

    def __init__(self, context: StageContext, teachers: Sequence[Teacher], queues: Sequence[RequestQueue],
                 verifier: Verifier | None, done: int) -> None:
        self._context, self._teachers, self._queues, self._verifier = context, teachers, queues, verifier
        self._done, self._total = done, done + sum(map(len, queues))
        self._counts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._answers: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        """What looks like a mark of reasoning and is none that we know -> answers that hold it."""
        self._tokens = self._foreign = 0
        self._shown_at = 0.0
        self._watches = [RejectionWatch() for _ in teachers]
        self._verdicts: VerdictQueue | None = None
        self._scores = context.logprobs() if context.recipe.collect.top_logprobs else None

    def run(self) -> None:
        """Ask for everything that is queued. Raises what ends the asking early; what came is kept."""
        context, began = self._context, time.monotonic()
        try:
            with context.journal() as journal, making_few(), self._judging(journal):
                # Rejected answers queue further tries; what came too late for one round starts the next.
                while any(self._queues) and not context.cancel.is_set():
                    for place, reply in side_by_side([self._stream(place) for place in range(len(self._queues))]):
                        self._take(journal, place, reply)
                    if self._verdicts is not None:
                        self._verdicts.wait()
        except EngineUnavailable as error:
            raise EngineUnavailable(
                f"{error.message}; {self._done} of {self._total} answers are kept",
                f"localdistill resume {context.run.id} continues. {error.hint}".strip(),
            ) from None
        except BudgetReached as error:
            is_unknown = isinstance(error, SpendingUnknown)
            hint = f"localdistill resume {context.run.id} --max-usd N goes on under a higher cap"
            raise type(error)(
                f"{error.message}; {self._done} of {self._total} answers are kept", error.hint if is_unknown else hint
            ) from None
        finally:
            if self._scores is not None:
                self._scores.close()
            context.store.release(context.run.id)
            context.emit(Counted("replies", dict(self._counts)))
            context.say_spending()
            elapsed_s = time.monotonic() - began
            context.emit(Measured("tokens_per_s", self._tokens / max(elapsed_s, 1e-9)))
        context.cancel.check()
        if self._foreign:
            context.note(f"{self._foreign} questions are being asked by another run")
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

    def _stream(self, place: int) -> Callable[[Callable[[], bool]], Iterator[tuple[int, Reply]]]:
        def answers(stopped: Callable[[], bool]) -> Iterator[tuple[int, Reply]]:
            cancel = Cancel(lambda: stopped() or self._context.cancel.is_set() or self._is_without_verdicts())
            engine = self._teachers[place].engine
            for reply in engine.answer(self._claimed(self._queues[place]), self._context.emit, cancel):
                yield place, reply

        return answers

    def _is_without_verdicts(self) -> bool:
        """What gives verdicts has ended early: nothing more is to be asked."""
        return self._verdicts is not None and self._verdicts.problem is not None

    def _claimed(self, queue: RequestQueue) -> Iterator[Request]:
        """The queued requests that no other run asks or has asked meanwhile, claimed just before they are sent."""
        count, most = CLAIM_ROWS
        while chunk := queue.take(count):
            granted = self._context.store.claim([request.id for request in chunk], self._context.run.id, CLAIM_S)
            answered = self._context.answered_elsewhere(granted)
            for request in chunk:
                if request.id not in granted or request.id in answered:
                    queue.gave_up(request.id)
            self._done += len(answered)
            self._foreign += len(chunk) - len(granted)
            yield from (request for request in chunk if request.id in granted and request.id not in answered)
            count = min(most, count * 4)

    def _take(self, journal: JournalledWriter, place: int, reply: Reply) -> None:
        teacher, queue = self._teachers[place], self._queues[place]
        question = queue.question(reply.request_id)
        prompt = question.prompt
        self._counts[reply.status] += 1
        if self._watches[place].saw(reply.status):
            self._look_again(teacher)
        if reply.status == "error":
            self._errors[reply.error] += 1
            if reply.raw:
                quarantine(self._context.run.quarantine, reply, prompt.id, teacher.model)
            queue.gave_up(reply.request_id)
            self._show(teacher, None)
            return
        request = next(r for r in question.requests if r.id == reply.request_id)
        trace = trace_of(reply, request, prompt, teacher.engine.name, teacher.model, teacher.terms)
        journal.add(trace)
        if mark := unknown_mark(trace.answer):
            self.marks[mark] += 1
        if self._scores is not None and reply.scores is not None:
            self._scores.add(trace.id, reply.scores)
        if self._verdicts is None:
            queue.answered(reply.request_id, True)
        else:
            self._verdicts.put(place, (prompt, trace))
        self._done += 1
        self._answers[teacher.name] += 1
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
        label = "asking the teacher" if len(self._teachers) == 1 else f"asking {len(self._teachers)} teachers"
        self._context.emit(Progressed(label, self._done, self._total, "answers", counters, self._tables()))
        if reply is not None:
            self._context.emit(Streamed(reply.reasoning[-TAIL:], reply.answer[-TAIL:], teacher.name))

    def _tables(self) -> dict[str, dict[str, int]]:
        """Who answered how often, how the replies ended, and what the errors were."""
        return {"teachers": dict(self._answers), "replies": dict(self._counts),
                "errors": dict(self._errors.most_common(MOST_ERRORS))}
