"""The command tree. Commands live in the files of this folder, a file per group; each imports what it needs when it
runs, so that `--help` stays fast."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from localdistill.cli import (
    chat,
    data,
    doctor,
    exports,
    forgetting,
    items,
    keys,
    logprobs,
    models,
    output,
    prefetching,
    prompts,
    queueing,
    recipes,
    results,
    running,
    scores,
    status,
    stores,
    teachers,
    traces,
    ui,
    verifying,
)

app = typer.Typer(
    name="localdistill",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Turn a teacher's reasoning into a small model on your own machine, and measure every training format fairly.",
)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    """Without a command: the terminal UI, on a terminal; else this help."""
    if show:
        import localdistill

        output.data(localdistill.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        if not output.is_terminal():
            output.data(context.get_help())
            raise typer.Exit(2)
        ui.open_ui(None)


running.register(app)
queueing.register(app)
recipes.register(app)
prefetching.register(app)
status.register(app)
stores.register(app)
verifying.register(app)
forgetting.register(app)
teachers.register(app)
ui.register(app)
traces.register(app)
prompts.register(app)
data.register(app)
results.register(app)
items.register(app)
scores.register(app)
exports.register(app)
chat.register(app)
logprobs.register(app)
models.register(app)
keys.register(app)
doctor.register(app)


def command_words(arguments: Sequence[str]) -> list[str]:
    """The words of `arguments` that name a command: `recipe set` of `recipe set mine.toml`."""
    here, words = typer.main.get_command(app), []
    for word in arguments:
        below = getattr(here, "commands", {})
        if word not in below:
            break
        here = below[word]
        words.append(word)
    return words
