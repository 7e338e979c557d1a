"""Models of the hub: what a name means, whether all of it is on this machine, and its fetching, in one revision, as
safetensors only, with size and licence said and one progress bar. The network is used by `hub_child.py` alone; what is
here is used without it."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.disk import size_text
from localdistill.core.errors import LocalDistillError, MissingExtra, ModelFileError
from localdistill.core.events import Cancel, Emit, Noted, Progressed, silent
from localdistill.safety.bounded_json import TENSORS, read_table
from localdistill.safety.children import ChildDied, ChildTimeout, JsonChild, is_offline_by_choice

SCHEME = "hf://"
_DATASETS = "hf://datasets/"
SECRETS = ("HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY",
           "https_proxy", "http_proxy", "all_proxy")
"""What opens the way to the hub: its key, and proxies, whose addresses may hold a password."""
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_NAME = re.compile(rf"hf://({_PART}/{_PART})(?:@([\w][\w./-]{{0,199}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ENDPOINT = "https://huggingface.co"
_POLL_S, _WAIT_S = 0.5, "60"
"""Between looks at a cancel; and as long as the hub may say nothing in the middle of a file, in seconds."""
_AFRESH = "check the name and the network; a gated model needs a login; or give the path of a folder you already have"


@dataclass(frozen=True)
class HubName:
    """A model of the hub, as `hf://organisation/name[@revision]` names it."""

    repository: str
    revision: str = ""
    """A commit, branch or tag; empty is the newest."""

    @classmethod
    def of(cls, source: str) -> HubName:
        """ModelFileError when `source` is no such name."""
        found = _NAME.fullmatch(source)
        if found is None or ".." in source:
            raise ModelFileError(f"'{source[:200]}' is not of the form hf://organisation/name[@revision]")
        return cls(found[1], found[2] or "")

    @property
    def is_pinned(self) -> bool:
        """The revision can never mean anything else."""
        return _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> str:
        """The name of this very commit."""
        return f"{SCHEME}{self.repository}@{commit}"


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


def in_hub(source: str) -> bool:
    """Whether `source` names a model of the hub."""
    return source.startswith(SCHEME) and not source.startswith(_DATASETS)


def cache_folder() -> Path:
    """Where models of the hub lie: the cache that other programs use too."""
    if stated := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(stated).expanduser()
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


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
    if is_offline_by_choice():
        if here is not None:
            return here
        raise ModelFileError(f"{source} is not on this machine{_half(name, weights)}, and HF_HUB_OFFLINE forbids to "
                             "fetch it", "unset HF_HUB_OFFLINE once, or give the path of a folder you already have")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra.of("train", "huggingface_hub")
    try:
        return _by_child(name, source, weights, emit, cancel)
    except _Unreachable as error:
        if here is not None:
            return here
        raise ModelFileError(f"cannot get {name.repository} from the hub{_half(name, weights)}: {error.message}",
                             _AFRESH) from None


class _Unreachable(LocalDistillError):
    """The hub did not answer."""


def fetch_file(repository: str, revision: str, file: str, cancel: Cancel) -> Path:
    """One file of a data set, as the hub has it in that revision (empty: the newest) by now. ModelFileError with the
    next step when it cannot be had, MissingExtra, Cancelled."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra.of("hub", "huggingface_hub")
    try:
        said = _ask_child(HubName(repository, revision), {"file": file}, silent, cancel)
    except _Unreachable as error:
        raise ModelFileError(f"cannot get {file} of the data set {repository} from the hub: {error.message}",
                             "check the name and the network; or give the path of a file you already have") from None
    return Path(said["path"])


def _by_child(name: HubName, source: str, weights: bool, emit: Emit, cancel: Cancel) -> HubModel:
    said = _ask_child(name, {"weights": weights}, emit, cancel)
    return HubModel(source, Path(said["path"]), str(said["commit"]), int(said["size_bytes"]),
                    int(said["missing_bytes"]), str(said["licence"]))


