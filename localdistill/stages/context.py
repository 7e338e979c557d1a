"""What every stage is given, and the few steps that several stages share: building members from the recipe, finding
the files it names, and journalled writes of traces."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.engines import ENGINES
from localdistill.engines.base import Engine
from localdistill.errors import UsageError
from localdistill.events import ArtifactWritten, Cancel, Emit, Noted, Warned
from localdistill.interchange.files import read_prompts
from localdistill.journal import JournalWriter
from localdistill.modelfiles.folder import resolve_model
from localdistill.modelfiles.shipped import resolve_path
from localdistill.recipe import Member, Recipe
from localdistill.records import Grade, Prompt, Trace
from localdistill.registry import Family
from localdistill.run_folder import RunFolder
from localdistill.store import Store
from localdistill.tasks import TASKS
from localdistill.tasks.base import Task
from localdistill.workspace import Artifact, Workspace

TAKE_IN_EVERY_S = 0.5


def build_member(family: Family, member: Member, base: Path, **passed: Any) -> Any:
    """A family member built from its checked options. Options that name files start from `base` when they are
    relative; `passed` goes to the member beside its options."""
    cls = family.load(member.use)
    options = dict(member.options)
    for key in cls.Options.file_fields():
        if options.get(key) and not options[key].startswith("hf://"):
            options[key] = str(resolve_path(options[key], base))
    return cls(cls.Options.model_validate(options), **passed)


def build_tasks(recipe: Recipe, base: Path) -> list[Task]:
    """The benchmarks of `recipe`."""
    members = recipe.evaluate.tasks if recipe.evaluate else ()
    return [build_member(TASKS, member, base, read=read_prompts) for member in members]


@dataclass
class StageContext:
    """The workspace, run, recipe and store of one stage, and how it reports."""

    workspace: Workspace
    run: RunFolder
    recipe: Recipe
    store: Store
    emit: Emit
    cancel: Cancel
    reused_all: bool = field(default=True)
    """Stays true as long as the stage found everything done before."""

    @cached_property
    def base(self) -> Path:
        """The folder that relative paths of the recipe start from."""
        return Path(self.run.request()["base"])

    def path(self, text: str) -> Path:
        """The file or folder that the recipe names."""
        return resolve_path(text, self.base)

    def member(self, family: Family, member: Member) -> Any:
        """A family member built from its checked options; paths in them are resolved."""
        return build_member(family, member, self.base)

    @contextmanager
    def engine(self, member: Member) -> Iterator[Engine]:
        """An engine, closed at the end."""
        engine: Engine = self.member(ENGINES, member)
        try:
            yield engine
        finally:
            engine.close()

    def tasks(self) -> list[Task]:
        """The benchmarks of the recipe."""
        return build_tasks(self.recipe, self.base)

    @cached_property
    def student(self) -> Path:
        """The folder of the base model."""
        if self.recipe.student is None:
            raise UsageError("this recipe has no [student]", 'add one, for example model = "shipped:pantry/student"')
        source = self.recipe.student.model
        return resolve_model(source if source.startswith("hf://") else str(self.path(source)))

    def note(self, stage: str, text: str) -> None:
        """Say one sentence."""
        self.emit(Noted(stage, text))

    def warn(self, stage: str, text: str, hint: str = "") -> None:
        """Warn; the work goes on."""
        self.emit(Warned(stage, text, hint))

    def worked(self) -> None:
        """Something was not there before."""
        self.reused_all = False

    def announce(self, artifact: Artifact, label: str, reused: bool) -> None:
        """Say that an artifact is complete."""
        if not reused:
            self.worked()
        self.emit(ArtifactWritten(artifact.kind, artifact.digest, label, reused))

    def artifact(self, kind: str, digest: str) -> Artifact:
        """An artifact that an earlier stage left; UsageError when its folder is gone."""
        found = self.workspace.artifact(kind, digest)
        if found is None:
            raise UsageError(f"the {kind} {digest} is gone from this workspace", f"localdistill resume {self.run.id}")
        return found

    @contextmanager
    def journal(self) -> Iterator[JournalledWriter]:
        """A writer whose traces are in the journal first and in the store soon after."""
        self.take_in_journal()
        writer = JournalledWriter(self.run.journal, self.store)
        try:
            yield writer
        finally:
            writer.close()

    def take_in_journal(self) -> None:
        """Let the store read what an interrupted process left in the run's journal, and say what was mended."""
        caught = self.store.catch_up([self.run.journal])
        if caught.healed:
            self.warn("store", f"the store had lost {caught.healed} replies; they are back from the journal")
        if caught.damaged:
            self.warn("store", f"{caught.damaged} lines of the journal are damaged and were passed over")

    def pairs(self, trace_ids: Sequence[str]) -> Iterator[tuple[Prompt, Trace]]:
        """Prompts and traces of `trace_ids`, streamed from the store."""
        return self.store.pairs(trace_ids)


class JournalledWriter:
    """Appends traces (with the grades that came with them) to the run's journal and lets the store take them in."""

    def __init__(self, path: Path, store: Store) -> None:
        self._writer = JournalWriter(path)
        self._path = path
        self._store = store
        self._taken_at = time.monotonic()

    def add(self, trace: Trace, grades: Iterable[Grade] = ()) -> None:
        """Acknowledge one trace: it is on disk within 50 ms and in the store within half a second."""
        record: Mapping[str, Any] = {"kind": "trace", "trace": asdict(trace), "grades": [asdict(g) for g in grades]}
        self._writer.append(dict(record))
        if time.monotonic() - self._taken_at > TAKE_IN_EVERY_S:
            self.take_in()

    def take_in(self) -> None:
        """Let the store read what it has not read yet."""
        self._writer.sync()
        self._store.catch_up([self._path])
        self._taken_at = time.monotonic()

    def close(self) -> None:
        """Everything on disk and in the store."""
        self.take_in()
        self._writer.close()
