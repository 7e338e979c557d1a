"""select: filters in order decide which traces of each set are trained on; each removed trace is counted at the first
filter that removes it, and what is kept is saved under a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Counted, Measured, Noted, stamped
from localdistill.core.records import FactScope
from localdistill.filters import FILTERS
from localdistill.filters.base import Filter
from localdistill.recipe import Member
from localdistill.recipe.trace_sets import RewrittenSet, SelectedSet, SetSection
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import Selected, SelectOutput, scope_of_run, write_output
from localdistill.stages.questions import Questions
from localdistill.stages.sets import collected_ids, selected, selection_name


def run(context: StageContext) -> None:
    """Leave what every set that is not rewritten keeps (`select-NAME`, for an arm with filters of its own
    `select-NAME@ARM`), all of that (`select`), and the saved selections."""
    recipe, made, kept = context.recipe, dict[str, Selected](), list[str]()
    for one in recipe.originals:
        ids, sets = _select(context, one)
        kept += ids
        made |= sets
        _say_cost(context, one.name, ids)
    for arm in recipe.arms:
        for one in recipe.originals:
            if arm.filters is not None and one.name in arm.sets:
                kept += select_for_arm(context, one.name, arm.name, arm.filters, collected_ids(context.run, one.name),
                                       made)
    if not kept:
        raise LocalDistillError(
            "the selection is empty: every trace was removed",
            "`localdistill traces` shows grades and reasons; loosen a [[filter]]",
        )
    context.run.write_ids("select", list(dict.fromkeys(kept)))
    write_output(context.run, SelectOutput(made))


def _select(context: StageContext, one: SetSection) -> tuple[list[str], dict[str, Selected]]:
    """What the filters of a set keep."""
    recipe, ids = context.recipe, collected_ids(context.run, one.name)
    filters = recipe.filters_of(one)
    wanted, vetoed = _without_vetoed(context, one, ids)
    kept, removed = choose(context, wanted, filters)
    removed = vetoed | removed
    context.run.write_ids(selected(one.name), kept)
    saved = one.selection if isinstance(one, SelectedSet) and not filters else ""
    name = saved or selection_name(recipe, one.name)
    made = Selected(name, len(ids), len(kept), removed)
    if not saved:
        _save(context, name, filters, kept, removed, one.name)
        _tell(context, made, one.name)
    if not kept and _is_needed(context, one.name):
        raise LocalDistillError(
            f"the selection is empty: every trace of the set '{one.name}' was removed" if ids else
            f"the set '{one.name}' has no traces",
            "`localdistill traces` shows grades and reasons; loosen a [[filter]], or give the set a filter of its own",
        )
    return kept, {one.name: made}


def removals(context: StageContext, one: SetSection, members: Sequence[Member],
             told: Callable[[Removed], None]) -> list[str]:
    """What `members` keep of a set, told of each that goes; stores nothing."""
    ids = collected_ids(context.run, one.name)
    wanted, _ = _without_vetoed(context, one, ids)
    for trace_id in _without(ids, wanted):
        told(Removed(trace_id, "published", "wrong by the file that it came with"))
    return choose(context, wanted, members, told)[0]


def _without_vetoed(context: StageContext, one: SetSection, ids: list[str]) -> tuple[list[str], dict[str, int]]:
    """The traces of a set that has no filters of its own, less those that are wrong by the file that they came with,
    and how many those are. A set or an arm with filters of its own wants the wrong ones, where it says so."""
    vetoed = context.store.vetoed(ids) if one.filters is None else set()
    return [key for key in ids if key not in vetoed], {"published": len(vetoed)} if vetoed else {}


def select_for_arm(context: StageContext, name: str, arm: str, filters: Sequence[Member], ids: list[str],
                   made: dict[str, Selected]) -> list[str]:
    """What an arm's own filters keep of the traces `ids` of a set; told, saved, and added to `made`."""
    kept, removed = choose(context, ids, filters)
    context.run.write_ids(selected(name, arm), kept)
    saved = selection_name(context.recipe, name, arm)
    _save(context, saved, filters, kept, removed, name)
    made[f"{name}@{arm}"] = Selected(saved, len(ids), len(kept), removed)
    _tell(context, made[f"{name}@{arm}"], name, arm)
    return kept


