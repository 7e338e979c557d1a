"""grade: every grader and label of the recipe says what it has not said yet, of the collected traces and their prompts.
Graders come first: some labels follow from their verdicts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from localdistill.core.errors import BudgetReached, EngineUnavailable
from localdistill.core.events import Counted, Emit, Progressed
from localdistill.core.facts import MADE_ANEW
from localdistill.core.records import Fact, FactScope, Prompt, Trace
from localdistill.recipe.trace_sets import HowAsked
from localdistill.stages.context import StageContext
from localdistill.stages.fact_makers import Saying, makers_of, sayings_of, scope_of
from localdistill.stages.outputs import GradeOutput, write_output
from localdistill.stages.questions import Questions, with_way_on

WRITE_EVERY_S = 1.0
SHOW_EVERY = 100
MOST_VALUES = 12
"""Different values of a label that are counted one by one."""


def run(context: StageContext) -> None:
    """Store the missing facts of the collected traces."""
    with Questions(context) as questions, sayings_of(context, questions, makers_of(context.recipe)) as sayings:
        say_all(context, questions, sayings, context.run.ids("collect"), context.emit)
        scope = scope_of(sayings)
    graders = [saying.key[0] for saying in sayings if saying.maker.kind == "grade"]
    labels = [saying.key[0] for saying in sayings if saying.maker.kind == "label"]
    write_output(context.run, GradeOutput(tuple(graders), tuple(labels), tuple(scope)))


def say_all(context: StageContext, questions: Questions, sayings: Sequence[Saying], ids: Sequence[str],
            emit: Emit) -> None:
    """Store what `sayings` have not said yet of these traces, or of their prompts; `emit` is told. Raises BudgetReached
    or EngineUnavailable, with the way on, when an engine that one of them asks stops, PartialResult when too many
    questions got no reply."""
    try:
        for saying in sayings:
            _say(context, questions, saying, ids, scope_of(sayings), emit)
    except (BudgetReached, EngineUnavailable) as error:
        raise with_way_on(context, error, "what was said before is kept") from None
    finally:
        context.say_spending()
    may_fail = min((one.may_fail for one in context.recipe.asked), default=HowAsked().may_fail)
    questions.require_replies(may_fail)


def _say(context: StageContext, questions: Questions, saying: Saying, ids: Sequence[str], scope: FactScope,
         emit: Emit) -> None:
    maker, label = saying.maker, f"{saying.key[0]}@{saying.key[1]}"
    context.store.expect_facts(type(maker), saying.key[2])
    subjects = _subjects(context, ids) if maker.about == "prompt" else {i: [i] for i in ids}
    known = _known(context, saying, list(subjects))
    open_ids = [i for subject, own in subjects.items() if subject not in known for i in own]
    if not open_ids:
        return
    means = questions.means_of(maker.name, saying.options, maker.needs, scope, open_ids)
    pairs = (pair for pair in context.pairs(open_ids) if maker.applies(pair[0]))
    if (first := next(pairs, None)) is None:
        if maker.kind == "grade":
            context.warn(f"{maker.name} has nothing to judge in {len(open_ids):,} traces: their prompts lack what it "
                         "compares with", "`localdistill show TRACE` shows a prompt; another grader may apply to it")
        return
    counts = Counter[str]()
    before = context.store.facts(list(subjects), [saying.key]) if MADE_ANEW & maker.needs else {}
    with _Written(context, before) as written:
        for done, fact in enumerate(saying.facts(_checked(context, chain([first], pairs)), means), start=1):
            written.add(fact)
            counts[_told(fact)] += 1
            if done % SHOW_EVERY == 0:
                emit(Progressed(maker.name, done, len(open_ids), f"{maker.about}s"))
    emit(Progressed(maker.name, counts.total(), counts.total(), f"{maker.about}s"))
    if counts:
        emit(Counted(label, dict(counts) if len(counts) <= MOST_VALUES else {"labelled": counts.total()}))


def _subjects(context: StageContext, ids: Sequence[str]) -> Mapping[str, list[str]]:
    """The prompts of the traces, each with its traces."""
    found: dict[str, list[str]] = {}
    for batch in context.store.batches(["trace_id", "prompt_id"], ids=ids):
        for trace_id, prompt_id in zip(*(batch.column(name).to_pylist() for name in ("trace_id", "prompt_id"))):
            found.setdefault(prompt_id, []).append(trace_id)
    return found


def _known(context: StageContext, saying: Saying, subjects: list[str]) -> set[str]:
    """Of whom nothing more is to be said. What follows from verdicts or from other traces is worked out again."""
    return set() if MADE_ANEW & saying.maker.needs else context.store.said(subjects, saying.key)


def _checked(context: StageContext, pairs: Iterable[tuple[Prompt, Trace]]) -> Iterator[tuple[Prompt, Trace]]:
    for pair in pairs:
        context.cancel.check()
        yield pair


def _told(fact: Fact) -> str:
    """How a fact is counted."""
    if fact.kind == "grade":
        return "undecided" if fact.passed is None else "right" if fact.passed else "wrong"
    if fact.value is None:
        return "none"
    return fact.value if isinstance(fact.value, str) else f"{fact.value:g}"


class _Written:
    """Facts on their way into the store, in batches; those that are there already are left out."""

    def __init__(self, context: StageContext, before: Mapping[str, Sequence[Fact]]) -> None:
        self._context, self._before = context, before
        self._batch: list[Fact] = []
        self._written_at = time.monotonic()

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, fact: Fact) -> None:
        """Keep a fact; it is stored within a second."""
        if [fact] == list(self._before.get(fact.subject_id, ())):
            return
        self._batch.append(fact)
        if time.monotonic() - self._written_at > WRITE_EVERY_S:
            self._write()

    def _write(self) -> None:
        if self._batch:
            self._context.worked()
            self._context.store.add_facts(self._batch)
        self._batch, self._written_at = [], time.monotonic()
