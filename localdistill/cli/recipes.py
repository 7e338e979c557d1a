"""Commands on recipes: list, new, set, check, upgrade, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from localdistill.cli import output
from localdistill.cli.arguments import (
    JsonOption,
    RecipeArgument,
    SetOption,
    WorkspaceOption,
    read_recipe,
    workspace_of,
)

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


@app.command("new", help="Write a recipe of your own: a copy of a shipped one, or one of what is stored here.")
def new(
    path: Annotated[Path, typer.Argument(help="File to write, for example mine.toml.")],
    of: Annotated[str, typer.Option("--from", help="Shipped recipe to start from.")] = "pantry",
    from_store: Annotated[
        bool, typer.Option("--from-store", help="Start from what this workspace holds: traces, or questions to ask.")
    ] = False,
    where: Annotated[str, typer.Option(help="With --from-store: only traces that meet this SQL condition.")] = "",
    student: Annotated[str, typer.Option(help="With --from-store: the student's folder, hub id or shipped name.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a recipe; an existing file is never overwritten."""
    from localdistill import new_recipe, recipe_from_store

    if from_store:
        recipe_from_store(workspace_of(workspace), path, where, student)
    else:
        new_recipe(path, of)
    if as_json:
        output.data_json({"recipe": str(path)})
    else:
        output.talk(f"wrote {path}; next: localdistill recipe check {path}")


@app.command("set", help="Change values of a recipe file; its comments and its order stay.")
def set_values(
    path: Annotated[Path, typer.Argument(help="A recipe file of yours.")],
    values: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE, for example train.epochs=2 or arm.a.format=full_trace. The value is TOML; what "
                       "is no TOML is text."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Key, section or list item to take out, for example grade.1.")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", help="LIST=MEMBER, one more table of a list, for example grade=math, or arm=full_trace "
                     "for an arm of that name."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Problems that are left are said; the file is written all the same."""
    from localdistill import RecipeDraft, UsageError

    draft = RecipeDraft.open(path)
    for text in values or ():
        draft.set(*_pair(text, "train.epochs=2", as_toml=True))
    for text in add or ():
        key, member = _pair(text, "grade=math", as_toml=False)
        if key == "traces":
            raise UsageError("a set of traces is added by what it says", f"recipe set {path} traces.NAME.ask=ENGINE")
        is_by_name = key in ("engine", "arm") and not isinstance(draft.value(key), list)
        name = draft.free_name(key, member) if is_by_name else ""
        draft.add(key, {"format" if key == "arm" else "use": member}, name)
    for key in remove or ():
        draft.remove(key)
    draft.save()
    problems = draft.problems()
    if as_json:
        output.data_json({"recipe": str(path), **{
            f"{name}s": [[p.key, p.text] for p in problems if p.kind == kind]
            for kind, name in (("error", "problem"), ("warning", "warning"))}})
        return
    output.talk(f"wrote {path}")
    for problem in problems:
        mark = "  warning: " if problem.kind == "warning" else "  "
        output.talk(mark + (f"{problem.key}: {problem.text}" if problem.key else problem.text))


def _pair(text: str, example: str, as_toml: bool) -> tuple[str, Any]:
    """`KEY=VALUE` taken apart."""
    import tomllib

    from localdistill import UsageError

    key, sep, value = text.partition("=")
    if not sep or not key.strip():
        raise UsageError(f"{text}: must look like KEY=VALUE", f"example: {example}")
    if as_toml:
        try:
            return key.strip(), tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            pass
    return key.strip(), value.strip()


@app.command("check", help="Check a recipe and say every problem at once.")
def check(recipe: RecipeArgument, settings: SetOption = None, workspace: WorkspaceOption = None,
          as_json: JsonOption = False) -> None:
    """Exit code 2 when there are problems; warnings change no exit code."""
    from localdistill import advice_on, check_recipe, open_store, require_sound

    loaded, _, base = read_recipe(recipe, settings, None)
    problems = check_recipe(loaded, base, store=open_store(workspace_of(workspace)))
    require_sound(problems)
    advice = [*advice_on(loaded), *((problem.key, problem.text) for problem in problems)]
    if as_json:
        output.data_json({**loaded.model_dump(mode="json", by_alias=True), "warnings": advice})
    else:
        output.data(f"{loaded.name}: fine; stages: {' > '.join(loaded.stages())}")
    for key, text in advice:
        output.talk(f"warning: {key}: {text}")


@app.command("upgrade", help="Rewrite a recipe of an older shape in today's; its comments and its order stay.")
def upgrade(
    path: Annotated[Path, typer.Argument(help="A recipe file of yours.")],
    check_only: Annotated[bool, typer.Option("--check", help="Only say whether there is something to do.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The old text is kept beside it. With --check, exit code 1 says that there is something to do."""
    import sys

    from localdistill import RecipeDraft, older_shape, upgrade_recipe

    if check_only:
        told = older_shape(RecipeDraft.open(path).text, str(path))
        if as_json:
            output.data_json({"recipe": str(path), "is_older": bool(told)})
        else:
            output.data(f"{path}: {told or 'is of today'}")
        sys.exit(1 if told else 0)
    made, aside = upgrade_recipe(path)
    if as_json:
        output.data_json({"recipe": str(path), "upgraded": list(made.older), "old": str(aside) if aside else None,
                          "keeps_comments": made.keeps_comments})
    elif aside is None:
        output.talk(f"{path} is of today: nothing to do")
    else:
        output.talk(f"wrote {path} ({', '.join(made.older)}); the old text is in {aside}")
        if not made.keeps_comments:
            output.talk("warning: its comments could not be kept: they are in the old text")


@app.command("schema", help="Print the JSON Schema of recipes, with the options of every family member.")
def schema(as_json: JsonOption = False) -> None:
    """Always JSON; --json is accepted for symmetry."""
    from localdistill import recipe_schema

    output.data_json(recipe_schema())
