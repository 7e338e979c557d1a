"""Trying a selection before it is made: what the filters removed from a set of a run, what they would remove with other
options, and a new run up to the selection with them. Counting stores nothing."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localdistill.core.errors import UsageError
from localdistill.core.events import Cancel, Counted
from localdistill.filters import FILTERS
from localdistill.filters.base import Filter
from localdistill.recipe import Member, Recipe
from localdistill.recipe.upgrading_text import upgraded_text
from localdistill.runs import start
from localdistill.safety.files import stamp_of
from localdistill.stages.context import StageContext, build_member
from localdistill.stages.outputs import SelectOutput, has_output, read_output, scope_of_run
from localdistill.stages.select import choose
from localdistill.stages.sets import collected_ids, collected_stamp, selection_name
from localdistill.store.pages import SavedSelection, readers
from localdistill.store.pages import saved_selections as _saved
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder

CHEAP_TRACES = 20_000
"""Up to so many traces every filter is tried; above it only those that are SQL."""
_PLACES: dict[tuple[object, ...], array[int]] = {}
"""Where the traces of the set that was counted last stand in the store: looked up once, however often filters are
tried on it."""


@dataclass(frozen=True)
class FilterOption:
    """One option of a filter."""

    name: str
    value: Any
    help: str
    default: Any


@dataclass(frozen=True)
class FilterStep:
    """One filter of a selection, in its place."""

    use: str
    options: tuple[FilterOption, ...]
    removed: int | None
    """Traces that it removed; None when it was not counted."""
    is_cheap: bool
    """It is worked out by the store, however many traces there are."""


@dataclass(frozen=True)
class Waterfall:
    """What is left of a set of a run, filter by filter."""

    run_id: str
    trace_set: str
    filters: tuple[Member, ...]
    """Those that its steps are of."""
    name: str
    """Under which the selection is saved."""
    asked: int
    """Traces before the first filter."""
    steps: tuple[FilterStep, ...]
    kept: int | None
    """None when the run has not selected yet, or a filter was not counted."""


def saved_selections(workspace: Workspace) -> list[SavedSelection]:
    """Every saved selection, the newest first."""
    store = open_store(workspace)
    return _saved(readers(store.path)) if store.path.exists() else []


def waterfalls_of(run: RunFolder) -> list[Waterfall]:
    """Of every set of a run's recipe that filters work on: what each filter removed, as far as the run came."""
    recipe, base = run.recipe(), Path(run.request()["base"])
    counts = _counts(run)
    return [_waterfall(run, recipe, one.name, base, counts.get(one.name, counts.get("", {})))
            for one in recipe.originals]


def _counts(run: RunFolder) -> dict[str, Mapping[str, int]]:
    """The waterfall of each set: as the selection that the run left says it, which has a checksum. Where that says
    none, the newest that was told; that of a run which is older than sets stands under no name."""
    told = {event.trace_set: event.counts for event, _ in run.events()
            if isinstance(event, Counted) and event.what == "waterfall" and not event.arm}
    sets = read_output(run, SelectOutput).sets if has_output(run, "select") else {}
    return {**told, **{name: one.waterfall for name, one in sets.items() if name and "@" not in name}}


def _waterfall(run: RunFolder, recipe: Recipe, name: str, base: Path, counts: Mapping[str, int]) -> Waterfall:
    filters = recipe.filters_of(recipe.trace_set(name))
    seen: set[str] = set()
    removed: list[int | None] = []
    for member in filters:
        # A filter that stands there twice is counted under one name: the sum is shown at the first.
        removed.append(counts.get(f"- {member.use}") if member.use not in seen else None)
        seen.add(member.use)
    asked = counts.get("traces", len(collected_ids(run, name)))
    return Waterfall(run.id, name, filters, _saved_as(run, recipe, name), asked,
                     tuple(_step(m, n, base) for m, n in zip(filters, removed)), counts.get("kept"))


def _saved_as(run: RunFolder, recipe: Recipe, name: str) -> str:
    """The name of a set's selection: as the run saved it, else as it will."""
    if has_output(run, "select"):
        sets = read_output(run, SelectOutput).sets
        if made := sets.get(name, sets.get("")):
            return made.selection
    return selection_name(recipe, name)


def _step(member: Member, removed: int | None, base: Path) -> FilterStep:
    fields = FILTERS.load(member.use).Options.model_fields
    options = tuple(FilterOption(name, member.options.get(name, field.default), field.description or "", field.default)
                    for name, field in fields.items())
    return FilterStep(member.use, options, removed, _is_sql(member, base))


def _is_sql(member: Member, base: Path) -> bool:
    rule: Filter = build_member(FILTERS, member, base)
    return rule.sql() is not None


