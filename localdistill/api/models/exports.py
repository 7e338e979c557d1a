"""What runs exported: files with sizes and checksums, what the parity gate found, what the files scored, their terms,
and the commands that use them. Reads what is there; makes and changes nothing, and loads no model."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.events import Cancel
from localdistill.modelfiles.shipped import resolve_path
from localdistill.scorecard import Standing, cautions
from localdistill.workspace.folder import Artifact, Workspace, check_file
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder, list_runs

ExportState = Literal["whole", "unchecked", "damaged", "gone", "refused", "nothing", "not yet"]
Look = Callable[[], None] | None
"""Called again and again while files are compared with their checksums; None compares nothing."""
_SUFFIX = ".gguf"
_PARITY, _MODELFILE, _SUMS = "parity.json", "Modelfile", "SHA256SUMS"


@dataclass(frozen=True)
class ExportedFile:
    """One model file."""

    path: Path
    quant: str
    """For example `Q8_0`."""
    size_bytes: int
    sha256: str
    """64 hexadecimal digits, as written in the manifest."""


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
    thinks: bool = False
    files: tuple[ExportedFile, ...] = ()
    gate: tuple[GateItem, ...] = ()
    compute: str = ""
    """Precision of the model that the gate compared with."""
    scores: tuple[FormScore, ...] = ()
    not_measured: tuple[str, ...] = ()
    terms: str = ""
    """Strictest class of the teachers' terms of use; empty when none is known to apply."""
    terms_of: tuple[str, ...] = ()
    """Providers with their classes."""
    licences: tuple[str, ...] = ()
    """Licences of the questions that were learned from."""
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
    def gate_passed(self) -> bool | None:
        """None when no report is there."""
        return all(item.passed for item in self.gate) if self.gate else None

    @property
    def for_chat(self) -> tuple[ExportedFile, ...]:
        """The files, the one that a chat should open first: eight bits lose nothing that is heard, then the largest."""
        return tuple(sorted(self.files, key=lambda file: (file.quant != "Q8_0", -file.size_bytes)))

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
        stages = _json(folder.path / "request.json").get("stages", ())
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
        if made.files:
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
    teachers of runs that are GGUF files. Whoever opens one compares it with its checksum."""
    found: dict[Path, ChatFile] = {}
    for made in exports_of(workspace, checked=False):
        for file in made.for_chat:
            found.setdefault(file.path, ChatFile(file.path, f"{made.run} {made.arm} {file.quant}"))
    for folder in reversed(list_runs(workspace.runs)):
        for path in _teachers(folder):
            found.setdefault(path, ChatFile(path, f"teacher of {folder.id}"))
    return list(found.values())


def _exported(workspace: Workspace, folder: RunFolder, look: Look) -> Exported:
    made = _json(folder.path / "stages" / "export.json")
    arms = _arms(folder)
    if not made:
        report = _json(folder.path / _PARITY)
        gate = tuple(_gate(report))
        refused = bool(gate) and not all(item.passed for item in gate)
        return Exported(folder.id, "refused" if refused else "not yet", gate=gate if refused else (),
                        compute=str(report.get("compute", "")), arms=arms)
    if made.get("why_nothing"):
        commands = zip(("go on", "anew"), map(str, made.get("commands") or ()), strict=False)
        return Exported(folder.id, "nothing", why=tuple(map(str, made["why_nothing"])), commands=tuple(commands),
                        arms=arms)
    digest, arm = str(made.get("export", "")), str(made.get("arm", ""))
    said = made.get("terms")
    terms: Mapping[str, Any] = said if isinstance(said, dict) else {}
    unknown: list[str] = []
    standings = tuple(_standings(made))
    common: dict[str, Any] = {
        "arm": arm, "digest": digest, "thinks": bool(made.get("thinks")), "scores": tuple(_scores(made)),
        "not_measured": tuple(map(str, made.get("not_measured") or ())), "terms": str(terms.get("strictest", "")),
        "terms_of": tuple(map(str, terms.get("providers") or ())), "licences": _licences(workspace, folder, unknown),
        "standings": standings, "arms": arms, "cautions": _cautions(made, arm, standings, folder.id),
    }
    artifact = _artifact(workspace, digest)
    if artifact is None:
        return Exported(folder.id, "gone", **common, unknown=tuple(unknown))
    damage = artifact.damage(look) if look else "" if artifact.is_whole() else artifact.damage()
    if damage:
        return Exported(folder.id, "damaged", folder=artifact.path, **common, unknown=tuple(unknown), why=(damage,))
    report = _json(artifact.path / _PARITY)
    if not report:
        unknown.append(f"{_PARITY} cannot be read")
    unknown += [f"{name} lies in the folder and is no part of the export" for name in artifact.strangers()]
    files = tuple(_files(artifact))
    if not files:
        return Exported(folder.id, "nothing", why=("its exporters wrote no model file",), arms=arms)
    return Exported(folder.id, "whole" if look else "unchecked", folder=artifact.path, files=files,
                    gate=tuple(_gate(report)), compute=str(report.get("compute", "")), **common,
                    unknown=tuple(unknown), commands=tuple(_commands(artifact, files)))


def _artifact(workspace: Workspace, digest: str) -> Artifact | None:
    try:
        return workspace.find_artifact("export", digest) if digest else None
    except (LocalDistillError, OSError, ValueError):
        return None


def _arms(folder: RunFolder) -> tuple[str, ...]:
    try:
        return (*(arm.name for arm in folder.recipe().arms), "base")
    except LocalDistillError:
        return ()


def _standings(made: Mapping[str, Any]) -> Iterator[Standing]:
    for entry in _dicts(made.get("standings")):
        with contextlib.suppress(TypeError, ValueError):
            low_high = entry.get("interval")
            yield Standing(**{**entry, "interval": (low_high[0], low_high[1]) if low_high else None})


def _cautions(made: Mapping[str, Any], arm: str, standings: Sequence[Standing], run: str) -> tuple[str, ...]:
    if arm == "base":
        return ()
    if not isinstance(made.get("standings"), list):
        return (f"how it stands against the base was not recorded; localdistill resume {run} does",)
    return tuple(cautions(standings))


def _files(artifact: Artifact) -> Iterator[ExportedFile]:
    """The model files, largest first."""
    names = [name for name in artifact.manifest["files"] if name.endswith(_SUFFIX)]
    sizes = {name: int(artifact.manifest["files"][name]["size_bytes"]) for name in names}
    for name in sorted(names, key=lambda name: -sizes[name]):
        sha256 = str(artifact.manifest["files"][name]["sha256"]).removeprefix("sha256:")
        yield ExportedFile(artifact.path / name, name.removesuffix(_SUFFIX).rpartition("-")[2], sizes[name], sha256)


def _gate(report: Mapping[str, Any]) -> Iterator[GateItem]:
    for item in _dicts(report.get("items")):
        yield GateItem(str(item.get("name", "?")), bool(item.get("passed")), _number(item.get("figure")),
                       _number(item.get("threshold")), str(item.get("detail", "")))


def _scores(made: Mapping[str, Any]) -> Iterator[FormScore]:
    for card in _dicts(made.get("measured")):
        for form in _dicts(card.get("forms")):
            interval = [_number(v) for v in form.get("interval") or (0, 0)]
            difference = form.get("difference")
            yield FormScore(
                str(card.get("task", "?")), str(form.get("form", "?")), _number(form.get("score")),
                (interval[0], interval[-1]), None if difference is None else _number(difference),
                form.get("same_text"), int(_number(card.get("items"))), str(form.get("verdict", "")),
                None if form.get("base_difference") is None else _number(form["base_difference"]),
                str(form.get("base_verdict", "")))


def _licences(workspace: Workspace, folder: RunFolder, unknown: list[str]) -> tuple[str, ...]:
    ids = folder.ids("select")
    if not ids or not workspace.store_path.exists():
        return ()
    try:
        return tuple(open_store(workspace).licences(ids))
    except LocalDistillError as error:
        unknown.append(f"licences: {error.message}")
        return ()


def _commands(artifact: Artifact, files: Sequence[ExportedFile]) -> Iterator[tuple[str, str]]:
    """One command per use, with the file that is the best trade: Q8_0 where there is one."""
    if not files:
        return
    best = min(files, key=lambda file: (file.quant != "Q8_0", file.size_bytes))
    name = shlex.quote(best.path.name)
    yield "talk", f"localdistill chat {name}"
    if _MODELFILE in artifact.manifest["files"]:
        model = shlex.quote(best.path.name.removesuffix(f"-{best.quant}{_SUFFIX}").lower())
        yield "Ollama", f"ollama create {model} -f Modelfile"
    yield "serve", f"llama-server -m {name} --jinja"
    if _SUMS in artifact.manifest["files"]:
        yield "check", f"sha256sum -c {_SUMS}"


def _teachers(folder: RunFolder) -> Iterator[Path]:
    """GGUF files that a run's recipe asks."""
    try:
        recipe, base = folder.recipe(), Path(str(folder.request().get("base", ".")))
    except (LocalDistillError, OSError, ValueError, KeyError):
        return
    for teacher in recipe.teachers:
        model = teacher.options.get("model")
        if teacher.use == "llama_cpp" and isinstance(model, str):
            try:
                path = resolve_path(model, base)
            except LocalDistillError:
                continue
            if path.is_file():
                yield path


def _json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")
