"""Hands an exported file over to LM Studio: a whole and compared copy in its folder of models, where it finds files by
publisher and model. Moves and overwrites nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from localdistill.api.models.exports import Exported, ExportedFile, exports_of
from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.events import Cancel
from localdistill.modelfiles.gguf_files import is_model_file, whole_name
from localdistill.safety.files import free_bytes, partial_file, sha256_file, writing
from localdistill.workspace.folder import Workspace

PUBLISHER = "localdistill"
"""Under whom LM Studio lists what is copied."""
_FOLDERS = (".lmstudio/models", ".cache/lm-studio/models")
"""Where it keeps models, below a home: now, and in older versions."""
_POINTER = ".lmstudio-home-pointer"


def lm_studio_models(home: Path | None = None) -> Path:
    """The folder in which LM Studio keeps models. UsageError when it was never started here."""
    home = home or Path.home()
    pointer = home / _POINTER
    places = [home / folder for folder in _FOLDERS]
    if pointer.is_file():
        places.insert(0, Path(pointer.read_text(encoding="utf-8", errors="replace").strip()) / "models")
    for place in places:
        if place.parent.is_dir():
            return place
    raise UsageError("LM Studio has no folder here", "start it once, or name its folder of models: --into FOLDER")


def copy_to_lm_studio(workspace: Workspace, run: str = "last", quant: str = "", folder: Path | None = None,
                      cancel: Cancel | None = None) -> Path:
    """Copy what a run exported (`last`: the newest that exported something) into `folder`, LM Studio's own by itself,
    and return where it lies. quant: which file, for example Q8_0; the recommended one by itself.

    UsageError when there is no such file, or another one in its place; LocalDistillError when the export is damaged or
    the disk is full. A copy that is there already is compared, and is enough."""
    cancel = cancel or Cancel()
    made, file = _file(workspace, run, quant, cancel)
    name = whole_name(file.path.name).removesuffix(f"-{file.quant}.gguf")
    target = (folder or lm_studio_models()) / PUBLISHER / name
    parts = file.parts or ((file.path, file.sha256),)
    for path, sha256 in parts:
        if (target / path.name).exists() and _sum(target / path.name, cancel) != sha256:
            raise UsageError(f"{target / path.name} is there and is another file than the one of {made.run}",
                             "move it away, or copy to another folder: --into FOLDER")
    missing = [(path, sha256) for path, sha256 in parts if not (target / path.name).exists()]
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    needed = sum(path.stat().st_size for path, _ in missing)
    if (free := free_bytes(target)) < needed:
        raise LocalDistillError(f"the copy needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB",
                                "free some disk space, or name another folder: --into FOLDER")
    for path, sha256 in missing:
        with writing(target), partial_file(target / path.name, path.stat().st_size) as partial:
            _copy(path, partial, cancel.check)
            if _sum(partial, cancel) != sha256:
                raise LocalDistillError(f"the copy of {path.name} is not what was exported", "try it again")
    return target / file.path.name


def _sum(path: Path, cancel: Cancel) -> str:
    return sha256_file(path, cancel.check).removeprefix("sha256:")


def _file(workspace: Workspace, run: str, quant: str, cancel: Cancel) -> tuple[Exported, ExportedFile]:
    for made in exports_of(workspace, "" if run == "last" else run, cancel=cancel):
        if made.state == "damaged":
            raise LocalDistillError(f"what {made.run} exported is damaged: {'; '.join(made.why)}",
                                    f"localdistill resume {made.run} makes it again")
        files = [file for file in made.files if is_model_file(file.path.name)]
        if not files:
            continue
        wanted = quant or (made.choice.form if made.choice else "")
        if found := next((file for file in files if file.quant == wanted), None):
            return made, found
        if quant:
            raise UsageError(f"{made.run} exported no {quant}", f"it has {', '.join(file.quant for file in files)}")
        return made, made.for_chat[0]
    raise UsageError("no run has exported a model yet" if run == "last" else f"{run} has exported no model",
                     "localdistill export RECIPE makes one")


def _copy(source: Path, target: Path, tick: Callable[[], None]) -> None:
    with source.open("rb") as whole, target.open("wb") as copy:
        while chunk := whole.read(BORDERS.file_bytes):
            tick()
            copy.write(chunk)
