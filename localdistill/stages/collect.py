"""collect: prompts and their traces come into the store, set by set: from engines that answer, from files that hold
answers, and from what is stored. Only what is not stored yet is asked; every reply is in the journal before anything
else happens to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError, PartialResult
from localdistill.core.events import Counted, stamped
from localdistill.core.records import Prompt
from localdistill.engines.wire.batch.states import amount
from localdistill.graders import GRADERS
from localdistill.interchange.imported import in_batches
from localdistill.recipe import advice_on
from localdistill.recipe.trace_sets import AskedSet, ImportedSet, SelectedSet, SetSection, StoredSet
from localdistill.stages.asked_prompts import asked_prompts
from localdistill.stages.asking import Asker, RequestQueue, Teacher, find_open, leave_shared_to_the_first
from localdistill.stages.collecting import MOST_ERRORS, Collecting
from localdistill.stages.context import StageContext
from localdistill.stages.fact_makers import makers_of, sayings_of
from localdistill.stages.first_rows import trains_on_reasoning
from localdistill.stages.holdout import keep_aside
from localdistill.stages.outputs import CollectOutput, write_output
from localdistill.stages.questions import Questions
from localdistill.stages.row_files import answers_not_barred, read_section
from localdistill.stages.sets import collected
from localdistill.stages.verifying import Verifier
from localdistill.store.writing import chunked
from localdistill.templates.unknown_marks import MARK_HINT, unknown_mark
from localdistill.workspace.recovery import lost_batches
from localdistill.workspace.run_folder import list_runs
from localdistill.workspace.terms import terms_of


def run(context: StageContext) -> None:
    """Leave the ids of every set that is not rewritten (`collect-NAME`, in prompt order), of all of them (`collect`),
    and the counts per status."""
    for key, text in advice_on(context.recipe):
        context.warn(f"{key}: {text}")
    recipe, marks, unanswered = context.recipe, Counter[str](), 0
    if context.holdout is not None:
        keep_aside(context.run, context.store, context.holdout)
        context.emit(Counted("held out", {side: len(found) for side, found in context.holdout.sides.items()}))
    ids: dict[str, list[str]] = {}
    if any(isinstance(one, ImportedSet) for one in recipe.originals):
        _store_prompts(context)
    for one in recipe.originals:
        if not isinstance(one, AskedSet):
            ids[one.name] = _not_held_out(context, _found(context, one, marks), one.name)
    if recipe.asked:
        unanswered = _ask(context, ids, marks)
    for one in recipe.originals:
        context.run.write_ids(collected(one.name), list(dict.fromkeys(ids[one.name])))
    every = list(dict.fromkeys(key for one in recipe.originals for key in ids[one.name]))
    context.run.write_ids("collect", every)
    sets = {one.name: len(set(ids[one.name])) for one in recipe.originals}
    if len(sets) > 1:
        context.emit(Counted("sets", sets))
    write_output(context.run, CollectOutput(len(every), context.ledger.spent_usd, unanswered,
                                            dict(marks.most_common()), sets))


def _store_prompts(context: StageContext) -> None:
    """Store what the recipe's own file says of prompts before files of answers are read: a row of those often holds the
    question alone, and what is stored first counts."""
    if context.recipe.prompts is None:
        return
    held = context.holdout.messages() if context.holdout is not None else set()
    barred = context.store.barred()
    for rows in in_batches(read_section(context.recipe.prompts, context.base)):
        context.cancel.check()
        if context.store.add_prompts(row.prompt for row in rows
                                     if row.prompt.messages not in held and not barred.bars(row.prompt)):
            context.worked()


def _found(context: StageContext, one: SetSection, marks: Counter[str]) -> list[str]:
    """The traces of a set that nobody is asked for. What is stored is taken as it was when the run began."""
    if isinstance(one, ImportedSet):
        return _import(context, one, marks)
    if context.run.has_ids(collected(one.name)):
        return context.run.ids(collected(one.name))
    if isinstance(one, SelectedSet):
        return list(context.store.selection(one.selection).trace_ids)
    assert isinstance(one, StoredSet)
    ids = list(context.store.ids_where(one.stored))
    if not ids:
        context.warn(f"set '{one.name}': no stored trace meets the condition {one.stored}",
                     f'localdistill traces --where "{one.stored}" lists those that do')
    return ids


def _not_held_out(context: StageContext, ids: list[str], name: str) -> list[str]:
    """Those traces whose question does not hold one that is set aside."""
    if context.holdout is None:
        return ids
    index, verdicts = context.holdout.index, dict[str, bool]()
    kept = []
    for batch in context.store.batches(["trace_id", "question"], ids=ids):
        for key, question in zip(*(batch.column(column).to_pylist() for column in ("trace_id", "question"))):
            text = str(question or "")
            if text not in verdicts:
                verdicts[text] = bool(index.found_in([text]))
            if not verdicts[text]:
                kept.append(key)
    if len(kept) < len(ids):
        context.note(f"set '{name}': {len(ids) - len(kept):,} traces answer questions that are set aside, and stay out")
    return kept


def _import(context: StageContext, section: ImportedSet, marks: Counter[str]) -> list[str]:
    """Store the rows of a set's files, batch by batch: a million of them are never held."""
    store, ids, kinds, found = context.store, dict[str, None](), Counter[str](), Counter[str]()
    barred = store.barred()
    for rows in in_batches(read_section(section, context.base)):
        context.cancel.check()
        answers = answers_not_barred(rows, barred)
        new = store.add_prompts(row.prompt for row in rows)
        new += store.add_traces(answer.trace for answer in answers)
        store.add_facts(fact for answer in answers if (fact := answer.fact) is not None)
        if new:
            context.worked()
        ids.update(dict.fromkeys(answer.trace.id for answer in answers))
        kinds.update(f"{answer.trace.model} {answer.trace.status}" for answer in answers)
        found.update(mark for answer in answers if (mark := unknown_mark(answer.trace.answer)))
    if not ids:
        raise InputError(
            f"{', '.join(section.files)}: no row holds an answer of a model",
            "files that hold only questions belong under [prompts], with a [teacher]",
        )
    stamped(context.emit, trace_set=section.name)(Counted("imported", dict(kinds)))
    _say_unknown_marks(context, found)
    marks.update(found)
    return list(ids)


