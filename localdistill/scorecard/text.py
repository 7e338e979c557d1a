"""Score cards on paper: plain text that fits 100 columns, and Markdown. Shows what the card says and decides nothing;
model outputs are never printed here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from localdistill.scorecard.card import AtK, Comparison, ScoreCard, ScoreRow
from localdistill.scorecard.paper import cut, markdown_table, p_text, percent, points, signed, table, wrapped
from localdistill.scorecard.result import ResultRow

_CATEGORIES_PER_TABLE = 8
_METRICS_PER_TABLE, _METRIC_WIDTH = 4, 16

_CHOSEN = "development score"
DEV_RULE = ("Development items, of which no score counts one, chose these weights by the same rule for every arm: arms "
            "may differ in steps.")
_HEAD = ("model", "score", "95 % interval", "finished", "at limit", "of finished", "tokens", "trained")


def to_text(card: ScoreCard) -> str:
    """The card as plain text of at most 100 columns."""
    lines = [*wrapped(_title(card)), "", *table(_HEAD, [_cells(row) for row in card.rows])]
    lines += _notes(card)
    for title, head, rows in sampling_tables(card):
        lines += ["", f"{title}:", *table(head, rows)]
    if any(row.categories for row in card.rows) and not card.forms_of:
        lines += ["", "score by category:", *_category_tables(card)]
    if card.metrics:
        lines += ["", "also measured (means over the items):", *_metric_tables(card)]
        lines += [row for name, text in card.metrics.items() if text for row in wrapped(f"{name}: {text}", "", "  ")]
    for family, title in (("base", f"against {card.base}:"), ("arms", "arms against each other:")):
        found = [entry for entry in card.comparisons if entry.family == family]
        if found:
            lines += ["", title]
            for entry in found:
                lines += wrapped(_sentence(entry) + _same_text(card, entry), "  ", "    ")
    lines += ["", *(row for one in (*card.leaks, card.scope, _explanation(card), *made_by(card))
                    for row in wrapped(one))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def to_markdown(card: ScoreCard) -> str:
    """The card as Markdown."""
    lines = [f"**{_title(card)}**", "", *markdown_table(_HEAD, [_cells(row) for row in card.rows])]
    lines += ["", *_notes(card)] if _notes(card) else []
    for title, head, cells in sampling_tables(card):
        lines += ["", f"{title}:".capitalize(), "", *markdown_table(head, cells)]
    if any(row.categories for row in card.rows) and not card.forms_of:
        names = _category_names(card)
        rows = [(row.name, *_category_cells(row, names)) for row in card.rows]
        lines += ["", "Score by category:", "", *markdown_table(("model", *names), rows)]
    if card.metrics:
        rows = [(row.name, *_metric_cells(row, list(card.metrics))) for row in card.rows]
        lines += ["", "Also measured (means over the items):", "", *markdown_table(("model", *card.metrics), rows), ""]
        lines += [f"- `{name}`: {text}" for name, text in card.metrics.items() if text]
    for family, title in (("base", f"Against {card.base}:"), ("arms", "Arms against each other:")):
        found = [entry for entry in card.comparisons if entry.family == family]
        if found:
            head = ("pair", "difference", "95 % interval", "p (Holm)", "won / lost", "could be seen", "verdict")
            lines += ["", title, "", *markdown_table(head, [_comparison_cells(entry) for entry in found])]
    told = (*card.leaks, card.scope, _explanation(card), *made_by(card))
    lines += [row for one in told for row in ("", one)]
    return "\n".join(lines) + "\n"


def _title(card: ScoreCard) -> str:
    guard = ", guard task" if card.is_guard else ""
    if card.forms_of:
        return f"{card.task}{guard}: {card.items} items, graded by {card.grader}, forms of {card.forms_of}"
    seeds = "no trained arm" if not card.seeds else f"{card.seeds} seed{'s' if card.seeds > 1 else ''} per arm"
    return f"{card.task}{guard}: {card.items} items, graded by {card.grader}, {seeds}"


def _cells(row: ScoreRow) -> tuple[str, ...]:
    mark = " *" if row.stopped_early else ""
    finished = "-" if row.score_finished is None else percent(row.score_finished)
    return (row.name + mark, percent(row.score), f"{percent(row.interval[0])} - {percent(row.interval[1])}",
            percent(row.finished_share), percent(row.limit_share), finished, f"{row.mean_answer_tokens:.0f}",
            f"{row.trained_tokens:,}" if row.trained_tokens else "-")


def _notes(card: ScoreCard) -> list[str]:
    """What must be known of single rows beside their figures."""
    stopped = [f"* {row.name} was stopped early ({row.stopped_early}): shown, not ranked"
               for row in card.rows if row.stopped_early]
    undecided = [f"{row.name}: {row.undecided} of its {row.items * len(row.seeds)} items could not be judged, and "
                 "count as wrong" for row in card.rows if row.undecided]
    counted = [f"{row.name}: {said}" for row in card.rows if (said := _odd_replies(row))]
    chosen = [] if card.forms_of else kept_notes(card.rows)
    return [line for text in (*stopped, *undecided, *counted, *chosen) for line in wrapped(text)]


def kept_notes(rows: Iterable[ScoreRow | ResultRow]) -> list[str]:
    """Which weights came out and why, arm by arm, and that development items chose by the same rule for all."""
    told = [f"{row.name}{f', seed {seed}' if len(row.seeds) > 1 else ''}: {kept}"
            for row in rows for seed, kept in zip(row.seeds, row.kept)]
    return [*told, DEV_RULE] if any(_CHOSEN in text for text in told) else told


def _odd_replies(row: ScoreRow) -> str:
    """Replies that went round in circles, or ended without an answer that could be read; empty where none did."""
    replies = row.items * row.samples * len(row.seeds)
    said = [f"{row.loops} of {replies} replies go round in circles"] if row.loops else []
    said += [f"{row.unextracted} ended without an answer that could be taken out"] if row.unextracted else []
    return ", ".join(said)


def sampling_tables(card: ScoreCard) -> Iterator[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Title, head and cells of what several replies to each item say; nothing where there is one."""
    rows = [row for row in card.rows if row.pass_at]
    if rows:
        head = ["model", *(f"pass@{one.k}" for one in rows[0].pass_at),
                *(f"maj@{one.k}" for one in rows[0].majority_at), "± items", "± replies"]
        yield (f"over {rows[0].samples} replies to each item (in brackets: fewer than 2k, so only a hint)", head,
               [(row.name, *(_at(one) for one in (*row.pass_at, *row.majority_at)), *_errors(row)) for row in rows])
    names = list(dict.fromkeys(one.category for row in card.rows for one in row.difficulty))
    if names:
        yield ("score by how often the base gets an item right (chance alone moves the outer groups inwards)",
               ["model", *names], [(row.name, *_difficulty_cells(row, names)) for row in card.rows])


