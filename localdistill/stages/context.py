"""What every stage is given, and the few steps that several stages share: building members from the recipe, finding
the files it names, and journalled writes of traces."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from localdistill.core.errors import LocalDistillError, RecipeError, StoreError, UsageError
from localdistill.core.events import ArtifactWritten, Cancel, Emit, Measured, Noted, Warned
from localdistill.core.records import Fact, Prompt, Reply, Trace
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine, Metered
from localdistill.hub import datasets
from localdistill.hub.names import DATASETS, in_hub
from localdistill.interchange.files import read_prompts
from localdistill.interchange.raw_rows import rows_of
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.modelfiles.shipped import resolve_path
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.recipe import Member, Recipe
from localdistill.recipe.sections import TrainSection
from localdistill.safety.journal import JournalWriter
from localdistill.spending.ledger import NANO, SpendLedger
from localdistill.stages.holdout import HeldOut, Holdout
from localdistill.stages.outputs import TuneOutput, has_output, read_output
from localdistill.store import Store
from localdistill.store.lines import facts_line, prompt_line, said_now, trace_line
from localdistill.store.replies import ReplyKey, reply_line
from localdistill.tasks import TASKS
from localdistill.tasks.base import Task
from localdistill.tasks.items import ItemSource
from localdistill.trainers import TRAINERS, usual_trainer
from localdistill.trainers.base import Trainer
from localdistill.workspace.folder import Artifact, Workspace
from localdistill.workspace.recovery import missing_prompts, take_in
from localdistill.workspace.run_folder import RunFolder
from localdistill.workspace.terms import who_answers

if TYPE_CHECKING:
    from localdistill.workspace.logprobs import LogprobWriter

TAKE_IN_EVERY_S = 0.5
BASE_VERSION = 1
"""Of how a base is held."""


def build_member(family: Family, member: Member, base: Path, **passed: Any) -> Any:
    """A family member built from its checked options. Options that name files start from `base` when they are
    relative, and those of the hub are where they were fetched to; `passed` goes to the member beside its options."""
    cls = family.load(member.use)
    options = dict(member.options)
    for key in cls.Options.file_fields():
        if options.get(key):
            options[key] = _placed(options[key], base)
    try:
        checked = cls.Options.model_validate(options)
    except ValidationError as error:  # options of a recipe are checked when it is read; those of a run were then
        wrong = error.errors(include_url=False, include_input=False)[0]
        raise RecipeError(f"{family.noun} '{member.use}': {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}",
                          "the run was begun by another version of localdistill: start it anew, what is done is not "
                          "done again") from None
    return cls(checked, **passed)


def _placed(name: str, base: Path) -> str:
    """Where the file is that an option names; what lies in the hub alone keeps its name."""
    if name.startswith(DATASETS):
        return str(datasets.here(name) or name)
    return name if in_hub(name) else str(resolve_path(name, base))


def build_tasks(recipe: Recipe, base: Path, held: HeldOut | None = None) -> list[Task]:
    """The benchmarks of `recipe`; one that is named several times, with other options, is called by number. held: what
    it sets aside, where the caller has that already."""
    section, held = recipe.evaluate, held or HeldOut(recipe, base)
    tasks = [build_task(member, base, held) for member in (section.tasks if section else ())]
    for task, name in zip(tasks, section.task_names if section else ()):
        task.name = name
    return tasks


def build_task(member: Member, base: Path, held: HeldOut) -> Task:
    """One benchmark. held: what the recipe sets aside."""
    task: Task = build_member(TASKS, member, base, source=ItemSource(read_prompts, rows_of, held))
    return task


def build_trainer(recipe: Recipe, base: Path, chosen: Mapping[str, Any] | None = None) -> Trainer:
    """The trainer of `recipe`; the default one where it trains nothing, which says how the student is run as it is.
    chosen: options in place of the recipe's; those with the most memory that tuning may choose."""
    section = recipe.train or TrainSection(use=usual_trainer())
    options = {**section.heaviest_options(), **(chosen or {})}
    trainer: Trainer = build_member(TRAINERS, Member(use=section.use, options=options), base)
    return trainer