def _say_unknown_marks(context: StageContext, marks: Counter[str]) -> None:
    """Count and warn of answers that hold what looks like a mark of reasoning and is none that we know."""
    if marks:
        context.emit(Counted("unknown marks", dict(marks.most_common())))
        named = ", ".join(f"{count} x {mark}" for mark, count in marks.most_common(MOST_ERRORS))
        context.warn(f"{marks.total()} answers hold what looks like a mark of reasoning and is none that we "
                     f"know: {named}", MARK_HINT)


def _ask(context: StageContext, ids: dict[str, list[str]], marks: Counter[str]) -> int:
    """Ask for every set and add the ids of its answers to `ids`; returns how many questions have none."""
    with ExitStack() as stack:
        asking = _Asking(context, stack)
        context.take_in_journals()
        _say_what_others_lost(context)
        teachers, is_shared, rounds = list[Teacher](), True, 0
        while is_shared and rounds <= len(context.recipe.asked):
            teachers, is_shared = asking.round(marks)
            rounds += 1
    wanted = [key for teacher in teachers for key in teacher.ids]
    stored = context.store.known_traces(wanted)
    lost = _say_what_is_lost(context, teachers, stored, asking.foreign)
    if any(teacher.until_verified for teacher in teachers):
        _count_tries(context, teachers)
    for one in context.recipe.asked:
        own = (key for teacher in teachers if teacher.trace_set == one.name for key in teacher.ids)
        ids[one.name] = [key for key in own if key in stored]
    return lost


def _say_what_others_lost(context: StageContext) -> None:
    """Answers that were paid for and are gone with a file of another run: who asks the same pays again."""
    journals = [path for path in context.workspace.journals() if path != context.run.journal]
    for lack in context.store.lacking(journals):
        if lack.gone:
            context.warn(f"{lack.path.parent.name}: {lack}; what it held and the store does not is asked for again "
                         "where it is wanted here")
    if not any(context.recipe.engine(name).options.get("batch") for one in context.recipe.asked for name in one.ask):
        return
    for run in list_runs(context.workspace.runs):
        for batch in lost_batches(context.workspace, run) if run.id != context.run.id else ():
            context.warn(f"{run.id} handed in a batch of {amount(batch.calls)} to {batch.of}, and the file that "
                         "remembered it is gone: those that are wanted here too are paid for again",
                         "what came of it is still to be seen at the provider")


class _Asking:
    """The asked sets of a recipe, with their engines open."""

    def __init__(self, context: StageContext, stack: ExitStack) -> None:
        self._context, recipe = context, context.recipe
        self._engines = {one.name: stack.enter_context(context.engine(one)) for one in recipe.asked_engines}
        self._verifier: Verifier | None = None
        self.foreign: Counter[str] = Counter()
        """Living runs that ask for some of it -> how many questions."""
        if any(one.until_verified for one in recipe.asked):
            self._verifier = _verifier(context, stack)

    def round(self, marks: Counter[str]) -> tuple[list[Teacher], bool]:
        """Ask for what no set has an answer to yet; True with what was asked for where sets share questions, and some
        have to be looked at again."""
        context, teachers = self._context, self._teachers()
        orphans = context.store.without_prompt()
        count = find_open(teachers, asked_prompts(context), self._answered, partial(_keep, context), orphans,
                          context.store.give_prompts)
        _say_what_came_back(context, orphans)
        if self._verifier is not None:
            _recall(context, teachers, self._verifier)
        is_shared = leave_shared_to_the_first(teachers)
        queues = [RequestQueue(teacher, context.store.prompts) for teacher in teachers]
        if any(queues):
            context.worked()
            collecting = Collecting(context, teachers, queues, self._verifier, count)
            try:
                collecting.run()
            finally:
                self.foreign.update(collecting.foreign)
                _say_unknown_marks(context, collecting.marks)
                marks.update(collecting.marks)
        return teachers, is_shared

    def _answered(self, ids: list[str]) -> set[str]:
        self._context.cancel.check()
        return self._context.store.known_traces(ids)

    def _teachers(self) -> list[Teacher]:
        """Every engine of every set."""
        recipe, teachers = self._context.recipe, []
        for one in recipe.asked:
            is_to_think = (trains_on_reasoning(recipe, one.name, self._context.base) if one.thinks is None
                           else one.thinks)
            for name in one.ask:
                engine, section = self._engines[name], recipe.engine(name)
                terms = terms_of(section.use, section.options)
                asker = Asker(one, engine, recipe.seed)
                teachers.append(Teacher(name, engine, asker, engine.identity(), terms, one.name, one.until_verified,
                                        one.reasoning_within if is_to_think else 0))
        return teachers


