"""Bringing all models of a recipe, and the files of its benchmarks, onto this machine, before a run or before a
journey: afterwards every stage works with the network off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localdistill.core.disk import size_text
from localdistill.core.events import Cancel, Emit, silent
from localdistill.hub import datasets
from localdistill.hub.models import HubModel, fetch
from localdistill.hub.names import HubName
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe import Recipe
from localdistill.recipe.hub_models import HubUse, hub_data, hub_uses
from localdistill.workspace.folder import Workspace
from localdistill.workspace.hub_pins import keep_pins, pins


@dataclass(frozen=True)
class Prefetched:
    """One model or file of a recipe that is here now."""

    model: HubModel
    what: str
    """Its kind and size, for people."""


def prefetch(workspace: Workspace, recipe: Recipe, newest: bool = False, emit: Emit = silent,
             cancel: Cancel | None = None) -> list[Prefetched]:
    """Fetch every model of the hub that `recipe` names, as far as it is not here, look at it as a run would, and let
    its name mean this revision in `workspace`; then the files that its benchmarks are read from. newest: of those that
    are here too, as the hub has them by now.

    ModelFileError with the next step when one cannot be had or used, InputError for an address of no file,
    Cancelled."""
    known, found = {} if newest else pins(workspace), []
    for use in hub_uses(recipe):
        model = fetch(known.get(use.source, use.source), emit, cancel or Cancel(), use.weights, newest)
        found.append(Prefetched(model, _what(use, model.path)))
        keep_pins(workspace, {use.source: HubName.of(use.source).at(model.commit)})
    for name in hub_data(recipe):
        path = datasets.bring(name, emit, cancel or Cancel(), newest)
        model = HubModel(name, path, datasets.commit_of(name, path))
        found.append(Prefetched(model, f"file of a benchmark, {size_text(path.stat().st_size)}"))
    return found


def _what(use: HubUse, path: Path) -> str:
    if not use.weights:
        return "tokenizer"
    folder = ModelFolder.open(path)
    return f"{folder.architecture}, {folder.parameter_count / 1e6:,.1f} M parameters"
