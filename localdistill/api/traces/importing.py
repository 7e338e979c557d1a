"""Reading files of other tools into the store: what the `import` command and the TUI do. Rows that cannot be used are
listed and left out, and the rest comes in; what nothing was made of is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from localdistill.core.behind import one_behind
from localdistill.core.errors import InputError
from localdistill.core.messages import call_name, tools_of
from localdistill.core.records import Prompt
from localdistill.interchange.columns import column_map
from localdistill.interchange.files import FileReading, looks_like, read_file
from localdistill.interchange.imported import Imported, in_batches, without_copies
from localdistill.interchange.known_sets import ColumnMap
from localdistill.interchange.unpacking import MOST_UNFOLD
from localdistill.stages.row_files import answers_not_barred
from localdistill.store import Added
from localdistill.store.forgetting import Names
from localdistill.templates.unknown_marks import MARK_HINT, unknown_mark
from localdistill.workspace.folder import Workspace
from localdistill.workspace.imports import begun
from localdistill.workspace.recovery import open_store

PREVIEW_ROWS = 3
MARKS_NAMED = 3


@dataclass(frozen=True)
class Preview:
    """The first rows of a file, rendered."""

    layout: str
    rows: tuple[str, ...]
    columns: str = ""
    """Which column holds what, where the file's columns are mapped; empty for other layouts."""
    is_guess: bool = False
    """That is only a guess: somebody should look at it before it is used."""
    left_out: tuple[str, ...] = ()
    """Why rows among the first ones cannot be used."""


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    file: str
    layout: str
    rows: int
    """That were used."""
    new_prompts: int
    new_traces: int
    note: str = ""
    """Why some of the rows will not be trained on, and what can be done about it; empty when all can."""
    unknown_marks: Mapping[str, int] = field(default_factory=dict)
    """What looks like a mark of reasoning and is none that we know -> answers that hold it."""
    left_out: int = 0
    """Rows that cannot be used."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why -> how many rows."""
    examples: tuple[str, ...] = ()
    """The first row of each reason."""
    unused: Mapping[str, int] = field(default_factory=dict)
    """Columns that held something and were not used -> in how many rows."""
    verdicts: int = 0
    """Answers that came with a verdict."""
    columns: str = ""
    """Which column held what, where columns were mapped."""
    ended_early: str = ""
    """Why the file could not be read to its end; empty when it was. What came before is stored."""


@dataclass(frozen=True)
class Origin:
    """Where a file is from."""

    name: str
    """What rows that do not say it themselves come from."""
    address: str = ""
    """What `import` takes to read it again; empty is its path."""
    licence: str = ""
    """Of rows that do not say it themselves."""

    def licensed(self, prompt: Prompt) -> Prompt:
        """The prompt, under this licence unless it has its own."""
        return replace(prompt, licence=self.licence) if self.licence and not prompt.licence else prompt


def _clip(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text):,} characters)"


def preview_file(path: Path, layout: str = "auto", columns: Mapping[str, str] | None = None,
                 unfold: float = MOST_UNFOLD) -> Preview:
    """The layout and the first rows that can be used; InputError names what is wrong where none can.

    columns: which column holds what (`question`, `answer`, ...), in place of a layout. unfold: see `import_file`.
    """
    stated = column_map(columns) if columns else None
    found = looks_like(path, unfold) if layout == "auto" and stated is None else None
    name = "columns" if stated else found.layout if found else layout
    used = stated or (found.columns if found else None)
    reading = FileReading()
    items = list(islice(read_file(path, name, used, reading, unfold), PREVIEW_ROWS))
    if not items and reading.examples:
        raise InputError(f"no row can be used: {reading.examples[0]}", "name the columns: --map question=COLUMN ...")
    return Preview(name, tuple(_shown(number, item) for number, item in items), used.said() if used else "",
                   found.is_guess if found else False, tuple(reading.examples))


def _shown(number: int, item: Imported) -> str:
    lines = [f"row {number}: {_clip(item.prompt.question)}"]
    if tools := tools_of(item.prompt.messages):
        lines.append(f"  tools:     {_clip(', '.join(map(call_name, tools)))}")
    if item.prompt.reference is not None:
        lines.append(f"  reference: {_clip(item.prompt.reference)}")
    if item.prompt.original:
        lines.append(f"  original:  {_clip(item.prompt.original)}")
    for answer in item.answers:
        trace, verdict = answer.trace, "" if answer.right is None else f", {'right' if answer.right else 'WRONG'}"
        lines.append(f"  reasoning: {_clip(trace.reasoning) or '(none)'}")
        lines.append(f"  answer:    {_clip(trace.answer) or '(none)'}   [{trace.status}{verdict}]")
        lines += [f"  calls:     {_clip(call)}" for call in trace.called]
        if mark := unknown_mark(trace.answer):
            lines.append(f"  {mark} looks like a mark of reasoning and is none that we know")
    return "\n".join(lines)


