"""Which revision a model of the hub means in a workspace: the one that it was first fetched in, so that a second run
speaks of the same weights, until somebody asks for newer ones."""

from __future__ import annotations

import json
from collections.abc import Mapping

from localdistill.core.errors import LocalDistillError, ModelFileError
from localdistill.hub.names import HubName
from localdistill.recipe.hub_models import hub_uses, with_models
from localdistill.recipe.sections import Recipe
from localdistill.safety.files import atomic_write_text
from localdistill.workspace.folder import Workspace

_FILE = "hub.json"


def pins(workspace: Workspace) -> dict[str, str]:
    """Name -> the same name at its commit. LocalDistillError when the file is damaged."""
    path = workspace.root / _FILE
    try:
        told = json.loads(path.read_text())
        found = {str(name): str(pinned) for name, pinned in told.items()}
        for pinned in found.values():
            if not HubName.of(pinned).is_pinned:
                raise ValueError(pinned)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, ModelFileError):
        raise LocalDistillError(f"{path} cannot be read: which revisions models of the hub have here is not known",
                                "remove it; they are looked up again") from None
    return found


def keep_pins(workspace: Workspace, more: Mapping[str, str]) -> None:
    """Let these names mean these commits from now on."""
    if not more:
        return
    workspace.root.mkdir(parents=True, exist_ok=True)
    kept = {**pins(workspace), **more}
    atomic_write_text(workspace.root / _FILE, json.dumps(kept, indent=1, sort_keys=True) + "\n")


def pinned(workspace: Workspace, recipe: Recipe) -> Recipe:
    """`recipe` with the models of the hub in the revisions that are known here."""
    known = pins(workspace) if hub_uses(recipe) else {}
    return with_models(recipe, known)