def _verifier(context: StageContext, stack: ExitStack) -> Verifier:
    """The graders of the recipe, with the engines that they ask."""
    questions = stack.enter_context(Questions(context))
    graders = [made for made in makers_of(context.recipe) if made[0] is GRADERS]
    sayings = stack.enter_context(sayings_of(context, questions, graders))
    return Verifier([(one, questions.means_of(one.maker.name, one.options, one.maker.needs)) for one in sayings])


def _keep(context: StageContext, prompts: Sequence[Prompt]) -> None:
    """Store the prompts of questions without an answer, and of answers whose prompt is lost."""
    there = context.store.known_prompts(prompt.id for prompt in prompts)
    if context.store.add_prompts(prompt for prompt in prompts if prompt.id not in there):
        context.worked()


def _say_what_came_back(context: StageContext, orphans: Mapping[str, str]) -> None:
    if orphans and (back := len(orphans) - len(context.store.without_prompt())):
        context.worked()
        context.note(f"{back} stored answers had lost their prompt; it is stored again")


def _recall(context: StageContext, teachers: Sequence[Teacher], verifier: Verifier) -> None:
    """Where each question that is verified stands, from the answers that are stored; those without a verdict are judged
    now."""
    for teacher in teachers:
        if not teacher.until_verified:
            continue
        asked = {request.id: question for question in teacher.questions for request in question.requests
                 if request.id not in teacher.unasked}
        for pairs in chunked(context.pairs(list(asked)), BORDERS.recalled_answers):
            context.cancel.check()
            for (_, trace), verdict in zip(pairs, verifier.recalled(pairs, context.store), strict=True):
                question = asked[trace.id]
                question.tries += 1
                question.accepted |= bool(verdict.accepted)
                question.waits |= verdict.accepted is None


def _say_what_is_lost(context: StageContext, teachers: Sequence[Teacher], stored: set[str],
                      foreign: Mapping[str, int]) -> int:
    """How many prompts have no answer. PartialResult when these are more than a set allows; a warning when a few."""
    every = 0
    wait = "".join(f"; run {run} asks for {count} of them: wait for it" for run, count in foreign.items())
    for one in context.recipe.asked:
        total = lost = 0
        for teacher in (teacher for teacher in teachers if teacher.trace_set == one.name):
            if one.until_verified:
                total += len(teacher.questions)
                lost += sum(question.is_open(True) for question in teacher.questions)
            else:
                total += len(teacher.ids)
                lost += sum(key not in stored for key in teacher.ids)
        where = f"set '{one.name}': " if len(context.recipe.asked) > 1 else ""
        if lost > one.may_fail * total:
            raise PartialResult(
                f"{where}{lost} of {total} questions have no answer yet{wait}",
                f"localdistill resume {context.run.id} asks only for those",
            )
        if lost:
            context.warn(
                f"{where}{lost} of {total} questions have no answer and are left out",
                f"localdistill resume {context.run.id} asks for those again",
            )
        every += lost
    return every


def _count_tries(context: StageContext, teachers: Sequence[Teacher]) -> None:
    """Say how many tries each prompt took, of the teacher that needed fewest; `>n` where none was accepted."""
    tries: dict[str, str] = {}
    for teacher in (teacher for teacher in teachers if teacher.until_verified):
        for question in teacher.questions:
            before = tries.get(question.prompt.id, ">")
            mine = str(question.tries) if question.accepted else f">{question.tries}"
            if before.startswith(">") or (question.accepted and question.tries < int(before)):
                tries[question.prompt.id] = mine
    counts = Counter(tries.values())
    context.emit(Counted("tries until verified", {k: counts[k] for k in sorted(counts, key=_by_size)}))


def _by_size(tries: str) -> tuple[int, int]:
    return (int(tries.lstrip(">")), tries.startswith(">"))
