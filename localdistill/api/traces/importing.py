"""Reading files of other tools into the store: what the `import` command and the TUI do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localdistill.core.records import Trace
from localdistill.interchange.files import detect, read_file
from localdistill.templates.unknown_marks import MARK_HINT, unknown_mark
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store

PREVIEW_ROWS = 3
MARKS_NAMED = 3


@dataclass(frozen=True)
class Preview:
    """The first rows of a file, rendered."""

    layout: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    file: str
    layout: str
    rows: int
    new_prompts: int
    new_traces: int
    note: str = ""
    """Why some of the rows will not be trained on, and what can be done about it; empty when all can."""
    unknown_marks: Mapping[str, int] = field(default_factory=dict)
    """What looks like a mark of reasoning and is none that we know -> answers that hold it."""


def _clip(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text):,} characters)"


def preview_file(path: Path, layout: str = "auto") -> Preview:
    """The detected layout and the first rows; InputError names what is wrong."""
    name = detect(path) if layout == "auto" else layout
    rows = []
    for number, item in read_file(path, name):
        lines = [f"row {number}: {_clip(item.prompt.question)}"]
        if item.prompt.reference is not None:
            lines.append(f"  reference: {_clip(item.prompt.reference)}")
        if item.prompt.original:
            lines.append(f"  original:  {_clip(item.prompt.original)}")
        if item.trace:
            lines.append(f"  reasoning: {_clip(item.trace.reasoning) or '(none)'}")
            lines.append(f"  answer:    {_clip(item.trace.answer) or '(none)'}   [{item.trace.status}]")
            if mark := unknown_mark(item.trace.answer):
                lines.append(f"  {mark} looks like a mark of reasoning and is none that we know")
        rows.append("\n".join(lines))
        if len(rows) == PREVIEW_ROWS:
            break
    return Preview(name, tuple(rows))


def import_file(workspace: Workspace, path: Path, layout: str = "auto") -> ImportReport:
    """Store all rows of a file. The whole file is read before anything is stored, so a bad row stores nothing."""
    name = detect(path) if layout == "auto" else layout
    items = [item for _, item in read_file(path, name)]
    store = open_store(workspace)
    prompts = store.add_prompts(item.prompt for item in items)
    traces = store.add_traces(item.trace for item in items if item.trace)
    found = [item.trace for item in items if item.trace]
    marks = Counter(mark for trace in found if (mark := unknown_mark(trace.answer)))
    return ImportReport(path.name, name, len(items), prompts, traces, _note(found, marks), dict(marks.most_common()))


def _note(traces: Iterable[Trace], marks: Mapping[str, int]) -> str:
    ends = Counter(trace.status for trace in traces if trace.status != "complete")
    notes = []
    if ends:
        notes.append(f"{ends.total()} are not complete ({', '.join(sorted(ends))}) and stay out of training")
    if marks:
        named = ", ".join(f"{count} x {mark}" for mark, count in Counter(marks).most_common(MARKS_NAMED))
        more = f" and {len(marks) - MARKS_NAMED} more" if len(marks) > MARKS_NAMED else ""
        notes.append(f"{sum(marks.values())} hold what looks like a mark of reasoning and is none that we know "
                     f"({named}{more}): {MARK_HINT}")
    return "; ".join(notes)