def import_file(workspace: Workspace, path: Path, layout: str = "auto",
                columns: Mapping[str, str] | None = None, unfold: float = MOST_UNFOLD,
                is_copied: bool = True, origin: Origin | None = None) -> ImportReport:
    """Store all rows of a file that can be used, as they are read. InputError when none can, or when a layout or
    columns must be named; a file that breaks off further on is no error: the report says where it ended.

    unfold: how many times larger than the file what it unfolds to may be.
    is_copied: a compressed copy of the rows is left in the workspace, so that a store that is lost can be made again.
    origin: where the file is from, where its place on this machine says nothing of that.
    """
    stated = column_map(columns) if columns else None
    name = "columns" if stated else looks_like(path, unfold).require_sure(path) if layout == "auto" else layout
    reading, sums = FileReading(), Counter[str]()
    store, ended = open_store(workspace), ""
    said = _said(path, name, stated, unfold)
    origin, seen = origin or Origin(path.name), _Seen(store.barred())
    rows = seen.rows(item for _, item in read_file(path, name, stated, reading, unfold, origin.name))
    with (begun(workspace, path, origin.address) as progress, store.importing(path.name, is_copied) as into,
          one_behind() as behind):
        for batch, broke_off in _batches(rows):
            ended = broke_off
            if not batch:
                break
            answers = [answer for item in batch for answer in item.answers]
            store_them = into.prepared([origin.licensed(item.prompt) for item in batch],
                                       [answer.trace for answer in answers],
                                       [fact for answer in answers if (fact := answer.fact) is not None])

            def keep(store_them: Callable[[], Added] = store_them, many: int = reading.rows) -> None:
                added = store_them()
                sums.update({"prompts": added.prompts, "traces": added.traces})
                progress(many)

            behind(keep)
    if not reading.rows:
        raise InputError(ended or (f"no row can be used: {reading.examples[0]}" if reading.examples else
                                   f"{path.name} holds no rows"), "look at the rows with --preview")
    note = _note(seen.ends, seen.marks, seen.forgotten)
    return ImportReport(origin.name, name, reading.rows, sums["prompts"], sums["traces"], note,
                        dict(seen.marks.most_common()), reading.left_out, dict(reading.reasons.most_common()),
                        tuple(reading.examples), dict(reading.unused.most_common()), seen.verdicts, said, ended)


def _said(path: Path, layout: str, stated: ColumnMap | None, unfold: float) -> str:
    if layout != "columns":
        return ""
    columns = stated or looks_like(path, unfold).columns
    return columns.said() if columns else ""


@dataclass
class _Seen:
    """What the rows of a file were like, copies among them included."""

    barred: Names
    verdicts: int = 0
    forgotten: int = 0
    marks: Counter[str] = field(default_factory=Counter)
    """What looks like a mark of reasoning and is none that we know."""
    ends: Counter[str] = field(default_factory=Counter)
    """How answers ended that are not complete."""

    def rows(self, rows: Iterable[Imported]) -> Iterator[Imported]:
        """The rows, looked at, without what was forgotten here and what came lately."""
        return without_copies(map(self._look, self._not_barred(rows)))

    def _not_barred(self, rows: Iterable[Imported]) -> Iterable[Imported]:
        if not self.barred.all:
            yield from rows
            return
        for row in rows:
            if self.barred.bars(row.prompt):
                self.forgotten += 1
            else:
                yield Imported(row.prompt, tuple(answers_not_barred([row], self.barred)))

    def _look(self, row: Imported) -> Imported:
        for answer in row.answers:
            self.verdicts += answer.right is not None
            if answer.trace.status != "complete":
                self.ends[answer.trace.status] += 1
            if mark := unknown_mark(answer.trace.answer):
                self.marks[mark] += 1
        return row


def _batches(rows: Iterator[Imported]) -> Iterator[tuple[list[Imported], str]]:
    """Rows that are stored together, and at the end why the file ended early, where it did."""
    ended = ""

    def items() -> Iterator[Imported]:
        nonlocal ended
        try:
            yield from rows
        except InputError as error:
            ended = f"{error.message}; {error.hint}"

    yield from ((batch, "") for batch in in_batches(items()))
    if ended:
        yield [], ended


def _note(ends: Counter[str], marks: Mapping[str, int], forgotten: int) -> str:
    notes = [f"{forgotten} were forgotten here on purpose, and stay out"] if forgotten else []
    if ends:
        notes.append(f"{ends.total()} are not complete ({', '.join(sorted(ends))}) and stay out of training")
    if marks:
        named = ", ".join(f"{count} x {mark}" for mark, count in Counter(marks).most_common(MARKS_NAMED))
        more = f" and {len(marks) - MARKS_NAMED} more" if len(marks) > MARKS_NAMED else ""
        notes.append(f"{sum(marks.values())} hold what looks like a mark of reasoning and is none that we know "
                     f"({named}{more}): {MARK_HINT}")
    return "; ".join(notes)
