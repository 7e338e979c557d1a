"""What runs exported: files with sizes and checksums, what the parity gate found, what the files scored, their terms,
and the commands that use them. Reads what is there; makes and changes nothing, and loads no model."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.events import Cancel
from localdistill.exporters.parity_report import PARITY_FILE, ParityReport
from localdistill.modelfiles.gguf_files import is_model_file, part_names, whole_name
from localdistill.modelfiles.shipped import resolve_path
from localdistill.scorecard import FileChoice, Standing, cautions
from localdistill.stages.outputs import ExportOutput, is_due, read_output
from localdistill.workspace.folder import Artifact, Workspace, check_file
from localdistill.workspace.forgetting import made_of_forgotten
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder, list_runs

ExportState = Literal["whole", "unchecked", "damaged", "gone", "refused", "nothing", "not yet"]
Look = Callable[[], None] | None
"""Called again and again while files are compared with their checksums; None compares nothing."""
_SUFFIX = ".gguf"
_MODELFILE, _SUMS, _CONFIG = "Modelfile", "SHA256SUMS", "/config.json"


@dataclass(frozen=True)
class ExportedFile:
    """One model file."""

    path: Path
    quant: str
    """For example `Q8_0`."""
    size_bytes: int
    sha256: str
    """64 hexadecimal digits, as written in the manifest; of its first part where it is split."""
    bits_per_weight: float | None = None
    """None where an older version did not record it, as below."""
    kl: float | None = None
    """Mean KL divergence from the 16-bit file in nats; None of that one too."""
    top1: float | None = None
    """Share of positions whose first token is that of the 16-bit file."""
    weighed: str = ""
    """What the importance matrix that it was rounded by rests on; empty without one."""
    parts: tuple[tuple[Path, str], ...] = ()
    """Its files with their sums, the first as above, where it is split; `size_bytes` is that of all of them."""

    def precision(self, width: int = 0) -> str:
        """Bits for each weight, in a column of `width`, whether a matrix weighed them, and the divergence from the
        16-bit file, where they are known; two blanks in front."""
        bits = "" if self.bits_per_weight is None else f"  {self.bits_per_weight:{width}.2f} bits"
        bits += ", imatrix" if self.weighed else ""
        return bits if self.kl is None else f"{bits}, KL {self.kl:.2g}"


@dataclass(frozen=True)
class GateItem:
    """One check of the parity gate: `figure` against `threshold`."""

    name: str
    passed: bool
    figure: float
    threshold: float
    detail: str


@dataclass(frozen=True)
class FormScore:
    """One form of the trained model (trained, merged, or a file) on one benchmark."""

    task: str
    form: str
    score: float
    interval: tuple[float, float]
    difference: float | None = None
    """To the model as it was trained; None for that one."""
    same_text: int | None = None
    """Items with the very text of the trained model."""
    items: int = 0
    verdict: str = ""
    base_difference: float | None = None
    """To the untrained student; None where that was not measured."""
    base_verdict: str = ""
    answer_tokens: float | None = None
    """Mean reply, reasoning included."""
    loops: int | None = None
    """Replies that ended in a circle."""


@dataclass(frozen=True)
class Exported:
    """What one run exported, or why it did not."""

    run: str
    state: ExportState
    """`whole`: every file was compared with its checksum; `unchecked`: nobody looked; `damaged`; `gone`: the folder was
    removed; `refused`: the parity gate failed; `nothing`: no arm was good enough; `not yet`."""
    arm: str = ""
    digest: str = ""
    folder: Path | None = None
    thinks: bool | None = False
    """None: as it is told."""
    files: tuple[ExportedFile, ...] = ()
    gate: tuple[GateItem, ...] = ()
    compute: str = ""
    """Precision of the model that the gate compared with."""
    scores: tuple[FormScore, ...] = ()
    choice: FileChoice | None = None
    """Which file to take, and why; None where nothing was measured."""
    not_measured: tuple[str, ...] = ()
    terms: str = ""
    """Strictest class of the teachers' terms of use; empty when none is known to apply."""
    terms_of: tuple[str, ...] = ()
    """Providers with their classes."""
    licences: tuple[str, ...] | None = ()
    """Licences of the questions that were learned from; None where the store cannot say: `unknown` says why."""
    commands: tuple[tuple[str, str], ...] = ()
    """(what for, command line inside `folder`)."""
    unknown: tuple[str, ...] = ()
    """What could not be read, in words."""
    standings: tuple[Standing, ...] = ()
    """How the arm stands against the untrained student on every task of the evaluation."""
    cautions: tuple[str, ...] = ()
    """What speaks against this model, or is not known of it, in words."""
    why: tuple[str, ...] = ()
    """What is damaged, or why nothing was exported and how each arm stands."""
    arms: tuple[str, ...] = ()
    """What the run can export when it is told to: its arms and the base."""

    @property
    def licences_told(self) -> str:
        """The licences for people: what nobody can tell now is not called none."""
        return "not known" if self.licences is None else ", ".join(self.licences) or "none stated"

    @property
    def gate_passed(self) -> bool | None:
        """None when no report is there."""
        return all(item.passed for item in self.gate) if self.gate else None

    @property
    def for_chat(self) -> tuple[ExportedFile, ...]:
        """The models among the files, the one that a chat should open first: eight bits lose nothing that is heard,
        then the largest."""
        models = (file for file in self.files if is_model_file(file.path.name))
        return tuple(sorted(models, key=lambda file: (file.quant != "Q8_0", -file.size_bytes)))

    def anywhere(self, command: str) -> str:
        """One of `commands` as it can be typed in any folder."""
        return f"cd {shlex.quote(str(self.folder))} && {command}"


