"""A waterfall of filters as lines of a table: what each removes, what is left, its options below it. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localdistill import Member, SavedSelection, SetVerdicts, Waterfall
from tui.widgets.paged_table import Cell, Column
from tui.widgets.progress import bar

BAR = 24
STEPS = (Column("step", 0), Column("removed", 9, right=True), Column("left", 9, right=True),
         Column("before", 9, right=True, from_width=64), Column("", BAR, from_width=90))
SAVED = (Column("selection", 0), Column("traces", 9, right=True), Column("run", 22, from_width=64),
         Column("saved", 16), Column("filters", 36, from_width=110))


@dataclass(frozen=True)
class WaterfallRow:
    """One line of the waterfall: a filter, or one of its options."""

    place: int
    """Which filter; -1 for the first and the last line."""
    option: str = ""
    help: str = ""


def saved_rows(saved: Sequence[SavedSelection]) -> list[Sequence[Cell]]:
    """The lines of the table of saved selections."""
    rows: list[Sequence[Cell]] = []
    for one in saved:
        names = ", ".join(str(member.get("use", "?")) for member in one.definition.get("filters") or ())
        rows.append(((one.name, "strong"), (f"{one.kept:,}", ""), (str(one.definition.get("run", "")), "muted"),
                     (f"{one.saved_at:%Y-%m-%d %H:%M}", "muted"), (names, "muted")))
    return rows


def verdict_rows(found: Sequence[SetVerdicts]) -> list[tuple[str, str]]:
    """What graders say of sets, a label and a text for each."""
    rows = []
    for one in found:
        share = "" if one.share is None else f" ({one.share:.1%})"
        counts = f"{one.right:,} right{share}, {one.wrong:,} wrong, {one.undecided:,} undecided of {one.traces:,}"
        means = ", ".join(f"{name} {mean:.4g}" for name, mean in one.metrics.items())
        rows.append((f"{one.trace_set}, {one.grader}", f"{counts}; means: {means}" if means else counts))
    return rows or [("nothing", "no grader of this run has judged anything yet")]


def waterfall_rows(
    stored: Waterfall, filters: Sequence[Member], off: frozenset[int], shape: Waterfall | None
) -> tuple[list[Sequence[Cell]], list[WaterfallRow]]:
    """The lines of the table and what each stands for. `shape` holds the counts of the filters that are on; None while
    they are counted."""
    counts = iter(shape.steps if shape else ())
    asked = stored.asked
    left: int | None = asked
    rows: list[Sequence[Cell]] = [(("collected", "strong"), ("", ""), (f"{asked:,}", "strong"), ("", ""),
                                   (bar(1.0 if asked else 0.0, BAR), "muted"))]
    steps = [WaterfallRow(-1)]
    for place, member in enumerate(filters):
        own = stored.steps[place] if place < len(stored.steps) else None
        before = "" if own is None or own.removed is None or shape is stored else f"-{own.removed:,}"
        if place in off:
            rows.append(((f"○ {member.use} (off)", "muted"), ("", ""), ("", ""), (before, "muted"), ("", "")))
        else:
            step = next(counts, None)
            removed = step.removed if step else None
            left = None if left is None or removed is None else left - removed
            rows.append(((f"● {member.use}", "strong"), ("?" if removed is None else f"-{removed:,}",
                                                         "bad" if removed else "muted"),
                         ("?" if left is None else f"{left:,}", ""), (before, "muted"),
                         ("" if left is None else bar(left / asked if asked else 0.0, BAR), "muted")))
        steps.append(WaterfallRow(place))
        for option in (own.options if own else ()):
            value = member.options.get(option.name, option.default)
            changed = value != option.value
            text = f"│ {option.name} = {option_text(value)}"
            rows.append(((text, "warn" if changed else "muted"), ("", ""), ("", ""),
                         (option_text(option.value) if changed else "", "muted"), ("", "")))
            steps.append(WaterfallRow(place, option.name, option.help))
    kept = shape.kept if shape else None
    rows.append((("kept", "strong"), ("", ""), ("?" if kept is None else f"{kept:,}", "strong"),
                 ("" if stored.kept is None or shape is stored else f"{stored.kept:,}", "muted"),
                 ("" if kept is None else bar(kept / asked if asked else 0.0, BAR), "good")))
    steps.append(WaterfallRow(-1))
    return rows, steps


def option_text(value: object) -> str:
    """A value as TOML writes it, where that is short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(option_text(item) if not isinstance(item, str) else f'"{item}"' for item in value) + "]"
    return str(value)
