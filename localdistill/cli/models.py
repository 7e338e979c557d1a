"""The models command: which kinds of students there are, and what works for one model on this machine."""

from __future__ import annotations

import dataclasses

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        "models",
        help="Say which kinds of students there are and what works for each: training in torch and MLX, merging, GGUF, "
        "serving. Given a model folder, shipped:NAME or hf:// id, say it for that model, with memory on this machine.",
    )(models)


def models(
    student: str = typer.Argument("", help="A model folder, shipped:NAME or hf://organisation/name; empty: all kinds.",
                                  show_default=False),
    tokens: int = typer.Option(2048, "--tokens", min=16, help="The longest row that it is to be trained on."),
    as_json: JsonOption = False,
) -> None:
    """Exit code 1 when something does not work for the model that was named."""
    from localdistill import examine_student, student_kinds

    if not student:
        kinds = student_kinds()
        if as_json:
            output.data_json([dataclasses.asdict(kind) for kind in kinds])
            return
        output.table(("kind", "torch", "MLX", "merge", "GGUF", "serve", "models"),
                     [(kind.name, kind.torch, kind.mlx, kind.merge, kind.gguf, kind.serve, kind.models)
                      for kind in kinds])
        output.talk("localdistill models FOLDER says what of it works for one model, and in which memory")
        return
    report = examine_student(student, max_tokens=tokens)
    if as_json:
        output.data_json(dataclasses.asdict(report))
    else:
        window = f", a window of {report.window_tokens:,}" if report.window_tokens else ""
        output.data(f"{report.source}: {report.kind} ({report.models})")
        output.data(f"  {report.parameter_count / 1e6:,.1f} million parameters in {report.dtype}, a vocabulary of "
                    f"{report.vocabulary:,}, texts of up to {report.context_tokens:,} tokens{window}")
        for step in report.steps:
            output.data(f"{' ' if step.works else '!'} {step.what:<22} {step.text}")
            if step.fix:
                output.data(f"  {'':<22} try: {step.fix}")
    if not all(step.works for step in report.steps):
        raise typer.Exit(1)