@dataclass(frozen=True)
class ChatFile:
    """A model file of this workspace that can be talked to."""

    path: Path
    label: str
    """Whose it is, for example `pantry-1 full_trace Q8_0` or `teacher of pantry-1`."""


def exports_of(workspace: Workspace, run: str = "", checked: bool = True,
               cancel: Cancel | None = None) -> list[Exported]:
    """The exports of `run` (`last`: the newest), or of all runs that have or were to have one, newest first.

    checked: compare every file with its checksum, which takes a while for large ones the first time, and which `cancel`
    ends; without it a state is `unchecked` and never `whole`. UsageError when there is no such run. A damaged file is
    said in `why` or `unknown`, never raised.
    """
    look = (cancel or Cancel()).check if checked else None
    return list(_exports(workspace, run, look))


def _exports(workspace: Workspace, run: str, look: Look) -> Iterator[Exported]:
    folders = [RunFolder.open(workspace.runs, run)] if run else reversed(list_runs(workspace.runs))
    for folder in folders:
        try:
            stages = folder.request()["stages"]
        except LocalDistillError as error:
            yield Exported(folder.id, "damaged", why=(error.message, error.hint))
            continue
        if run or "export" in stages:
            yield _exported(workspace, folder, look)


def model_to_chat(workspace: Workspace, name: str = "last") -> Path:
    """The model file that `name` means: the best file that the run of this name exported (`last`: the newest run that
    exported something), else a file. UsageError when there is none, LocalDistillError when it is damaged."""
    if name != "last" and name not in {folder.id for folder in list_runs(workspace.runs)}:
        if name.endswith(_SUFFIX) or os.path.isfile(name):
            return Path(name)
        raise UsageError(f"there is no run and no file '{name}'",
                         "localdistill runs lists the runs; localdistill chat FILE.gguf opens any GGUF file")
    for made in _exports(workspace, "" if name == "last" else name, None):
        if made.state == "damaged":
            raise _damaged(made.run, "; ".join(made.why))
        if made.for_chat:
            try:
                check_file(made.for_chat[0].path)
            except LocalDistillError as error:
                raise _damaged(made.run, error.message) from None
            return made.for_chat[0].path
        if made.state == "nothing" and name != "last":
            raise UsageError(f"{name} exported nothing: {made.why[0]}",
                             next((command for _, command in made.commands), "localdistill export RECIPE"))
    raise UsageError("no run has exported a model yet" if name == "last" else f"{name} has exported no model",
                     "localdistill export RECIPE makes one; localdistill chat FILE.gguf opens any GGUF file")


def _damaged(run: str, why: str) -> LocalDistillError:
    return LocalDistillError(f"what {run} exported is damaged: {why}",
                             f"localdistill resume {run} sets it aside and makes it again")


def chat_files(workspace: Workspace) -> list[ChatFile]:
    """Model files to talk to: what runs exported, newest run first and the better quants of it first, then the
    teachers of runs that are GGUF files. Whoever opens one compares it with its checksum, and is refused what is
    damaged; what is seen to be so says it in its label."""
    found: dict[Path, ChatFile] = {}
    for made in exports_of(workspace, checked=False):
        for file in made.for_chat:
            found.setdefault(file.path, ChatFile(file.path, f"{made.run} {made.arm} {file.quant}"))
        if made.state == "damaged":
            place = made.folder or workspace.runs / made.run
            for path in sorted(path for path in place.glob(f"*{_SUFFIX}") if is_model_file(path.name)) or [place]:
                found.setdefault(path, ChatFile(path, f"{made.run} {made.arm} is damaged: {'; '.join(made.why)}"))
    for folder in reversed(list_runs(workspace.runs)):
        try:
            for path in _teachers(folder):
                found.setdefault(path, ChatFile(path, f"teacher of {folder.id}"))
        except LocalDistillError as error:
            found.setdefault(folder.path, ChatFile(folder.path, f"teachers of {folder.id} are not known: "
                                                                f"{error.message}"))
    return list(found.values())