def with_option(filters: Sequence[Member], place: int, name: str, text: str) -> tuple[Member, ...]:
    """The filters with one option of the one at `place` set to `text`, read as TOML or taken as it stands. UsageError
    says what is wrong with it."""
    import tomllib

    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    member = filters[place]
    try:
        options = FILTERS.load(member.use).Options.model_validate({**member.options, name: value})
    except ValidationError as error:
        said = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
        raise UsageError(f"{member.use}.{name}: {said}", "") from None
    changed = Member(use=member.use, options=options.model_dump(mode="json"))
    return (*filters[:place], changed, *filters[place + 1:])


def try_filters(
    workspace: Workspace, run: RunFolder, filters: Sequence[Member], trace_set: str, cancel: Cancel | None = None
) -> Waterfall:
    """What `filters` would leave of a set of the run. With more than `CHEAP_TRACES` a filter that is not SQL is passed
    over: its step and the sum are not counted. Cancelled when told to stop."""
    recipe = run.recipe()
    context = StageContext(workspace, run, recipe, open_store(workspace), lambda event: None, cancel or Cancel())
    places = _places(context, trace_set)
    asked, removed = len(places), list[int | None]()
    if asked <= CHEAP_TRACES:
        kept = collected_ids(run, trace_set)
        for member in filters:
            before, (kept, _) = len(kept), choose(context, kept, [member])
            removed.append(before - len(kept))
    else:
        scope = scope_of_run(run)
        for member in filters:
            context.cancel.check()
            rule: Filter = build_member(FILTERS, member, context.base)
            before, sql = len(places), rule.sql()
            if sql is not None:
                places = context.store.places_meeting(sql, places, scope, rule.from_user)
            removed.append(None if sql is None else before - len(places))
    steps = tuple(_step(member, count, context.base) for member, count in zip(filters, removed, strict=True))
    return Waterfall(run.id, trace_set, tuple(filters), _saved_as(run, recipe, trace_set), asked, steps,
                     None if None in removed else asked - sum(count or 0 for count in removed))


def _places(context: StageContext, trace_set: str) -> array[int]:
    """Of the traces of a set, before its filters. StoreError when one of them or its prompt is missing."""
    which, *_ = stamp_of(context.store.path) or (0,)  # a store that was rebuilt is another file
    key = (context.run.path, trace_set, collected_stamp(context.run, trace_set), which)
    if key not in _PLACES or context.store.without_prompt():
        ids = collected_ids(context.run, trace_set)
        context.require_prompts(ids)
        places = context.store.places(ids)
        _PLACES.clear()
        _PLACES[key] = places
    return _PLACES[key]


def run_again(workspace: Workspace, run: RunFolder, until: str, filters: Sequence[Member] | None = None,
              trace_set: str = "") -> RunFolder:
    """Start a run of the same recipe up to the stage `until`, with other filters for a set when some are given; what is
    stored is not asked again."""
    recipe, text = run.recipe(), run.text()
    if filters is not None:
        text = _with_filters(upgraded_text(text).text, filters, trace_set)
        recipe = _with_other_filters(recipe, tuple(filters), trace_set, text)
    return start(workspace, recipe, text, Path(run.request()["base"]), until)


def _is_own(text: str, trace_set: str) -> bool:
    """The set has a table of its own, where its filters can stand."""
    import tomllib

    sets = tomllib.loads(text).get("traces")
    return isinstance(sets, dict) and trace_set in sets


def _with_other_filters(recipe: Recipe, filters: tuple[Member, ...], trace_set: str, text: str) -> Recipe:
    if not _is_own(text, trace_set):
        return recipe.model_copy(update={"filters": filters})
    sets = tuple(one.model_copy(update={"filters": filters}) if one.name == trace_set else one for one in recipe.sets)
    return recipe.model_copy(update={"sets": sets})


def _with_filters(text: str, filters: Sequence[Member], trace_set: str) -> str:
    """The recipe's text with other filters, of the set where it has a table, else of the recipe; everything else stays
    as it was written."""
    import tomlkit

    document = tomlkit.parse(text)
    told = [{"use": member.use, **member.options} for member in filters]
    if _is_own(text, trace_set):
        inline = tomlkit.array()
        for row in told:
            table = tomlkit.inline_table()
            table.update(row)
            inline.append(table)
        document["traces"][trace_set]["filter"] = inline
        return tomlkit.dumps(document)
    document.pop("filter", None)
    if told:
        document["filter"] = tomlkit.aot()
        for row in told:
            document["filter"].append(tomlkit.item(row))
    return tomlkit.dumps(document)
