"""A result on paper: one sentence, one table, one next step - plain text of at most 100 columns, or Markdown."""

from __future__ import annotations

from localdistill.core.durations import duration_text
from localdistill.scorecard.model_selection import Standing
from localdistill.scorecard.paper import WIDTH, markdown_table, p_text, percent, signed, table, wrapped
from localdistill.scorecard.result import Result, ResultRow
from localdistill.scorecard.text import kept_notes

_VERDICTS = {"better": "better", "worse": "WORSE", "cannot tell": "cannot tell", "not compared": "not compared"}
_OTHERS_PER_TABLE = 2


def result_to_text(result: Result) -> str:
    """The result as plain text."""
    lines = [*wrapped(result.sentence)]
    if result.rows:
        for columns in _fitting(result):
            lines += ["", *table(*columns)]
        lines += ["", *(row for text in result_notes(result) for row in wrapped(text))]
    lines += ["", *(row for text in result.files for row in wrapped(text))] if result.files else []
    if result.next is not None:
        lines += ["", *wrapped(f"next: {result.next.text}", "", "  ")]
        lines += [f"  localdistill {result.next.command}"] if result.next.command else []
    return "\n".join(line.rstrip() for line in lines) + "\n"


def result_to_markdown(result: Result) -> str:
    """The result as Markdown."""
    lines = [f"**{result.sentence}**"]
    if result.rows:
        lines += ["", *markdown_table(result_head(result), [result_cells(result, row) for row in result.rows])]
        lines += ["", *(f"- {text}" for text in result_notes(result))]
    lines += ["", *(f"- {text}" for text in result.files)] if result.files else []
    if result.next is not None:
        command = f": `localdistill {result.next.command}`" if result.next.command else ""
        lines += ["", f"Next: {result.next.text}{command}"]
    return "\n".join(lines) + "\n"


def _fitting(result: Result) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """The table; where it is too wide, the other tasks come below in tables of their own."""
    head, rows = result_head(result), [result_cells(result, row) for row in result.rows]
    others = range(3, 3 + len(result.base_scores[1:]))
    if max(map(len, table(head, rows))) <= WIDTH:
        return [(head, rows)]
    groups = [[0, *(place for place in range(1, len(head)) if place not in others)]]
    groups += [[0, *others[first:first + _OTHERS_PER_TABLE]] for first in range(0, len(others), _OTHERS_PER_TABLE)]
    return [(tuple(head[place] for place in group), [tuple(row[place] for place in group) for row in rows])
            for group in groups]


def result_head(result: Result) -> tuple[str, ...]:
    """Titles of the columns: the target, each other task, tokens and time."""
    others = [f"{task} (guard)" if guard else task for task, guard, _ in result.base_scores[1:]]
    return ("model", result.target, "against base", *others, "tokens", "seeds", "trained in")


def result_cells(result: Result, row: ResultRow) -> tuple[str, ...]:
    """One contestant in figures."""
    if row.standing is None:
        others = [percent(score) for _, _, score in result.base_scores[1:]]
        return (row.name, percent(row.score), "", *others, f"{row.answer_tokens:.0f}", "", "")
    return (row.name + (" *" if row.stopped_early else ""), percent(row.score), _against(row.standing),
            *(_elsewhere(one) for one in row.others), f"{row.answer_tokens:.0f}", str(len(row.seeds)),
            duration_text(row.training_s) if row.training_s is not None else "-")


def result_notes(result: Result) -> list[str]:
    """What must be known beside the table."""
    notes = [f"* {row.name} was stopped early ({row.stopped_early}): shown, not ranked"
             for row in result.rows if row.stopped_early]
    notes += [*kept_notes(result.rows), *filter(None, [result.tuned]), *result.learned]
    if any(row.standing is not None and row.standing.p_adjusted is not None for row in result.rows):
        notes.append("Intervals speak of one comparison each; verdicts follow p, adjusted by Holm over all arms.")
    margins = [one.margin for row in result.rows for one in row.others if one.margin is not None]
    if margins:
        notes.append(f"A guard holds when the whole interval of its difference lies above {-100 * margins[0]:g} "
                     "points (evaluate.guard_margin).")
    if result.spent_usd:
        notes.append(f"The run spent ${result.spent_usd:.2f}.")
    return [*notes, result.scope] if result.scope else notes


def _against(standing: Standing) -> str:
    if standing.interval is None:
        return "not compared"
    low, high = standing.interval
    p = "" if standing.p_adjusted is None else f" p {p_text(standing.p_adjusted)}"
    return f"{signed(standing.difference or 0.0)} ({signed(low)} to {signed(high)}){p} {_VERDICTS[standing.verdict]}"


def _elsewhere(standing: Standing) -> str:
    """Score, difference, and what that means there."""
    if standing.interval is None or standing.score is None:
        return "not compared"
    said = ("holds" if standing.holds else "HARM" if standing.is_harm else "not shown") if standing.is_guard else \
        _VERDICTS[standing.verdict]
    return f"{percent(standing.score)} {signed(standing.difference or 0.0)} {said}"
