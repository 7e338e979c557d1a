"""Trying a selection before it is made: what the filters of a run removed, what they would remove with other options,
and a new run up to the selection with them. Counting stores nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localdistill.core.errors import UsageError
from localdistill.core.events import Cancel, Counted
from localdistill.filters import FILTERS
from localdistill.filters.base import Filter
from localdistill.recipe import Member
from localdistill.runs import start
from localdistill.stages.context import StageContext, build_member
from localdistill.stages.select import choose
from localdistill.store.pages import SavedSelection, readers
from localdistill.store.pages import saved_selections as _saved
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder

CHEAP_TRACES = 20_000
"""Up to so many traces every filter is tried; above it only those that are SQL."""


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
    """What is left of a run's traces, filter by filter."""

    run_id: str
    name: str
    """Under which the selection is saved."""
    asked: int
    """Traces before the first filter."""
    steps: tuple[FilterStep, ...]
    kept: int | None
    """None when the run has not selected yet, or a filter was not counted."""


def saved_selections(workspace: Workspace) -> list[SavedSelection]:
    """Every saved selection, the newest first."""
    return _saved(readers(open_store(workspace).path)) if workspace.store_path.exists() else []


def waterfall_of(run: RunFolder) -> Waterfall:
    """The filters of a run's recipe with what each removed, as far as the run came."""
    recipe, base = run.recipe(), Path(run.request()["base"])
    counts: Mapping[str, int] = {}
    for event, _ in run.events():
        if isinstance(event, Counted) and event.what == "waterfall":
            counts = event.counts
    seen: set[str] = set()
    removed: list[int | None] = []
    for member in recipe.select.filters:
        # A filter that stands there twice is counted under one name: the sum is shown at the first.
        removed.append(counts.get(f"- {member.use}") if member.use not in seen else None)
        seen.add(member.use)
    return Waterfall(run.id, recipe.select.name or recipe.name, counts.get("traces", len(run.ids("collect"))),
                     tuple(_step(m, n, base) for m, n in zip(recipe.select.filters, removed)), counts.get("kept"))


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
    workspace: Workspace, run: RunFolder, filters: Sequence[Member], cancel: Cancel | None = None
) -> Waterfall:
    """What `filters` would leave of the run's traces. With more than `CHEAP_TRACES` a filter that is not SQL is passed
    over: its step and the sum are not counted. Cancelled when told to stop."""
    recipe = run.recipe()
    context = StageContext(workspace, run, recipe, open_store(workspace), lambda event: None, cancel or Cancel())
    asked = run.ids("collect")
    kept, steps, whole = asked, [], True
    for member in filters:
        if len(asked) > CHEAP_TRACES and not _is_sql(member, context.base):
            steps.append(_step(member, None, context.base))
            whole = False
            continue
        before = len(kept)
        kept, _ = choose(context, kept, [member])
        steps.append(_step(member, before - len(kept), context.base))
    return Waterfall(run.id, recipe.select.name or recipe.name, len(asked), tuple(steps), len(kept) if whole else None)


def run_again(workspace: Workspace, run: RunFolder, until: str, filters: Sequence[Member] | None = None) -> RunFolder:
    """Start a run of the same recipe up to the stage `until`, with other filters when some are given; what is stored
    is not asked again."""
    recipe, text = run.recipe(), (run.path / "recipe.toml").read_text("utf-8")
    if filters is not None:
        section = recipe.select.model_copy(update={"from_": "", "filters": tuple(filters)})
        recipe, text = recipe.model_copy(update={"select": section}), _with_filters(text, filters)
    return start(workspace, recipe, text, Path(run.request()["base"]), until)


def _with_filters(text: str, filters: Sequence[Member]) -> str:
    """The recipe's text with other filters; everything else stays as it was written."""
    import tomlkit

    document = tomlkit.parse(text)
    table = document.setdefault("select", tomlkit.table())
    table.pop("from", None)
    table["filter"] = tomlkit.aot()
    for member in filters:
        table["filter"].append(tomlkit.item({"use": member.use, **member.options}))
    return tomlkit.dumps(document)
