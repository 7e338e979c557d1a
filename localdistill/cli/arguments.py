"""Options that many commands share, and the few steps they mean: find the workspace, read the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from localdistill.errors import RecipeError, nearest

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        help="Folder that holds runs, artifacts and the store. Default: the nearest "
        "parent folder with a localdistill.toml, else this folder.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON on stdout.")]
RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Change one value, for example --set train.epochs=2 or --set arm.full_trace.format="
        '"answer_only". The value is TOML. May be given many times.',
    ),
]
SeedsOption = Annotated[
    int | None, typer.Option("--seeds", help="Trainings per arm; 3 or more give a verdict on formats.")
]
RunArgument = Annotated[str, typer.Argument(help="A run's id; `last` is the newest.")]


def workspace_of(path: Path | None) -> Any:
    """The workspace that the option names or that is found."""
    from localdistill import Workspace

    return Workspace.find(path)


def recipe_file(name: str) -> Path:
    """The file that a recipe argument means: a path, or a shipped recipe by name."""
    from localdistill import shipped_recipes

    path = Path(name).expanduser()
    if path.suffix == ".toml" or path.exists():
        return path
    known = {p.stem: p for p in shipped_recipes()}
    if name not in known:
        raise RecipeError(f"there is no recipe '{name}'{nearest(name, known)}", f"shipped: {', '.join(known)}")
    found: Path = known[name]
    return found


def read_recipe(name: str, settings: list[str] | None, seeds: int | None) -> tuple[Any, str, Path]:
    """The recipe, its text, and the folder that its relative paths start from."""
    from localdistill import load_recipe

    path = recipe_file(name)
    extra = [f"train.seeds={seeds}"] if seeds else []
    recipe = load_recipe(path, [*(settings or []), *extra])
    return recipe, path.read_text(encoding="utf-8"), path.resolve().parent
