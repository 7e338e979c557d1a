"""Data out: what is stored as a file that other tools read. Rows are made one by one, each is read again as an import
would, and what it lost is counted; the file is whole or absent, and a card lies beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localdistill.api.traces.choosing import DataChoice, source_of
from localdistill.api.traces.data_card import DataFacts, card_path, card_text
from localdistill.api.traces.data_layouts import TOKENS, DataLayout, data_layout
from localdistill.api.traces.dataset_entry import LLAMA_FACTORY, entry_of
from localdistill.api.traces.taken import Source, Taken
from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError, UsageError
from localdistill.core.events import Cancel, Emit, Progressed, silent
from localdistill.interchange import LAYOUTS
from localdistill.interchange.base import Layout, Reasoning
from localdistill.interchange.files import MOST_REASONS, OTHERS
from localdistill.interchange.imported import Answer, Imported
from localdistill.interchange.losses import FACTS, HALVES, lost_between
from localdistill.interchange.row_files import Put, ending_of, writing_rows
from localdistill.safety.files import atomic_write_text, partial_file, sha256_file
from localdistill.stages.export import strictest_terms
from localdistill.store import Store
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store

FOLDER_FILE = "train.jsonl"
"""What the rows are called in a folder: there the hub's library and mlx-lm look for them."""
TOLD_EVERY = 1000
PARTLY = "tokens that count in part: labels say all or nothing, the column weights says how much"
MARKED = ("right", "wrong", "undecided")


@dataclass(frozen=True)
class DataExport:
    """What came out."""

    file: Path
    card: Path
    """What the data is and where it is from, for people."""
    layout: str
    reasoning: str
    """Where it stands: `field`, `tags` or `kept`; empty where rows have none."""
    rows: int
    traces: int
    """That the rows are of."""
    left_out: Mapping[str, int]
    """Why -> traces that are in no row."""
    lost: Mapping[str, int]
    """What rows do not hold, or hold otherwise -> how many of them."""
    verdicts: Mapping[str, int]
    """`right`, `wrong`, `undecided` -> traces in rows."""
    notes: tuple[str, ...]
    """What a person should know before somebody trains on it."""
    sha256: str
    size_bytes: int


def export_data(workspace: Workspace, file: Path, choice: DataChoice | None = None, layout: str = "",
                reasoning: str = "", tool: str = "", force: bool = False, emit: Emit = silent,
                cancel: Cancel | None = None) -> DataExport:
    """Write what `choice` names, or all that is stored, to `file`, which must not be there yet unless `force`d: JSON
    lines, gzip or Parquet by its ending. A folder gets `train.jsonl`.

    layout: one of `data_layouts()`; empty is the first that `tool` reads, else `messages`. UsageError for what cannot
    be written so, InputError when there is nothing to write.
    """
    file = file / FOLDER_FILE if file.is_dir() or file.as_posix().endswith("/") else file
    ending, form = ending_of(file), data_layout(layout, tool)
    entry = entry_of(file, form, force) if tool == LLAMA_FACTORY else None
    if file.exists() and not force:
        raise UsageError(f"{file.name} is there already", "--force writes over it; or give another name")
    source = source_of(workspace, choice or DataChoice())
    file.parent.mkdir(parents=True, exist_ok=True)

    def new_job(with_tools: bool) -> _Job:
        return _Job(form, form.way(reasoning), open_store(workspace), emit, cancel or Cancel(), with_tools)

    job = new_job(not ending.endswith(".parquet"))
    with partial_file(file) as partial:
        try:
            job.write_file(source, partial, ending)
        except _HoldsTools:
            job = new_job(True)
            job.write_file(source, partial, ending)
        if not job.rows:
            why = job.left_out.most_common(1)[0][0] if job.left_out else "no answer is chosen, or none is stored"
            raise InputError(f"nothing can be written as {form.name}: {why}",
                             "`localdistill traces` shows what is stored, `data layouts` how it goes out; prompts "
                             "without answers go out with --as prompts")
    done = DataExport(file, card_path(file), form.name, job.reasoning if form.writing.reasoning else "", job.rows,
                      job.traces, dict(job.left_out.most_common()), dict(job.lost.most_common()),
                      {name: job.verdicts[name] for name in MARKED if job.verdicts[name]}, tuple(job.notes()),
                      sha256_file(file), file.stat().st_size)
    if entry is not None:
        entry.write()
    atomic_write_text(done.card, card_text(done.file, done.sha256, job.counted(done), source.said, job.facts, form))
    return done


class _HoldsTools(Exception):
    """A row needs columns for tools. Where columns have types, they are there for such files only: templates ask
    whether a turn has calls by whether it has the key."""


