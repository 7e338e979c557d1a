"""The logprobs command: how likely a model finds given continuations."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import TokenScores


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("logprobs", help="Print the log-probabilities (natural logarithm) that a model gives to continuations "
                                 "of a question or a text. Nothing is written.")(logprobs)


def logprobs(
    model: Annotated[str, typer.Argument(help="A model folder, shipped:NAME, a GGUF file, or the id of a run that "
                                              "exported one; `last` is the newest.")],
    continuations: Annotated[list[str], typer.Argument(
        help="Texts to score, each cut into tokens by itself. What ends a turn counts where it is written, for example "
             "'7<|im_end|>'.")],
    question: Annotated[str, typer.Option("--ask", help="The question before them, through the chat template.")] = "",
    system: Annotated[str, typer.Option(help="A system prompt before the question.")] = "",
    text: Annotated[str | None, typer.Option(help="Raw text before them, instead of a question.")] = None,
    thinking: Annotated[bool | None, typer.Option("--thinking/--no-thinking", show_default=False,
                                                  help="Switch of the chat template. Default: the template's own.")
                        ] = None,
    top: Annotated[int, typer.Option(min=0, max=256, help="Also print so many of the most likely tokens at every place "
                                                          "(with --json or --tokens).")] = 0,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also print every token.")] = False,
    adapter: Annotated[str, typer.Option(help="Folder of an adapter to add to a model folder.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print log-probabilities of continuations."""
    from localdistill import score_continuations, scorer_of

    scorer = scorer_of(workspace_of(workspace), model, adapter)
    found = score_continuations(scorer, continuations, question, system, text, thinking, top)
    if as_json:
        output.data_json([{"continuation": said, "total": one.total, **dataclasses.asdict(one)}
                          for said, one in zip(continuations, found)])
        return
    best = max(one.total for one in found)
    weights = [math.exp(one.total - best) for one in found]
    whole = sum(weights)
    output.table(("log-prob", "per token", "tokens", "share", "continuation"), [
        (f"{one.total:.4f}", f"{one.total / len(one.ids):.4f}", len(one.ids), f"{weight / whole:.1%}", repr(said))
        for said, one, weight in zip(continuations, found, weights)])
    if tokens:
        for said, one in zip(continuations, found):
            _print_tokens(said, one)


def _print_tokens(said: str, scores: TokenScores) -> None:
    output.data(repr(said))
    for place, (token, logprob) in enumerate(zip(scores.ids, scores.logprobs)):
        likely = "  ".join(f"{other}:{value:.4f}" for other, value in
                           zip(scores.top_ids[place], scores.top_logprobs[place]))
        output.data(f"  token {token:>7}  {logprob:10.4f}  {likely}".rstrip())