def _exported(workspace: Workspace, folder: RunFolder, look: Look) -> Exported:
    unknown: list[str] = []
    arms = _arms(folder, unknown)
    try:
        made = read_output(folder, ExportOutput)
    except UsageError as error:
        if is_due(folder, ExportOutput.stage):
            return Exported(folder.id, "damaged", arms=arms, why=(error.message, f"{error.hint} makes it again"),
                            unknown=tuple(unknown))
        report = _report(folder.path)
        refused = report is not None and bool(report.items) and not report.passed
        return Exported(folder.id, "refused" if refused else "not yet", gate=_gate(report) if refused else (),
                        compute=report.compute if report else "", arms=arms, unknown=tuple(unknown))
    except LocalDistillError as error:
        return Exported(folder.id, "damaged", arms=arms, why=(error.message, *([error.hint] if error.hint else ())),
                        unknown=tuple(unknown))
    if made.why_nothing:
        commands = tuple(zip(("go on", "anew"), made.commands, strict=False))
        return Exported(folder.id, "nothing", why=made.why_nothing, commands=commands, arms=arms,
                        unknown=tuple(unknown))
    found = Exported(
        folder.id, "gone", made.arm, made.export, thinks=made.thinks, scores=tuple(_scores(made)), choice=made.choice,
        not_measured=made.not_measured, terms=made.terms.strictest, terms_of=made.terms.providers,
        licences=_licences(workspace, folder, unknown), standings=made.standings or (),
        cautions=(*_cautions(made, folder.id), *_forgotten(workspace, made.export)), arms=arms, unknown=tuple(unknown))
    artifact = _artifact(workspace, made.export)
    if artifact is None:
        return found
    return _without_doubtful_scores(workspace, _looked_at(found, artifact, look), artifact, made.answers, look)


def _without_doubtful_scores(workspace: Workspace, found: Exported, artifact: Artifact, answers: Sequence[str],
                             look: Look) -> Exported:
    """`found`, without figures that were measured on what is damaged now."""
    if look is None:
        return found
    if found.state == "damaged":
        return replace(found, scores=(), standings=(), choice=None)
    why = next(workspace.damaged_sources(artifact, look, answers), "")
    return replace(found, scores=(), standings=(), choice=None, unknown=(
        *found.unknown, f"its scores are not shown: {why}, and they were measured on that; "
                        f"localdistill resume {found.run} makes it again")) if why else found


def _looked_at(found: Exported, artifact: Artifact, look: Look) -> Exported:
    """`found`, with what lies in its folder."""
    damage = artifact.damage(look) if look else "" if artifact.is_whole() else artifact.damage()
    if damage:
        return replace(found, state="damaged", folder=artifact.path, why=(damage,))
    report = _report(artifact.path)
    files = tuple(_files(artifact, report))
    if not files and not _folders(artifact):
        return Exported(found.run, "nothing", why=("its exporters wrote no model file",), arms=found.arms)
    unknown = [f"{PARITY_FILE} cannot be read"] if report is None else []
    unknown += [f"{name} lies in the folder and is no part of the export" for name in artifact.strangers()]
    return replace(found, state="whole" if look else "unchecked", folder=artifact.path, files=files,
                   gate=_gate(report), compute=report.compute if report else "", unknown=(*found.unknown, *unknown),
                   commands=tuple(_commands(artifact, files, found.choice)))


def _artifact(workspace: Workspace, digest: str) -> Artifact | None:
    try:
        return workspace.find_artifact("export", digest) if digest else None
    except (LocalDistillError, OSError, ValueError):
        return None


def _arms(folder: RunFolder, unknown: list[str]) -> tuple[str, ...]:
    try:
        return (*(arm.name for arm in folder.recipe().arms), "base")
    except LocalDistillError as error:
        unknown.append(f"what it can export is not known: {error.message}")
        return ()


def _cautions(made: ExportOutput, run: str) -> tuple[str, ...]:
    if made.arm == "base":
        return ()
    if made.standings is None:
        return (f"how it stands against the base was not recorded; localdistill resume {run} does",)
    return tuple(cautions(made.standings))


