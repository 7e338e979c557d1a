"""Commands on recipes: list, new, check, schema."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RecipeArgument, SetOption, read_recipe, recipe_file
from localdistill.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Work with recipes.")


def register(parent: typer.Typer) -> None:
    """Add the group of this file."""
    parent.add_typer(app, name="recipe")


@app.command("list", help="List the recipes that ship.")
def list_all(as_json: JsonOption = False) -> None:
    """Name and purpose of every shipped recipe."""
    import tomllib

    from localdistill import shipped_recipes

    rows = [
        (path.stem, tomllib.loads(path.read_text(encoding="utf-8")).get("description", ""))
        for path in shipped_recipes()
    ]
    if as_json:
        output.data_json([{"name": name, "description": text} for name, text in rows])
    else:
        output.table(["recipe", "what it does"], rows)


@app.command("new", help="Copy a shipped recipe to a file of your own, to change it.")
def new(
    path: Annotated[Path, typer.Argument(help="File to write, for example mine.toml.")],
    of: Annotated[str, typer.Option("--from", help="Shipped recipe to start from.")] = "pantry",
    as_json: JsonOption = False,
) -> None:
    """Copy a recipe; an existing file is never overwritten."""
    if path.exists():
        raise InputError(f"{path} exists already", "choose another name")
    shutil.copyfile(recipe_file(of), path)
    if as_json:
        output.data_json({"recipe": str(path)})
    else:
        output.talk(f"wrote {path}; next: localdistill recipe check {path}")


@app.command("check", help="Check a recipe and say every problem at once.")
def check(recipe: RecipeArgument, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Exit code 2 when there are problems."""
    loaded, _, _ = read_recipe(recipe, settings, None)
    if as_json:
        output.data_json(loaded.model_dump(mode="json", by_alias=True))
    else:
        output.data(f"{loaded.name}: fine; stages: {' > '.join(loaded.stages())}")


@app.command("schema", help="Print the JSON Schema of recipes, with the options of every family member.")
def schema(as_json: JsonOption = False) -> None:
    """Always JSON; --json is accepted for symmetry."""
    from localdistill import recipe_schema

    output.data_json(recipe_schema())
