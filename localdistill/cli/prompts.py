"""Commands on prompts: the listing, and making more of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from localdistill.cli import output
from localdistill.cli.arguments import AcceptTermsOption, JsonOption, MaxUsdOption, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(invoke_without_command=True, help="List stored prompts: those with an answer or without, by "
                                                          "source. `prompts make` makes more.")
    group.callback()(prompts)
    group.command("make", help="Make more prompts from a few questions of yours or a folder of texts: written, solved "
                               "and judged by an engine, without duplicates and items of benchmarks. Writes a recipe "
                               "that does it, and runs it up to there.")(make)
    app.add_typer(group, name="prompts")


def prompts(
    context: typer.Context,
    answered: Annotated[
        bool | None,
        typer.Option("--with-answer/--without-answer", help="Only those that have a stored answer, or have none."),
    ] = None,
    made: Annotated[
        bool | None, typer.Option("--made/--own", help="Only those that were made here, or that were not.")
    ] = None,
    source: Annotated[str, typer.Option(help="Only those from this source, for example the name of a file.")] = "",
    search: Annotated[str, typer.Option(help="Only questions that contain this text.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="How many to list.")] = 20,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List prompts."""
    if context.invoked_subcommand:
        return
    from localdistill import list_prompts

    count, rows = list_prompts(workspace_of(workspace), answered, source, search, limit, made)
    if as_json:
        output.data_json({"count": count, "prompts": rows})
        return
    lineage = any(row["made_by"] for row in rows)
    output.table(
        ["prompt", "answers", "reference", "source", *(["made by", "from"] if lineage else []), "question"],
        [(r["id"][3:13], r["answers"], "yes" if r["has_reference"] else "no", r["source"][-24:],
          *((r["made_by"].partition("/")[0], _from(r)) if lineage else ()), r["question"][:60]) for r in rows],
    )  # fmt: skip
    if count > len(rows):
        output.talk(f"{len(rows):,} of {count:,} prompts; --limit lists more")


def _from(row: dict[str, Any]) -> str:
    """The document, or the prompts, that one was made from, in short."""
    if row["document"]:
        return str(row["document"])[-24:]
    first, *more = row["made_from"] or [""]
    return str(first)[3:13] + (f" +{len(more)}" if more else "")


def make(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of questions, as `import` reads them.", show_default=False)
    ] = None,
    writer: Annotated[
        str, typer.Option("--engine", help="Who writes: a GGUF file, or a provider (`localdistill teacher list`).")
    ] = "",
    model: Annotated[str, typer.Option(help="The provider's model.")] = "",
    documents: Annotated[
        Path | None, typer.Option(help="A text file, or a folder of them (.txt, .md, .rst; UTF-8).")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="rephrase (other words), reverse (asks for a given number), similar (more of the kind) or "
                          "documents. May be given many times. Usual: similar, and documents where there are some."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="Questions per prompt or piece of a text, and way.")] = 1,
    recipe: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("more-prompts.toml"),
    max_usd: MaxUsdOption = None,
    accepted: AcceptTermsOption = None,
    workspace: WorkspaceOption = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Start it and return at once.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make prompts."""
    from localdistill import UsageError, recipe_from_little, writing_engine
    from localdistill.cli import running

    if not writer:
        raise UsageError("who is to write them?", "--engine FILE.gguf, or --engine PROVIDER --model NAME")
    recipe_from_little(recipe, writing_engine(writer, model), files or (), documents, by or (), count)
    if not as_json:
        output.talk(f"wrote {recipe}; the answers: localdistill run {recipe}")
    running.start_and_watch(str(recipe), None, None, max_usd, accepted, workspace, "augment", detach, as_json, None,
                            None)