def _forgotten(workspace: Workspace, digest: str) -> tuple[str, ...]:
    try:
        day = made_of_forgotten(workspace).get(digest)
    except LocalDistillError as error:
        return (error.message,)
    return (f"it was trained or measured on what was forgotten here on {day}",) if day else ()


def _files(artifact: Artifact, report: ParityReport | None) -> Iterator[ExportedFile]:
    """The model files, largest first."""
    listed = artifact.manifest["files"]
    sums = {name: str(listed[name]["sha256"]).removeprefix("sha256:") for name in listed if name.endswith(_SUFFIX)}
    found = []
    for name in sums:
        if is_model_file(name) or whole_name(name) == name:
            parts = part_names(name)
            figures = next((one for one in report.files if one.name == name), None) if report else None
            file = ExportedFile(
                artifact.path / name, whole_name(name).removesuffix(_SUFFIX).rpartition("-")[2],
                sum(int(listed[part]["size_bytes"]) for part in parts if part in listed), sums[name],
                parts=tuple((artifact.path / part, sums.get(part, "")) for part in parts if len(parts) > 1))
            found.append(file if figures is None else replace(
                file, bits_per_weight=figures.bits_per_weight, kl=figures.kl, top1=figures.top1,
                weighed=figures.weighed))
    yield from sorted(found, key=lambda file: -file.size_bytes)


def _folders(artifact: Artifact) -> list[str]:
    """Folders of models in the layout of the hub."""
    return sorted(name.removesuffix(_CONFIG) for name in artifact.manifest["files"] if name.endswith(_CONFIG))


def _gate(report: ParityReport | None) -> tuple[GateItem, ...]:
    return tuple(GateItem(item.name, item.passed, item.figure, item.threshold, item.detail)
                 for item in (report.items if report else ()))


def _report(folder: Path) -> ParityReport | None:
    """What the parity gate found; None when it is not there or cannot be read."""
    try:
        return ParityReport.from_bytes((folder / PARITY_FILE).read_bytes(), PARITY_FILE)
    except (OSError, LocalDistillError):
        return None


def _scores(made: ExportOutput) -> Iterator[FormScore]:
    for task in made.measured:
        for form in task.forms:
            yield FormScore(task.task, form.form, form.score, form.interval, form.difference, form.same_text,
                            task.items, form.verdict, form.base_difference, form.base_verdict, form.answer_tokens,
                            form.loops)


def _licences(workspace: Workspace, folder: RunFolder, unknown: list[str]) -> tuple[str, ...] | None:
    try:
        ids = folder.ids("select")
        store = open_store(workspace)
        return tuple(store.licences(ids)) if ids and store.path.exists() else ()
    except LocalDistillError as error:
        unknown.append(f"licences: {error.message}")
        return None


def _commands(artifact: Artifact, files: Sequence[ExportedFile],
              choice: FileChoice | None) -> Iterator[tuple[str, str]]:
    """One command per use, with the file that is recommended; where none is, Q8_0 if there is one."""
    for name in _folders(artifact):
        yield "folder", f"localdistill chat {shlex.quote(name)}"
    models = [file for file in files if is_model_file(file.path.name)]
    if not models:
        return
    wanted = choice.form if choice and choice.form else "Q8_0"
    best = min(models, key=lambda file: (file.quant != wanted, file.quant != "Q8_0", file.size_bytes))
    name = shlex.quote(best.path.name)
    yield "talk", f"localdistill chat {name}"
    if _MODELFILE in artifact.manifest["files"]:
        model = shlex.quote(whole_name(best.path.name).removesuffix(f"-{best.quant}{_SUFFIX}").lower())
        yield "Ollama", f"ollama create {model} -f Modelfile"
    yield "serve", f"llama-server -m {name} --jinja"
    yield "terminal", f"llama-cli -m {name} --jinja -cnv"
    for file in files:
        if not is_model_file(file.path.name):
            yield "adapter", f"llama-server -m BASE.gguf --lora {shlex.quote(file.path.name)} --jinja"
    yield "LM Studio", "localdistill exports --lm-studio" if best.parts else f"lms import --copy {name}"
    if _SUMS in artifact.manifest["files"]:
        yield "check", f"sha256sum -c {_SUMS}"


def _teachers(folder: RunFolder) -> Iterator[Path]:
    """GGUF files that a run's recipe asks. LocalDistillError when that cannot be read."""
    recipe, base = folder.recipe(), Path(folder.request()["base"])
    for teacher in recipe.engines:
        model = teacher.options.get("model")
        if teacher.use == "llama_cpp" and isinstance(model, str):
            try:
                path = resolve_path(model, base)
            except LocalDistillError:
                continue
            if path.is_file():
                yield path
