"""select: filters in order decide which traces are trained on; each removed trace is counted at the first filter that
removes it, and the selection is saved under a name."""

from __future__ import annotations

from collections.abc import Sequence

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Counted, Measured
from localdistill.core.records import FactScope
from localdistill.filters import FILTERS
from localdistill.filters.base import Filter
from localdistill.recipe import Member
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import SelectOutput, scope_of_run, write_output
from localdistill.stages.questions import Questions


def run(context: StageContext) -> None:
    """Leave `select.ids` and the saved selection's id."""
    section = context.recipe.select
    if section.from_:
        selection = context.store.selection(section.from_)
        kept, name = list(selection.trace_ids), section.from_
    else:
        ids = context.run.ids("collect")
        kept, removed = choose(context, ids, section.filters)
        context.worked()
        name = section.name or context.recipe.name
        definition = {"filters": [m.model_dump(mode="json") for m in section.filters], "run": context.run.id}
        context.store.save_selection(name, definition, kept, removed)
        context.emit(
            Counted(
                "waterfall",
                {"traces": len(ids), **{f"- {k}": v for k, v in removed.items()}, "kept": len(kept)},
            )
        )
    if not kept:
        raise LocalDistillError(
            "the selection is empty: every trace was removed",
            "`localdistill traces` shows grades and reasons; loosen a [[select.filter]]",
        )
    _say_cost(context, kept)
    context.run.write_ids("select", kept)
    write_output(context.run, SelectOutput(name, len(kept)))


def _say_cost(context: StageContext, kept: Sequence[str]) -> None:
    """What one kept trace cost, with all that was paid for the others, where anything was paid."""
    asked = context.run.ids("collect") or kept
    paid, unknown = context.store.cost_of(asked)
    if paid:
        each = paid / len(kept)
        more = f"; the cost of {unknown:,} more is unknown" if unknown else ""
        context.note(f"${each:.6f} per kept trace: ${paid:.4f} for {len(asked):,} traces{more}")
        context.emit(Measured("usd_per_kept_trace", each))


def choose(context: StageContext, ids: Sequence[str], members: Sequence[Member]) -> tuple[list[str], dict[str, int]]:
    """The ids that every filter keeps, in order, and how many each removed. StoreError when a prompt is missing:
    filters look at it."""
    context.require_prompts(ids)
    kept, removed = list(ids), dict[str, int]()
    scope = scope_of_run(context.run)
    with Questions(context) as questions:
        for member in members:
            context.cancel.check()
            rule: Filter = context.member(FILTERS, member)
            options = type(rule).Options.model_validate(member.options)
            rule.begin(questions.means_of(rule.name, options, rule.needs, scope or (), kept))
            before = len(kept)
            kept = _apply(context, rule, kept, scope)
            removed[rule.name] = removed.get(rule.name, 0) + before - len(kept)
    return kept, removed


def _apply(context: StageContext, rule: Filter, ids: list[str], scope: FactScope | None) -> list[str]:
    sql = rule.sql()
    if sql is not None:
        found = context.store.meeting(sql, ids, scope) if rule.from_user else context.store.trace_ids(
            sql, ids=ids, scope=scope)
        return list(found)
    kept = []
    columns = list(dict.fromkeys(["trace_id", *rule.columns]))
    if rule.looks_ahead:
        for batch in context.store.batches(columns, ids=ids, scope=scope):
            rule.prepare(batch)
    for batch in context.store.batches(columns, ids=ids, scope=scope):
        names = batch.column("trace_id").to_pylist()
        kept += [i for i, keep in zip(names, rule.keep(batch), strict=True) if keep]
    return kept