@dataclass
class _Job:
    """One file under way, and what is counted."""

    form: DataLayout
    reasoning: Reasoning
    store: Store
    emit: Emit
    cancel: Cancel
    with_tools: bool
    """The file has columns for tools."""
    rows: int = 0
    traces: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    facts: DataFacts = field(default_factory=DataFacts)

    def write_file(self, source: Source, path: Path, ending: str) -> None:
        """All of it. Raises _HoldsTools where it must begin again with columns for tools."""
        more = self.form.writing.with_tools or {} if self.with_tools else {}
        with writing_rows(path, ending, {**self.form.writing.columns, **more}) as put:
            (self.write_tokens if self.form.name == TOKENS else self.write)(source, put)

    def write(self, source: Source, put: Put) -> None:
        """Every row."""
        layout: Layout = LAYOUTS.load(self.form.name)()
        children: list[str] = []
        for number, taken in enumerate(source.items(self.form.writing.a_row), start=1):
            if number % TOLD_EVERY == 0:
                self.cancel.check()
                self.emit(Progressed("rows", self.rows, 0, "rows"))
            if isinstance(taken, str):
                self.left_out[taken] += 1
                continue
            try:
                self._row(layout, taken, put)
            except InputError as error:
                reason = error.message
                known = reason in self.left_out or len(self.left_out) < MOST_REASONS
                self.left_out[reason if known else OTHERS] += max(1, len(taken.item.answers))
                continue
            children += [one.trace.id for one in taken.item.answers if one.trace.is_rewritten]
            if len(children) >= BORDERS.terms_of_parents:
                self._terms_of(children)
        self._terms_of(children)

    def write_tokens(self, source: Source, put: Put) -> None:
        """Every row of a dataset. What the card says is known of the traces behind them."""
        traces = dict[str, int]()
        for row in source.token_rows():
            put(row)
            self.rows += 1
            traces[row["trace_id"]] = traces.get(row["trace_id"], 0) + 1
            self.lost.update([PARTLY] if any(0 < weight < 1 for weight in row["weights"]) else [])
            if self.rows % TOLD_EVERY == 0:
                self.cancel.check()
                self.emit(Progressed("rows", self.rows, 0, "rows"))
        self.traces = len(traces)
        for prompt, trace in self.store.pairs(list(traces)):
            self.facts.see(Imported(prompt, (Answer(trace),)))
            self.statuses[trace.status] += 1
        self.facts.terms.update(self.store.terms(list(traces)))

    def _row(self, layout: Layout, taken: Taken, put: Put) -> None:
        item = taken.item
        if item.uses_tools and not self.with_tools and self.form.writing.with_tools:
            raise _HoldsTools
        row = layout.write(item, self.reasoning)
        if self.form.writing.a_row != "prompt":
            again = layout.read(row, self.rows + 1, item.trace.source if item.trace else item.prompt.source)
            self.lost.update(lost_between(item, again))
        self.lost.update([FACTS] if taken.facts else [])
        self.lost.update([HALVES] if put(row) else [])
        self.rows += 1
        self.traces += len(item.answers)
        self.facts.see(item)
        for one in item.answers:
            self.verdicts[MARKED[2] if one.right is None else MARKED[not one.right]] += 1
            self.statuses[one.trace.status] += 1

    def _terms_of(self, children: list[str]) -> None:
        """The terms of whose answers were rewritten count too."""
        if children:
            self.facts.terms.update(self.store.terms(children))
        children.clear()

    def notes(self) -> list[str]:
        """What other tools will not ask about."""
        found = []
        if self.verdicts["wrong"] and self.form.writing.a_row == "answer":
            found.append(f"{self.verdicts['wrong']:,} of {self.traces:,} answers are wrong by what is known, and other "
                         "tools train on them all the same: --where \"score IS DISTINCT FROM 0\" leaves them out")
        if ends := {name: count for name, count in self.statuses.items() if name != "complete"}:
            found.append(f"{sum(ends.values()):,} answers are not complete ("
                         + ", ".join(f"{name} {count:,}" for name, count in ends.items())
                         + "): --where \"status = 'complete'\" leaves them out")
        terms = strictest_terms(self.facts.terms)
        if terms.strictest in ("prohibited", "unknown"):
            found.append(f"the terms of {', '.join(terms.providers)} count for these answers")
        return found

    def counted(self, done: DataExport) -> dict[str, Mapping[str, int]]:
        """Counts for the card."""
        return {"left out": done.left_out, "not in the rows": done.lost, "verdicts": done.verdicts,
                "how answers ended": dict(self.statuses), "rows": {"rows": done.rows, "answers": done.traces}}