def held_digest(workspace: Workspace, trainer: Trainer, student: Path) -> str:
    """Digest of the artifact with the student as the trainer holds it; empty where it is used as it is stored."""
    spec = trainer.held_base(student)
    inputs = [ModelFolder.open(student).digest()] if spec else []
    return workspace.artifact_digest("base", BASE_VERSION, spec, inputs) if spec else ""


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
    died_for_memory: bool = False
    """The process of this stage before this one was ended by the system, most likely for want of memory."""
    seeds: int = 0
    """Trainings per arm that this leg of a race goes up to; 0: all of them."""
    _writer: JournalledWriter | None = field(default=None, init=False)

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
        """An engine, closed at the end. See `open_engine`."""
        engine = self.open_engine(member)
        try:
            yield engine
        finally:
            engine.close()

    def open_engine(self, member: Member) -> Engine:
        """An engine, which the caller closes. One whose answers cost money writes into the run's ledger of calls;
        UsageError when there is a cap and nobody knows the price."""
        engine: Engine = self.member(ENGINES, member)
        price = engine.price() if isinstance(engine, Metered) else None
        if self.cap_usd is not None and price is None and who_answers(member.use, member.options).costs:
            raise UsageError(
                f"there is a cap of ${self.cap_usd} and the price of {engine.identity()} is not known",
                "state usd_per_million_input and usd_per_million_output for the engine, or take the cap away",
            )
        if isinstance(engine, Metered):
            engine.ledger = self.ledger
            engine.folder = self.workspace.batches
        return engine

    @cached_property
    def cap_usd(self) -> float | None:
        """Most dollars that this run may spend: what the last resume said, else the recipe."""
        stated = self.run.request().get("max_usd")
        return float(stated) if stated is not None else self.recipe.max_usd

    @cached_property
    def ledger(self) -> SpendLedger:
        """What the run's calls cost, and the cap."""
        return SpendLedger(self.run.calls, self.cap_usd, self.run.proof_of_calls)

    def say_spending(self) -> None:
        """Say what the run has spent, when it has."""
        ledger = self.ledger
        if ledger.problem:
            self.warn(f"more may be spent than the ledger of calls says: {ledger.problem}",
                      f"localdistill resume {self.run.id} --spent USD says what it was")
        if ledger.spent_nano:
            assumed = f" (${ledger.assumed_nano / NANO:.4f} of it assumed for calls whose end was not seen)"
            self.note(f"spent so far: ${ledger.spent_usd:.4f}{assumed if ledger.assumed_nano else ''}")
            self.emit(Measured("spent_usd", ledger.spent_usd))

    def logprobs(self) -> LogprobWriter:
        """A writer for log-probabilities of this run."""
        from localdistill.workspace.logprobs import FOLDER, LogprobWriter

        return LogprobWriter(self.run.path / FOLDER)

    def tasks(self) -> list[Task]:
        """The benchmarks of the recipe, each built once, so that its file is read once."""
        return self._tasks

    @cached_property
    def _tasks(self) -> list[Task]:
        return build_tasks(self.recipe, self.base, self._held)

    @cached_property
    def _held(self) -> HeldOut:
        return HeldOut(self.recipe, self.base, self.run, self.store)

    @cached_property
    def dev_task(self) -> Task | None:
        """The benchmark of the development items; None where there are none."""
        member = self.recipe.dev_task
        return build_task(member, self.base, self._held) if member is not None else None

    @property
    def holdout(self) -> Holdout | None:
        """What is set aside of the prompts; None where the recipe sets nothing aside."""
        return self._held.all

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer of the recipe."""
        return build_trainer(self.recipe, self.base, self.chosen)

    @cached_property
    def chosen(self) -> Mapping[str, Any]:
        """The options of the trainer that tuning chose; none where nothing is tuned, or not yet."""
        if self.recipe.train is None or not self.recipe.train.is_tuned or not has_output(self.run, TuneOutput.stage):
            return {}
        return read_output(self.run, TuneOutput).result.options()

    @cached_property
    def student(self) -> Path:
        """The folder of the base model."""
        if self.recipe.student is None:
            raise UsageError("this recipe has no [student]", 'add one, for example model = "shipped:pantry/student"')
        return resolve_model(self.recipe.student.model, self.base)

    @cached_property
    def held_base(self) -> Artifact | None:
        """The base as the trainer holds it, made once for all runs of the workspace; None where it is used as it is
        stored."""
        if not (digest := held_digest(self.workspace, self.trainer, self.student)):
            return None
        spec = self.trainer.held_base(self.student)
        return self.make(("base", digest, f"{self.student.name}, {spec['held']}"), spec, self._hold_base)

    def _hold_base(self, staging: Path) -> None:
        self.trainer.hold_base(self.student, staging, self.emit, self.cancel)

    @cached_property
    def tokenizer(self) -> StudentTokenizer:
        """The student's. ModelFileError when it cannot be read, MissingExtra without the tokenizer library."""
        return StudentTokenizer(self.student)

    def note(self, text: str) -> None:
        """Say one sentence."""
        self.emit(Noted(text))

    def warn(self, text: str, hint: str = "") -> None:
        """Warn; the work goes on."""
        self.emit(Warned(text, hint))

    def worked(self) -> None:
        """Something was not there before."""
        self.reused_all = False

    def make(self, artifact: tuple[str, str, str], meta: Mapping[str, Any], build: Callable[[Path], None],
             unstable: str = "", emit: Emit | None = None) -> Artifact:
        """The artifact (kind, digest, label), made by `build` unless it is there and whole; said either way, and what
        was damaged too. `unstable`: see `Workspace.make_artifact`. emit: who is told, where it is `stamped` with whose
        artifact this is."""
        kind, digest, label = artifact
        made, reused = self.workspace.make_artifact(
            kind, digest, {"label": label, **meta}, build, unstable, self.warn)
        if not reused:
            self.worked()
        elif strangers := made.strangers():
            self.warn(f"no stage wrote {', '.join(strangers)} in {made.path.relative_to(self.workspace.root)}; "
                      "nothing reads it")
        (emit or self.emit)(ArtifactWritten(kind, digest, label, reused))
        return made

    def artifact(self, kind: str, digest: str) -> Artifact:
        """An artifact that an earlier stage left; UsageError when its folder is gone, LocalDistillError when something
        in it is not what was written."""
        found = self.workspace.find_artifact(kind, digest)
        if found is None:
            raise UsageError(f"the {kind} {digest} is gone from this workspace", f"localdistill resume {self.run.id}")
        if why := found.damage(self.cancel.check):
            raise LocalDistillError(f"the {kind} {digest} is damaged: {why}",
                                    f"localdistill resume {self.run.id} sets it aside and makes it again")
        return found

    @contextmanager
    def journal(self) -> Iterator[JournalledWriter]:
        """A writer whose traces are in the journal first and in the store soon after. There is one at a time: whoever
        asks for another is given it, and who asked first closes it."""
        if self._writer is not None:
            yield self._writer
            return
        self.take_in_journals()
        self._writer = JournalledWriter(self.run.journal, self.store)
        try:
            yield self._writer
        finally:
            writer, self._writer = self._writer, None
            writer.close()

    def take_in_journals(self) -> None:
        """Let the store read what interrupted processes left in the journals of all runs, so that nothing is asked
        again which any of them has, and say what was mended and what cannot be."""
        take_in(self.workspace, self.store, self.emit)

    def answered_elsewhere(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that another run has an answer to by now."""
        if not ids:
            return set()
        self.store.catch_up(path for path in self.workspace.journals() if path != self.run.journal)
        return self.store.known_traces(ids)

    def claim(self, ids: Sequence[str]) -> dict[str, str]:
        """Claim what this run is about to ask for; returns what living runs ask for, each with the run. A claim ends
        with the lock of the run that made it."""
        while held := self.store.claim(ids, self.run.id):
            dead = [run for run in set(held.values()) if not RunFolder(self.workspace.runs / run).is_alive()]
            if not dead:
                break
            for run in dead:
                self.store.release(run)
        return held

    def pairs(self, trace_ids: Sequence[str]) -> Iterator[tuple[Prompt, Trace]]:
        """Prompts and traces of `trace_ids`, streamed from the store. StoreError says what is missing."""
        self.require_prompts(trace_ids)
        return self.store.pairs(trace_ids)

    def require_prompts(self, trace_ids: Sequence[str]) -> None:
        """StoreError when the prompt of one of these traces is not stored, with the commands that bring it back."""
        orphans = self.store.without_prompt()
        own = {key: orphans[key] for key in trace_ids if key in orphans} if orphans else {}
        if own:
            missing = missing_prompts(self.workspace, own, len(trace_ids))
            raise StoreError(missing.text, missing.hint)


class JournalledWriter:
    """Appends traces, what is said of them and replies to members to the run's journal; a thread lets the store take
    them in, so that whoever asks never waits for the store."""

    def __init__(self, path: Path, store: Store) -> None:
        self._writer = JournalWriter(path)
        self._path = path
        self._store = store
        self._failure: LocalDistillError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._take_in_regularly, daemon=True, name="take-in")
        self._thread.start()

    def add(self, trace: Trace, facts: Iterable[Fact] = ()) -> None:
        """Acknowledge one trace with what is said of it: it is on disk within 50 ms and in the store soon after. Raises
        what the store said to an earlier one."""
        self._append(trace_line(trace, facts))

    def add_prompt(self, prompt: Prompt) -> None:
        """Acknowledge a prompt that was made here: it is in no file."""
        self._append(prompt_line(prompt))

    def add_facts(self, facts: Iterable[Fact]) -> None:
        """Acknowledge facts of traces that were added before."""
        self._append(facts_line(facts))

    def add_reply(self, key: ReplyKey, engine: str, model: str, reply: Reply, about: str) -> None:
        """Acknowledge the reply to a question of a member, which the member calls `about`."""
        self._append(reply_line(key, engine, model, reply, about))

    def _append(self, line: dict[str, Any]) -> None:
        if self._failure is not None:
            raise self._failure
        self._writer.append(said_now(line))

    def _take_in_regularly(self) -> None:
        while not self._ended.wait(TAKE_IN_EVERY_S):
            try:
                self._take_in()
            except LocalDistillError as error:
                self._failure = error
                return

    def _take_in(self) -> None:
        """Let the store read what it has not read yet."""
        self._writer.sync()
        self._store.catch_up([self._path])

    def close(self) -> None:
        """Everything on disk and in the store."""
        self._ended.set()
        self._thread.join()
        try:
            self._take_in()
        finally:
            self._writer.close()
