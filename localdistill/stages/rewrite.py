"""rewrite: the traces of a set become those of another, each with a parent, made by a model or by a rule. The rewrite
judges its own output; a rejected one stays stored and is counted."""

from __future__ import annotations

import dataclasses
from collections import Counter

from localdistill.core.errors import BudgetReached, EngineUnavailable, PartialResult
from localdistill.core.events import Counted, Progressed, stamped
from localdistill.core.options import Options
from localdistill.core.records import content_id
from localdistill.recipe import Member
from localdistill.recipe.engine_uses import writers_of
from localdistill.recipe.trace_sets import RewrittenSet
from localdistill.rewrites import REWRITES
from localdistill.rewrites.base import Rewrite
from localdistill.rewrites.naming import RewriteName
from localdistill.stages.context import StageContext
from localdistill.stages.fact_makers import changed_options, makers_of, sayings_of
from localdistill.stages.grade import say_all
from localdistill.stages.outputs import RewriteOutput, Selected, write_output
from localdistill.stages.questions import Opened, Questions, with_way_on
from localdistill.stages.select import choose, select_for_arm
from localdistill.stages.sets import ids_of, ids_of_all, rewritten
from localdistill.workspace.terms import strictest, terms_of

MOST_REASONS = 3


def run(context: StageContext) -> None:
    """Leave one list of kept traces per rewritten set: `rewrite-NAME.ids`. A set comes after those it is made from."""
    summary, made = {}, dict[str, Selected]()
    for section in context.recipe.rewrites:
        summary[section.name], kept = _rewrite_all(context, section)
        _say_facts(context, section, kept)
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


def _say_facts(context: StageContext, section: RewrittenSet, ids: list[str]) -> None:
    """Let the graders and labels of the recipe say of rewritten traces what they say of others: a rewrite judges its
    own work, not whether the answer is right. What they say of prompts is known."""
    emit = stamped(context.emit, trace_set=section.name)
    with Questions(context) as questions, sayings_of(context, questions, makers_of(context.recipe)) as sayings:
        say_all(context, questions, [saying for saying in sayings if saying.maker.about == "trace"], ids, emit)


def _rewrite_all(context: StageContext, section: RewrittenSet) -> tuple[dict[str, int], list[str]]:
    """The verdicts on what was rewritten, and the traces that were kept."""
    member = Member(use=section.rewrite, options={**section.options, **writers_of(context.recipe, section)})
    rewrite: Rewrite = context.member(REWRITES, member)
    options = type(rewrite).Options.model_validate(member.options)
    parents = ids_of_all(context.run, context.recipe, section.from_)
    with Questions(context) as questions:
        asked = questions.engines_of(rewrite.name, options)
        name = RewriteName(rewrite.name, rewrite.version, writer_of(options, asked))
        context.take_in_journals()
        missing = context.store.without_child(parents, name)
        if missing:
            context.worked()
            try:
                _write(context, section, rewrite, options, name, missing, questions)
            except (BudgetReached, EngineUnavailable) as error:
                raise with_way_on(context, error, f"what '{section.name}' wrote before is kept") from None
            finally:
                context.say_spending()
    children = context.store.children(parents, name)
    verdicts = Counter("kept" if score >= 1 else reason for _, _, score, reason in children)
    stamped(context.emit, trace_set=section.name)(Counted(section.name, dict(verdicts)))
    kept = {parent: child for parent, child, score, _ in children if score >= 1}
    ids = [kept[parent] for parent in parents if parent in kept]
    if len(children) < len(parents):
        why = "".join(f"; {count} x {error}" for error, count in questions.errors.most_common(MOST_REASONS))
        raise PartialResult(
            f"rewrite '{section.name}': {len(parents) - len(children)} traces have no answer yet{why}",
            f"localdistill resume {context.run.id} asks only for those",
        )
    return dict(verdicts), ids


def writer_of(options: Options, asked: dict[str, Opened]) -> str:
    """In short, what makes a rewrite with these options and engines another one than with others; empty where nothing
    differs from the defaults and no engine writes."""
    changed = changed_options(options)
    most = options.model_dump().get("max_tokens")
    if asked:
        changed.pop("max_tokens", None)
    parts = [part for opened in asked.values() for part in (opened.engine.name, opened.model, most)]
    parts += [changed] if changed else []
    return content_id("writer", *parts)[3:11] if parts else ""


def _write(context: StageContext, section: RewrittenSet, rewrite: Rewrite, options: Options, name: RewriteName,
           missing: list[str], questions: Questions) -> None:
    """Make and journal the rewritten traces of `missing`. Their terms are those of the parent and of whoever writes."""
    means = questions.means_of(rewrite.name, options, rewrite.needs)
    terms = [terms_of(opened.member.use, opened.member.options)
             for opened in questions.engines_of(rewrite.name, options).values()]
    with context.journal() as journal:
        for done, (trace, fact) in enumerate(rewrite.rewrite(context.pairs(missing), means), start=1):
            context.cancel.check()
            trace, fact = name.of(trace, fact)
            trace = dataclasses.replace(trace, terms=strictest((trace.terms, *terms)))
            journal.add(trace, [fact])
            context.emit(Progressed(section.name, done, len(missing), "traces"))
