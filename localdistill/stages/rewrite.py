"""rewrite: the traces of a set become those of another, each with a parent, made by a model or by a rule. The rewrite
judges its own output; a rejected one stays stored and is counted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext

from localdistill.core.errors import PartialResult
from localdistill.core.events import Counted, Progressed, stamped
from localdistill.core.records import Message, Reply, Request, Sampling, content_id
from localdistill.engines.base import Engine
from localdistill.recipe import Member
from localdistill.recipe.engine_uses import writers_of
from localdistill.recipe.sections import RewrittenSet
from localdistill.rewrites import REWRITES
from localdistill.rewrites.base import Ask, Rewrite
from localdistill.rewrites.naming import RewriteName
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import RewriteOutput, Selected, write_output
from localdistill.stages.select import choose, select_for_arm
from localdistill.stages.sets import ids_of, ids_of_all, rewritten
from localdistill.workspace.terms import strictest, terms_of

MOST_REASONS = 3


def run(context: StageContext) -> None:
    """Leave one list of kept traces per rewritten set: `rewrite-NAME.ids`. A set comes after those it is made from."""
    summary, made = {}, dict[str, Selected]()
    for section in context.recipe.rewrites:
        summary[section.name], kept = _rewrite_all(context, section)
        if section.filters:
            before = len(kept)
            kept, removed = choose(context, kept, section.filters)
            made[section.name] = Selected("", before, len(kept), removed)
        context.run.write_ids(rewritten(section.name), kept)
    for arm in context.recipe.arms:
        for name in arm.sets if arm.filters is not None else ():
            if isinstance(context.recipe.trace_set(name), RewrittenSet):
                ids = ids_of(context.run, context.recipe, name)
                select_for_arm(context, name, arm.name, arm.filters or (), ids, made)
    write_output(context.run, RewriteOutput(summary, made))


def _rewrite_all(context: StageContext, section: RewrittenSet) -> tuple[dict[str, int], list[str]]:
    """The verdicts on what was rewritten, and the traces that were kept."""
    rewrite: Rewrite = context.member(REWRITES, Member(use=section.rewrite, options=section.options))
    writers = list(writers_of(context.recipe, section).values())
    teacher = context.recipe.engine(writers[0]) if writers else None
    parents = ids_of_all(context.run, context.recipe, section.from_)
    engine_of = context.engine(teacher) if rewrite.needs_engine and teacher else nullcontext(None)
    with engine_of as engine:
        writer = content_id("writer", engine.name, engine.identity(), section.max_tokens)[3:11] if engine else ""
        name = RewriteName(rewrite.name, rewrite.version, writer)
        context.take_in_journals()
        missing = context.store.without_child(parents, name)
        errors = Counter[str]()
        if missing:
            context.worked()
            terms = terms_of(teacher.use, teacher.options) if engine and teacher else ""
            _write(context, section, rewrite, name, missing, engine, terms, errors)
            context.say_spending()
    children = context.store.children(parents, name)
    verdicts = Counter("kept" if score >= 1 else reason for _, _, score, reason in children)
    stamped(context.emit, trace_set=section.name)(Counted(section.name, dict(verdicts)))
    kept = {parent: child for parent, child, score, _ in children if score >= 1}
    ids = [kept[parent] for parent in parents if parent in kept]
    if len(children) < len(parents):
        why = "".join(f"; {count} x {error}" for error, count in errors.most_common(MOST_REASONS))
        raise PartialResult(
            f"rewrite '{section.name}': {len(parents) - len(children)} traces have no answer yet{why}",
            f"localdistill resume {context.run.id} asks only for those",
        )
    return dict(verdicts), ids


def _write(
    context: StageContext,
    section: RewrittenSet,
    rewrite: Rewrite,
    name: RewriteName,
    missing: list[str],
    engine: Engine | None,
    terms: str,
    errors: Counter[str],
) -> None:
    """Make and journal the rewritten traces of `missing`; count in `errors` why there is none. terms: those of whoever
    writes."""
    ask = _asker(context, engine, section.max_tokens, errors) if engine else None
    with context.journal() as journal:
        for done, (trace, grade) in enumerate(rewrite.rewrite(context.pairs(missing), ask), start=1):
            context.cancel.check()
            trace, grade = name.of(trace, grade)
            trace = dataclasses.replace(trace, terms=strictest((trace.terms, terms)))
            journal.add(trace, [grade])
            context.emit(Progressed(section.name, done, len(missing), "traces"))


def _asker(context: StageContext, engine: Engine, max_tokens: int, errors: Counter[str]) -> Ask:
    """An `ask` for rewrites: greedy, one sample. A reply with an error is left out, counted, and asked again by a
    resume."""

    def ask(questions: Iterable[tuple[str, tuple[Message, ...]]]) -> Iterator[tuple[str, Reply]]:
        sampling = Sampling(max_tokens=max_tokens, seed=context.recipe.seed)
        requests = (Request(key, messages, sampling) for key, messages in questions)
        for reply in engine.answer(requests, context.emit, context.cancel):
            if reply.status == "error":
                errors[reply.error or "no reply"] += 1
            else:
                yield reply.request_id, reply

    return ask
