"""rewrite: selected traces become new traces with a parent, made by a model or by a rule. The rewrite judges its own
output; a rejected one stays stored and is counted."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext

from localdistill.core.errors import PartialResult, UsageError
from localdistill.core.events import Counted, Progressed
from localdistill.core.records import Message, Reply, Request, Sampling, content_id
from localdistill.engines.base import Engine
from localdistill.recipe import Member
from localdistill.recipe.sections import RewriteSection
from localdistill.rewrites import REWRITES
from localdistill.rewrites.base import Ask, Rewrite
from localdistill.rewrites.naming import RewriteName
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import RewriteOutput, write_output
from localdistill.workspace.terms import strictest, terms_of

MOST_REASONS = 3


def run(context: StageContext) -> None:
    """Leave one list of kept rewritten traces per rewrite: `rewrite-NAME.ids`."""
    summary = {}
    for section in context.recipe.rewrites:
        summary[section.name] = _rewrite_all(context, section)
    write_output(context.run, RewriteOutput(summary))


def _rewrite_all(context: StageContext, section: RewriteSection) -> dict[str, int]:
    rewrite: Rewrite = context.member(REWRITES, Member(use=section.use, options=section.options))
    teacher = section.engine or context.recipe.teacher
    if rewrite.needs_engine and teacher is None:
        raise UsageError(
            f"the rewrite '{section.name}' needs an engine that writes",
            'add engine = { use = "llama_cpp", model = "FILE.gguf" } to it, or a [teacher]',
        )
    parents = context.run.ids("select")
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
    context.emit(Counted(section.name, dict(verdicts)))
    kept = {parent: child for parent, child, score, _ in children if score >= 1}
    ids = [kept[parent] for parent in parents if parent in kept]
    if len(children) < len(parents):
        why = "".join(f"; {count} x {error}" for error, count in errors.most_common(MOST_REASONS))
        raise PartialResult(
            f"rewrite '{section.name}': {len(parents) - len(children)} traces have no answer yet{why}",
            f"localdistill resume {context.run.id} asks only for those",
        )
    context.run.write_ids(f"rewrite-{section.name}", ids)
    return dict(verdicts)


def _write(
    context: StageContext,
    section: RewriteSection,
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