def _ask_child(name: HubName, what: dict[str, Any], emit: Emit, cancel: Cancel) -> dict[str, Any]:
    """Everything that the child told of it."""
    endpoint = os.environ.get("HF_ENDPOINT") or _ENDPOINT
    environment = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DOWNLOAD_TIMEOUT": _WAIT_S}
    child = JsonChild("localdistill.modelfiles.hub_child", environment=environment, secrets=SECRETS, is_offline=False)
    said: dict[str, Any] = {}
    try:
        child.send({"repository": name.repository, "revision": name.revision, **what,
                    "cache": str(cache_folder()), "endpoint": endpoint})
        while "path" not in said:
            cancel.check()
            try:
                told = child.receive(_POLL_S)
            except ChildTimeout:
                continue
            if "problem" in told:
                raise _refusal(name, told, "data set" if "file" in what else "model")
            if "done" in told:
                emit(Progressed(f"fetching {name.repository}", told["done"], told["total"], "bytes"))
            if "found" in told:
                _say(name, told, emit)
            said |= told
    except ChildDied as death:
        raise _Unreachable(f"the process that fetches it ended: {death!s}") from None
    finally:
        child.kill()
    return said


def _say(name: HubName, told: dict[str, Any], emit: Emit) -> None:
    licence = f"licence {told['licence']}" if told["licence"] else "a licence that its card does not state"
    size, missing = int(told["size_bytes"]), int(told["missing_bytes"])
    comes = "all of it is here" if not missing else f"{size_text(missing)} are fetched" if missing < size else (
        "fetched now")
    emit(Noted(f"{name.repository} at {str(told['found'])[:12]}: {size_text(size)}, {licence}; {comes}"))
    if told["removed_bytes"]:
        emit(Noted(f"{size_text(int(told['removed_bytes']))} that a broken download left were removed"))


def _refusal(name: HubName, told: dict[str, Any], noun: str) -> LocalDistillError:
    repository = name.repository
    match told["problem"]:
        case "pickles":
            return ModelFileError(f"{repository} holds its weights as pickle ({told['name']}), which can run code",
                                  "use a model that is stored as safetensors")
        case "gguf":
            return ModelFileError(f"{repository} holds GGUF files ({told['name']}) and no safetensors",
                                  "download that file and name it with the engine llama_cpp; a student needs the model "
                                  "that it was made of")
        case "nothing":
            return ModelFileError(f"{repository} holds no weights as safetensors", "use another model")
        case "absent" | "index":
            return ModelFileError(f"{repository} lists weights that it does not hold", "use another revision of it")
        case "room":
            return ModelFileError(f"{repository} takes {size_text(told['needed'])} more, and {size_text(told['free'])} "
                                  "of disk are free", "free some disk, or let HF_HOME name a folder on a larger one")
        case "GatedRepoError":
            return ModelFileError(f"{repository} is given out by its owners only to who asked them",
                                  f"ask at {_ENDPOINT}/{repository}, and set HF_TOKEN")
        case "RevisionNotFoundError":
            return ModelFileError(f"{repository} has no revision '{name.revision}'", "name a branch, tag or commit")
        case "RemoteEntryNotFoundError":
            return ModelFileError(f"the hub has no such file in {repository}", "look at the files on its page")
        case "RepositoryNotFoundError":
            return ModelFileError(f"the hub has no {noun} {repository}, or not for you", _AFRESH)
    return _Unreachable(str(told.get("text") or told["problem"]))


def _snapshot(name: HubName) -> Path | None:
    """The folder in the cache that the revision means; None where there is none."""
    place = cache_folder() / f"models--{name.repository.replace('/', '--')}"
    commit = name.revision
    if not name.is_pinned:
        try:
            commit = (place / "refs" / (name.revision or "main")).read_text().strip()
        except (OSError, ValueError):
            commit = ""
    folder = place / "snapshots" / commit
    return folder if _COMMIT.fullmatch(commit) and folder.is_dir() else None


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