def _save(context: StageContext, name: str, filters: Sequence[Member], kept: Sequence[str], removed: dict[str, int],
          trace_set: str) -> None:
    context.worked()
    definition = {"filters": [m.model_dump(mode="json") for m in filters], "run": context.run.id, "set": trace_set}
    context.store.save_selection(name, definition, kept, removed)


def _tell(context: StageContext, made: Selected, trace_set: str, arm: str = "") -> None:
    stamped(context.emit, trace_set=trace_set, arm=arm)(Counted("waterfall", made.waterfall))


def _is_needed(context: StageContext, name: str) -> bool:
    """An arm trains on what the set keeps, or a rewrite starts from it."""
    trains = any(name in arm.sets and arm.filters is None for arm in context.recipe.arms)
    return trains or any(name in one.from_ for one in context.recipe.sets if isinstance(one, RewrittenSet))


def _say_cost(context: StageContext, name: str, kept: Sequence[str]) -> None:
    """What one kept trace of a set cost, with all that was paid for the others, where anything was paid."""
    asked = collected_ids(context.run, name)
    paid, unknown = context.store.cost_of(asked)
    if paid and kept:
        each = paid / len(kept)
        more = f"; the cost of {unknown:,} more is unknown" if unknown else ""
        emit = stamped(context.emit, trace_set=name)
        emit(Noted(f"${each:.6f} per kept trace: ${paid:.4f} for {len(asked):,} traces{more}"))
        emit(Measured("usd_per_kept_trace", each))


@dataclass(frozen=True)
class Removed:
    """A trace that a filter removed."""

    trace_id: str
    by: str
    """The filter's name."""
    reason: str


def choose(context: StageContext, ids: Sequence[str], members: Sequence[Member],
           told: Callable[[Removed], None] | None = None) -> tuple[list[str], dict[str, int]]:
    """The ids that every filter keeps, in order, and how many each removed. `told` hears of each that goes, with the
    reason. StoreError when a prompt is missing: filters look at it."""
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
            kept = _apply(context, rule, kept, scope, told)
            removed[rule.name] = removed.get(rule.name, 0) + before - len(kept)
    return kept, removed


def _apply(context: StageContext, rule: Filter, ids: list[str], scope: FactScope | None,
           told: Callable[[Removed], None] | None) -> list[str]:
    sql = rule.sql()
    if sql is not None:
        found = context.store.meeting(sql, ids, scope, rule.from_user)
        if told is not None:
            _tell_sql(context, rule, sql, _without(ids, found), scope, told)
        return found
    kept = []
    columns = list(dict.fromkeys(["trace_id", *rule.columns]))
    if rule.looks_ahead:
        for batch in context.store.batches(columns, ids=ids, scope=scope):
            rule.prepare(batch)
    for batch in context.store.batches(columns, ids=ids, scope=scope):
        names, verdicts = batch.column("trace_id").to_pylist(), rule.keep(batch)
        kept += [i for i, keep in zip(names, verdicts, strict=True) if keep]
        if told is not None:
            for row, keep in zip(batch.to_pylist(), verdicts, strict=True):
                if not keep:
                    told(Removed(row["trace_id"], rule.name, rule.why({name: row[name] for name in rule.columns})))
    return kept


def _tell_sql(context: StageContext, rule: Filter, sql: str, gone: list[str], scope: FactScope | None,
              told: Callable[[Removed], None]) -> None:
    """What a filter that is SQL saw in the rows that it removed."""
    columns = [name for name in context.store.columns_named(sql, scope) if name != "trace_id"]
    for batch in context.store.batches(["trace_id", *columns], ids=gone, scope=scope):
        for row in batch.to_pylist():
            told(Removed(row.pop("trace_id"), rule.name, rule.why(row)))


def _without(ids: Sequence[str], found: Sequence[str]) -> list[str]:
    left = set(found)
    return [i for i in ids if i not in left]
