"""Options that many commands share, and the few steps they mean: find the workspace, read the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
MaxUsdOption = Annotated[
    float | None,
    typer.Option("--max-usd", min=0, help="Most US dollars that the run may spend; it pauses before passing it."),
]
OnBatteryOption = Annotated[
    Literal["go", "pause"] | None,
    typer.Option(
        "--on-battery",
        help="`pause`: what computes on this machine stops at its next safe point while that runs on its battery, and "
        "goes on by itself with mains power. `go`, as without it: it works on.",
    ),
]
NotifyOption = Annotated[
    str | None,
    typer.Option(
        "--notify",
        metavar="COMMAND",
        help="Run this when the run ends, with LOCALDISTILL_RUN and LOCALDISTILL_RUN_STATE set, and notify the desktop "
        "where there is one; `desktop` does the latter alone. It can fail no run.",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME",
        help="07:00, or a date with it: a race of several seeds ends by then, with as many of them as fit, each "
        "measured before the next begins; `resume` trains the rest.",
    ),
]
AcceptTermsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-terms",
        help="You have read the terms of use of this provider or host and want to go on. May be given many times.",
    ),
]
RunArgument = Annotated[str, typer.Argument(help="A run's id; `last` is the newest.")]

LivingRunArgument = Annotated[
    str, typer.Argument(help="A run's id; `last` is the newest. Without one: the run that is running.",
                        show_default=False)
]
UnfinishedRunArgument = Annotated[
    str, typer.Argument(help="A run's id; `last` is the newest. Without one: the run that did not reach its end.",
                        show_default=False)
]


def workspace_of(path: Path | None, may_be_new: bool = False) -> Any:
    """The workspace that the option names or that is found; with `may_be_new` it may be one that the command makes.
    What is mended when its store is opened is said."""
    from localdistill import Workspace

    def tell(event: Any) -> None:
        from localdistill.cli import output
        from localdistill.cli.following import sentence

        output.talk(sentence(event) or "")

    place = Workspace.find(path, may_be_new)
    place.emit = tell
    return place


def read_recipe(name: str, settings: list[str] | None, seeds: int | None) -> tuple[Any, str, Path]:
    """The recipe, its text, and the folder that its relative paths start from."""
    from localdistill import load_recipe, older_shape, recipe_file
    from localdistill.cli import output

    path = recipe_file(name)
    extra = [f"train.seeds={seeds}"] if seeds else []
    recipe = load_recipe(path, [*(settings or []), *extra])
    text = path.read_text(encoding="utf-8")
    if told := older_shape(text, name):
        output.talk(f"warning: {name}: {told}")
    return recipe, text, path.resolve().parent


def accept_terms(recipe: Any, workspace: Any, names: list[str]) -> None:
    """Note the consents given as options, and on a terminal ask for the others: the provider's name has to be typed."""
    from localdistill import accept_terms as accept
    from localdistill import give_consent, open_terms, terms_notes
    from localdistill.cli import output

    accept(recipe, workspace, names)
    for note in terms_notes(recipe):
        output.talk(note.text)
    if not (output.somebody_is_here() and output.is_live()):
        return
    for question in open_terms(recipe, workspace):
        output.talk(question.text)
        if output.ask(f"Type {question.name} to go on, anything else to leave: ").strip() == question.name:
            give_consent(workspace, question)
