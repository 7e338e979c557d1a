"""Models of the hub: whether all of one is on this machine, and its fetching, in one revision, as safetensors only,
with size and licence said and one progress bar. What is here is used without the network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.disk import size_text
from localdistill.core.errors import LocalDistillError, ModelFileError
from localdistill.core.events import Cancel, Emit, Noted
from localdistill.hub.client import ENDPOINT, Hub, HubProblem, snapshot
from localdistill.hub.names import HubName
from localdistill.safety.bounded_json import TENSORS, read_table

_AFRESH = "check the name and the network; a gated model needs a login; or give the path of a folder you already have"


@dataclass(frozen=True)
class HubModel:
    """A model of the hub that is on this machine."""

    source: str
    path: Path
    commit: str
    size_bytes: int = 0
    """0 where nobody asked the hub."""
    fetched_bytes: int = 0
    licence: str = ""
    """As its card says; empty where that is unknown."""


def cached(source: str, weights: bool = True) -> HubModel | None:
    """The model where all that is needed of it is here, be it that nobody knows whether there is a chat template. A
    branch means what it meant when it was fetched last. weights: they are needed too. ModelFileError for a bad name."""
    found = _snapshot(HubName.of(source))
    return None if found is None or lacking(found, weights) else HubModel(source, found, found.name)


def lacking(folder: Path, weights: bool = True) -> list[str]:
    """Files of a model that a snapshot in the cache certainly lacks: another program may have fetched a few, or the
    fetching was interrupted."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not weights:
        return missing
    names = ["model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            told = read_table(index, TENSORS).get("weight_map")
        except (ModelFileError, OSError):
            return [*missing, index.name]
        names = sorted({str(name) for name in told.values()}) if isinstance(told, dict) else []
    return [*missing, *(name for name in names if not (folder / Path(name).name).is_file())]


def fetch(source: str, emit: Emit, cancel: Cancel, weights: bool = True, newest: bool = False) -> HubModel:
    """The model, fetched as far as it is not here; its revision, size and licence are said first. A file that is only
    half here comes anew, whole ones stay. newest: ask the hub what a branch means by now, although all is here.

    Raises ModelFileError with the next step when it cannot be had, MissingExtra, Cancelled.
    """
    name = HubName.of(source)
    here = cached(source, weights)
    if here is not None and (name.is_pinned or not newest) and _has_template(here.path):
        return here
    said: dict[str, Any] = {}

    def hear(told: dict[str, Any]) -> None:
        said.update(told)
        _say(name, told, emit)

    try:
        with Hub() as hub:
            told = hub.ask({"act": "model", "repository": name.repository, "revision": name.revision,
                            "weights": weights}, name.repository, emit, cancel, hear)
    except HubProblem as problem:
        if here is not None and problem.kind in ("offline", "network", "http"):
            return here
        raise _refusal(name, problem, _half(name, weights)) from None
    return HubModel(source, Path(told["path"]), str(told["commit"]), int(said["size_bytes"]),
                    int(said["missing_bytes"]), str(said["licence"]))


def _say(name: HubName, told: dict[str, Any], emit: Emit) -> None:
    licence = f"licence {told['licence']}" if told["licence"] else "a licence that its card does not state"
    size, missing = int(told["size_bytes"]), int(told["missing_bytes"])
    comes = "all of it is here" if not missing else f"{size_text(missing)} are fetched" if missing < size else (
        "fetched now")
    emit(Noted(f"{name.repository} at {str(told['found'])[:12]}: {size_text(size)}, {licence}; {comes}"))
    if told["removed_bytes"]:
        emit(Noted(f"{size_text(int(told['removed_bytes']))} that a broken download left were removed"))


def _refusal(name: HubName, problem: HubProblem, half: str) -> LocalDistillError:
    """The error for a person. half: what of the model is here."""
    repository, figures = name.repository, problem.figures
    match problem.kind:
        case "offline":
            return ModelFileError(f"{repository} is not on this machine{half}, and HF_HUB_OFFLINE forbids to fetch it",
                                  "unset HF_HUB_OFFLINE once, or give the path of a folder you already have")
        case "pickles":
            return ModelFileError(f"{repository} holds its weights as pickle ({figures['name']}), which can run code",
                                  "use a model that is stored as safetensors")
        case "gguf":
            return ModelFileError(f"{repository} holds GGUF files ({figures['name']}) and no safetensors",
                                  "download that file and name it with the engine llama_cpp; a student needs the model "
                                  "that it was made of")
        case "nothing":
            return ModelFileError(f"{repository} holds no weights as safetensors", "use another model")
        case "absent" | "index" | "entry":
            return ModelFileError(f"{repository} lists weights that it does not hold", "use another revision of it")
        case "room":
            return ModelFileError(f"{repository} takes {size_text(figures['needed'])} more, and "
                                  f"{size_text(figures['free'])} of disk are free",
                                  "free some disk, or let HF_HOME name a folder on a larger one")
        case "gated":
            return ModelFileError(f"{repository} is given out by its owners only to who asked them",
                                  f"ask at {ENDPOINT}/{repository}, and set HF_TOKEN")
        case "revision":
            return ModelFileError(f"{repository} has no revision '{name.revision}'", "name a branch, tag or commit")
        case "repository":
            return ModelFileError(f"the hub has no model {repository}, or not for you", _AFRESH)
    return ModelFileError(f"cannot get {repository} from the hub{half}: {problem.text}", _AFRESH)


def _snapshot(name: HubName) -> Path | None:
    return snapshot("models", name.repository, name.revision)


def _half(name: HubName, weights: bool) -> str:
    """What of a model is here, where that is not all of it."""
    found = _snapshot(name)
    return f" (a part of it is here, without {', '.join(lacking(found, weights)[:3])})" if found else ""


def _has_template(folder: Path) -> bool:
    """Whether it says how it is asked; without, the hub may hold a file of it that is not here."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return bool(read_table(folder / "tokenizer_config.json").get("chat_template"))
    except (OSError, ModelFileError):
        return False
