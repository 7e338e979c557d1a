"""The prefetch command: every model of a recipe onto this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, RecipeArgument, SetOption, WorkspaceOption, read_recipe, workspace_of


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("prefetch", help="Fetch every model of the hub that a recipe names, in one revision, with its size and "
                                 "licence, and the files of its benchmarks; afterwards every stage works with "
                                 "the network off.")(prefetch)


def prefetch(
    recipe: RecipeArgument,
    settings: SetOption = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="Ask the hub again what a name means by now; runs that began keep theirs.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the models and the benchmarks of a recipe."""
    from localdistill import prefetch as fetch
    from localdistill.cli.following import Watcher

    loaded, _, _ = read_recipe(recipe, settings, None)
    watcher = Watcher(as_json)
    try:
        found = fetch(workspace_of(workspace, may_be_new=True), loaded, newest, watcher.event)
    finally:
        watcher.clear()
    if as_json:
        output.data_json([{"model": one.model.source, "commit": one.model.commit, "folder": str(one.model.path),
                           "licence": one.model.licence, "what": one.what} for one in found])
        return
    for one in found:
        output.data(f"{one.model.source}  {one.what}")
    if not found:
        output.talk("this recipe names nothing of the hub: there is nothing to fetch")
