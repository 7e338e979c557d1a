"""Opens files of prompts and traces, finds out their layout, and names the exact row that cannot be used. Row by row: a
file is never held in memory. Knows no layout beyond the family's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from localdistill.core.errors import InputError
from localdistill.core.records import Prompt
from localdistill.interchange import LAYOUTS
from localdistill.interchange.base import Layout
from localdistill.interchange.columns import ColumnsLayout, guess, is_usual
from localdistill.interchange.imported import Imported
from localdistill.interchange.known_sets import ColumnMap, known_set
from localdistill.interchange.raw_rows import rows_of
from localdistill.interchange.row import Row
from localdistill.interchange.unpacking import MOST_UNFOLD

MOST_REASONS = 50
"""Reasons that are told apart, and columns that are named; a file may bring another one with every row."""
OTHERS = "for other reasons"
_SAMPLE_ROWS = 5


@dataclass
class FileReading:
    """How the reading of a file goes; rows that cannot be used are listed here and passed over."""

    rows: int = 0
    """That could be used."""
    left_out: int = 0
    examples: list[str] = field(default_factory=list)
    """Why rows were left out: the first of each kind, with their numbers."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many rows were left out by reason."""
    unused: Counter[str] = field(default_factory=Counter)
    """Columns that held something that nothing was made of, with in how many rows."""

    def leave(self, error: InputError) -> None:
        """Count a row that `error` is about."""
        reason, example = error.message.split(": ", 1)[-1], error.message
        self.left_out += 1
        if reason not in self.reasons and len(self.reasons) >= MOST_REASONS:
            reason = example = OTHERS
        if reason not in self.reasons:
            self.examples.append(example)
        self.reasons[reason] += 1

    def took(self, unused: Iterable[str]) -> None:
        """Count a row that was used, and its columns that were not."""
        self.rows += 1
        for name in unused:
            if name in self.unused or len(self.unused) < MOST_REASONS:
                self.unused[name] += 1


def read_file(path: Path | str, layout: str | None = None, columns: ColumnMap | None = None,
              reading: FileReading | None = None, unfold: float = MOST_UNFOLD,
              source: str = "") -> Iterator[tuple[int, Imported]]:
    """Number (line of a file of one row a line, else position, both from 1) and content of every row, lazily.

    `layout` None detects it. `columns` says which column holds what, in place of a layout. With `reading`, rows that
    cannot be used are counted there and passed over. unfold: how many times larger than the file its content may be.
    source: what rows that do not say it come from; empty is the file's name.
    Raises InputError naming file and row, UsageError for an unknown layout name.
    """
    path = Path(path)
    reader: Layout = LAYOUTS.load(layout or detect(path, unfold))() if columns is None else ColumnsLayout(columns)
    name = source or path.name
    for number, values in rows_of(path, reading.leave if reading is not None else None, unfold):
        row = Row(values)
        try:
            item = reader.read(row, number, name)
        except InputError as error:
            if reading is None:
                raise
            reading.leave(error)
            continue
        if reading is not None:
            reading.took(row.unused())
        yield number, item


def read_prompts(path: Path, layout: str | None = None) -> Iterator[Prompt]:
    """The prompts of a file alone, in order: what tasks are given to read their items with."""
    return (row.prompt for _, row in read_file(path, layout))


def preview(path: Path | str, count: int = 3, layout: str | None = None) -> list[tuple[int, Imported]]:
    """The first `count` rows as `read_file` gives them."""
    return list(islice(read_file(path, layout), count))


@dataclass(frozen=True)
class Likeness:
    """What the first rows of a file look like."""

    layout: str
    columns: ColumnMap | None = None
    """Which column holds what, where that is not fixed by the layout."""
    is_guess: bool = False
    """Some column could as well hold something else."""

    def require_sure(self, path: Path) -> str:
        """The layout; InputError with what to say where it is a guess."""
        if self.is_guess and self.columns is not None:
            raise InputError(
                f"{path.name}: which column holds what is only a guess: {self.columns.said()}",
                f"when that is right, say it: --map {self.columns.stated()} (in a recipe: columns = {{...}}, or "
                "layout = \"columns\")")
        return self.layout


def detect(path: Path | str, unfold: float = MOST_UNFOLD) -> str:
    """The name of the layout. Raises InputError as `looks_like` does, and where columns could only be guessed."""
    return looks_like(path, unfold).require_sure(Path(path))


def looks_like(path: Path | str, unfold: float = MOST_UNFOLD) -> Likeness:
    """The first layout of the family's table that recognises most of the first rows: a few may be such that cannot be
    used. Raises InputError that lists the keys seen when there is none."""
    path = Path(path)
    left = FileReading()
    sample = [row for _, row in islice(rows_of(path, left.leave, unfold), _SAMPLE_ROWS)]
    if not sample and left.examples:
        raise InputError(f"no row can be used: {left.examples[0]}", "give a file with at least one row")
    if not sample:
        raise InputError(f"{path.name} holds no rows", "give a file with at least one row")
    for name in LAYOUTS.members:
        layout: Layout = LAYOUTS.load(name)()
        if 2 * sum(layout.recognises(row) for row in sample) > len(sample):
            return Likeness(name) if name != ColumnsLayout.name else _columns(sample)
    keys = sorted({str(key) for row in sample for key in row})
    raise InputError(f"{path.name} has no known layout; keys seen: {', '.join(keys[:30]) or 'none'}",
                     "name the columns: --map question=COLUMN answer=COLUMN reasoning=COLUMN reference=COLUMN")


def _columns(sample: Sequence[Mapping[str, Any]]) -> Likeness:
    for row in sample:
        if (known := known_set(row)) is not None:
            return Likeness(ColumnsLayout.name, known.columns)
    guessed = next(found for row in sample if (found := guess(row)) is not None)
    return Likeness(ColumnsLayout.name, guessed, is_guess=not is_usual(guessed))
