"""The command tree. Commands live in the files of this folder, a file per group; each imports what it needs when it
runs, so that `--help` stays fast."""

from __future__ import annotations

import typer

from localdistill.cli import chat, doctor, recipes, running, traces

app = typer.Typer(
    name="localdistill",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn a teacher's reasoning into a small model on your own machine, and measure every training format fairly.",
)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True)) -> None:
    """Options of the program itself."""
    if show:
        import localdistill

        typer.echo(localdistill.__version__)
        raise typer.Exit


running.register(app)
recipes.register(app)
traces.register(app)
chat.register(app)
doctor.register(app)
