"""What can be talked to, by whatever name a person has for it: an exported file, an arm or the base of a run, a
student's folder, an adapter, a model of the hub, an engine of a recipe. Opens nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from localdistill.api.models.exports import model_to_chat
from localdistill.core.errors import LocalDistillError, ModelFileError, UsageError, nearest
from localdistill.engines import ENGINES
from localdistill.hub.names import in_hub
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.recipe import Member, Recipe
from localdistill.stages.context import build_trainer, held_digest
from localdistill.stages.outputs import ArmAdapter, FormatOutput, TrainOutput, has_output, read_output
from localdistill.trainers import TRAINERS, usual_trainer
from localdistill.trainers.base import Trainer
from localdistill.trainers.job import Served
from localdistill.trainers.report import REPORT_FILE, TrainingReport
from localdistill.trainers.serving import served_base
from localdistill.workspace.folder import Workspace, check_file
from localdistill.workspace.run_folder import RunFolder, list_runs

BASE = "base"
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class ChatTarget:
    """Somebody to talk to."""

    engine: Member
    """Who answers, with every file that it needs among its options."""
    title: str
    base: Path = Path()
    """Where relative paths of the options start."""
    thinks: bool | None = None
    """Whether it was trained to think; None leaves it to its template."""

    @property
    def asks(self) -> tuple[str, ...]:
        """Hosts that are asked, where that may cost money; none where nobody is paid."""
        who = ENGINES.load(self.engine.use).who(self.engine.options)
        return tuple(who.hosts) if who.costs else ()


def gguf_target(path: Path, context_tokens: int = 0, chat_template: str = "") -> ChatTarget:
    """A GGUF file, which one conversation has for itself."""
    options: dict[str, object] = {"model": str(path), "parallel": 1, "processes": 1, "context_tokens": context_tokens}
    if chat_template:
        options["chat_template"] = str(Path(chat_template).expanduser())
    return ChatTarget(Member(use="llama_cpp", options=options), path.name)


def chat_target(workspace: Workspace, name: str = "last", student: str = "", engine: str = "", context_tokens: int = 0,
                chat_template: str = "") -> ChatTarget:
    """Whom `name` means: `RUN:ARM` and `RUN:base` as they were trained and measured; a folder of a student, of an
    adapter or of what a training left; `shipped:NAME` and `hf://organisation/name`; else what `model_to_chat` finds.

    student: the model that an adapter belongs to, where no run of the workspace knows it. engine: `mlx` or
    `transformers` for a student's folder; the trainer's, or the usual one, by itself. context_tokens, chat_template: of
    GGUF files. UsageError when there is nobody of this name, ModelFileError when its files cannot be used."""
    if ":" in name and (found := _of_run(workspace, name)) is not None:
        target = found
    elif in_hub(name) or name.startswith("shipped:") or Path(name).expanduser().is_dir():
        target = _of_folder(workspace, name, student, engine)
    else:
        if student:
            raise UsageError("only an adapter belongs to a student",
                             "leave --student away, or name an adapter's folder")
        return gguf_target(model_to_chat(workspace, name), context_tokens, chat_template)
    if context_tokens or chat_template:
        raise UsageError(f"{target.title} has its context and its template by itself",
                         "--context-tokens and --chat-template are for GGUF files")
    return target


def engine_target(recipe: Recipe, base: Path, engine: str) -> ChatTarget:
    """The engine `engine` of a recipe, whose paths start from `base`. UsageError when it has none of that name."""
    names = [section.name for section in recipe.engines]
    if engine not in names:
        raise UsageError(f"this recipe has no engine '{engine}'{nearest(engine, names)}",
                         f"it has: {', '.join(names) or 'none'}")
    section = recipe.engine(engine)
    return ChatTarget(Member(use=section.use, options=section.options), f"{engine} of {recipe.name}", base)


# ---- runs


def _of_run(workspace: Workspace, name: str) -> ChatTarget | None:
    """`RUN:ARM`, as an evaluation asks it; None when no run is meant."""
    run_id, _, arm = name.partition(":")
    if run_id != "last" and run_id not in {folder.id for folder in list_runs(workspace.runs)}:
        return None
    run = RunFolder.open(workspace.runs, run_id)
    recipe, base = run.recipe(), Path(run.request()["base"])
    if recipe.student is None:
        raise UsageError(f"run {run.id} has no student", "`localdistill runs` lists the runs")
    trainer, path = build_trainer(recipe, base), resolve_model(recipe.student.model, base)
    engine_options = dict(recipe.evaluate.engine_options) if recipe.evaluate else {}
    digest = held_digest(workspace, trainer, path)
    kept = workspace.artifact("base", digest) if digest else None
    held = kept.path if kept else None
    if arm == BASE:
        served = served_base(trainer, path, _trained_on(workspace, run), held)
        return _target(served, f"{BASE} of {run.id}", None, engine_options)
    adapters = read_output(run, TrainOutput).adapters
    if arm not in adapters:
        raise UsageError(f"run {run.id} trained no arm '{arm}'{nearest(arm, [*adapters, BASE])}",
                         f"it trained: {', '.join(adapters)}; and there is {BASE}")
    made: ArmAdapter = adapters[arm][0]
    artifact = workspace.artifact("adapter", made.adapter)
    if artifact is None:
        raise LocalDistillError(f"what run {run.id} trained as {arm} is gone or damaged",
                                f"localdistill resume {run.id} makes it again")
    thinks = read_output(run, FormatOutput).arms[arm].facts.thinks
    return _target(trainer.served(path, artifact.path, held), f"{arm} of {run.id}", thinks, engine_options)


def _trained_on(workspace: Workspace, run: RunFolder) -> Path | None:
    """The folder of something that the run trained; None where it trained nothing, or that is gone or damaged."""
    found = read_output(run, TrainOutput).adapters if has_output(run, TrainOutput.stage) else {}
    made = (workspace.artifact("adapter", one.adapter) for trained in found.values() for one in trained)
    return next((artifact.path for artifact in made if artifact), None)


def _target(served: Served, title: str, thinks: bool | None, more: Mapping[str, object] | None = None) -> ChatTarget:
    return ChatTarget(Member(use=served.engine, options={**served.options, **(more or {}), **served.places}), title,
                      thinks=thinks)


# ---- folders


def _of_folder(workspace: Workspace, name: str, student: str, engine: str) -> ChatTarget:
    path = resolve_model(name) if not Path(name).expanduser().is_dir() else Path(name).expanduser()
    if (path / REPORT_FILE).is_file():
        return _of_training(workspace, path, student, engine)
    if (path / _ADAPTER).is_file():
        if (path.parent / REPORT_FILE).is_file():
            return _of_training(workspace, path.parent, student, engine)
        if not student:
            raise UsageError(f"{path} is an adapter, and says nothing of the student that it belongs to",
                             "name it: --student FOLDER, shipped:NAME or hf://organisation/name")
        options: dict[str, object] = {"model": str(resolve_model(student)), "adapter": str(path)}
        return ChatTarget(Member(use=_engine(engine), options=options), path.name)
    if student:
        raise UsageError(f"{path} is no adapter", "leave --student away")
    ModelFolder.open(path)
    return ChatTarget(Member(use=_engine(engine), options={"model": str(path)}), name)


def _engine(engine: str) -> str:
    """The one that was asked for, else that of the trainer that is usual on this machine."""
    return engine or str(TRAINERS.load(usual_trainer()).engine)


def _of_training(workspace: Workspace, output: Path, student: str, engine: str) -> ChatTarget:
    """What a training left, over the student that it was made of."""
    file = output / REPORT_FILE
    report = TrainingReport.from_bytes(file.read_bytes(), str(file))
    path = resolve_model(student) if student else _student_of(workspace, report)
    if ModelFolder.open(path).digest() != report.student:
        raise ModelFileError(f"{output} was trained on another student than {path}", "name the one that it belongs to: "
                                                                                    "--student FOLDER")
    trainer: Trainer = TRAINERS.load(report.trainer)()
    if engine and engine != trainer.engine:
        raise UsageError(f"what {report.trainer} trained is answered by the engine {trainer.engine}",
                         "leave --engine away")
    check_file(output / "adapter" / _ADAPTER)
    return _target(trainer.served(path, output), f"{report.arm}, seed {report.seed}", None)


def _student_of(workspace: Workspace, report: TrainingReport) -> Path:
    """The folder of the student with the digest that the training saw, among those of the runs of the workspace."""
    for path in _students(workspace):
        try:
            if ModelFolder.open(path).digest() == report.student:
                return path
        except LocalDistillError:
            continue
    raise UsageError("no run of this workspace knows the student that this adapter belongs to",
                     "name it: --student FOLDER, shipped:NAME or hf://organisation/name")


def _students(workspace: Workspace) -> Iterator[Path]:
    seen: set[Path] = set()
    for run in reversed(list_runs(workspace.runs)):
        try:
            recipe = run.recipe()
            if recipe.student is None:
                continue
            path = resolve_model(recipe.student.model, Path(run.request()["base"]), fetches=False)
        except LocalDistillError:
            continue
        if path not in seen:
            seen.add(path)
            yield path