def _at(one: AtK) -> str:
    return percent(one.share) if one.is_sure else f"({percent(one.share)})"


def _errors(row: ScoreRow) -> tuple[str, str]:
    items, replies = ("-" if one is None else points(one) for one in (row.error_items, row.error_samples))
    return items, replies


def _difficulty_cells(row: ScoreRow, names: Sequence[str]) -> list[str]:
    found = {one.category: f"{percent(one.score)} of {one.items}" for one in row.difficulty}
    return [found.get(name, "-") for name in names]


def made_by(card: ScoreCard) -> list[str]:
    """Sampler, engine, arithmetic, holding and template, in a sentence for all rows or one for each kind of them."""
    told = [f"Sampler: {card.sampler}."] if card.sampler else []
    groups: dict[str, list[str]] = {}
    for row in card.rows:
        groups.setdefault(", ".join(f"{key} {value}" for key, value in row.served.items()), []).append(row.name)
    everyone = len(groups) == 1
    return told + [f"Answered with {how}" + ("." if everyone else f": {', '.join(names)}.")
                   for how, names in groups.items() if how]


def _sentence(entry: Comparison) -> str:
    low, high = entry.interval
    return (f"{entry.first} vs {entry.second}: {entry.verdict.upper()}, {signed(entry.difference)} points "
            f"({signed(low)} to {signed(high)}), p {p_text(entry.p_adjusted)}, won {entry.won}, lost {entry.lost}, "
            f"{points(entry.detectable)} points could be seen")


def _same_text(card: ScoreCard, entry: Comparison) -> str:
    """How often two forms of one model wrote the same; of different models it says nothing."""
    return f", same text on {entry.same_text} of {card.items}" if card.forms_of else ""


def _comparison_cells(entry: Comparison) -> tuple[str, ...]:
    low, high = entry.interval
    return (f"{entry.first} vs {entry.second}", signed(entry.difference), f"{signed(low)} to {signed(high)}",
            p_text(entry.p_adjusted), f"{entry.won} / {entry.lost}", points(entry.detectable), entry.verdict)


def _explanation(card: ScoreCard) -> str:
    methods = ", ".join(dict.fromkeys(entry.method for entry in card.comparisons)) or "no comparison"
    return (f"Differences are in percentage points on the same items ({methods}); p is adjusted by Holm inside each "
            "family, intervals are not. A difference 'could be seen' when the comparison finds it with 80 % "
            "probability. 'finished' ended by itself, 'at limit' was cut, 'of finished' scores finished "
            "replies only, 'tokens' is the mean reply, 'trained' the trained tokens.")


def _category_names(card: ScoreCard) -> list[str]:
    return list(dict.fromkeys(found.category for row in card.rows for found in row.categories))


def _category_cells(row: ScoreRow, names: Sequence[str]) -> list[str]:
    scores = {found.category: percent(found.score) for found in row.categories}
    return [scores.get(name, "-") for name in names]


def _category_tables(card: ScoreCard) -> list[str]:
    names, lines = _category_names(card), []
    for start in range(0, len(names), _CATEGORIES_PER_TABLE):
        part = names[start:start + _CATEGORIES_PER_TABLE]
        rows = [(row.name, *_category_cells(row, part)) for row in card.rows]
        lines += table(("category", *(cut(name or "(none)", 8) for name in part)), rows)
    return lines


def _metric_cells(row: ScoreRow, names: Sequence[str]) -> list[str]:
    found = {metric.name: f"{metric.mean:.4g}" for metric in row.metrics}
    return [found.get(name, "-") for name in names]


def _metric_tables(card: ScoreCard) -> list[str]:
    names, lines = list(card.metrics), []
    for start in range(0, len(names), _METRICS_PER_TABLE):
        part = names[start:start + _METRICS_PER_TABLE]
        rows = [(row.name, *_metric_cells(row, part)) for row in card.rows]
        lines += table(("model", *(cut(name, _METRIC_WIDTH) for name in part)), rows)
    return lines
