"""`traces rules`: what graders said of stored traces, by the rules that made their verdicts."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of


def register(traces: typer.Typer) -> None:
    """Add the command."""
    traces.command("rules", help="What graders said of the stored traces, by the rules that made their "
                                    "verdicts, and what an older version of them had said otherwise. `--book` explains "
                                    "every rule.")(
        rules)


def rules(
    book: Annotated[bool, typer.Option("--book", help="The rule book: what each rule says.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count verdicts, or explain rules."""
    from localdistill import grading_rules, verdicts_by_rule, with_rules

    if book:
        known = grading_rules()
        if as_json:
            output.data_json(dict(known))
        else:
            output.table(["rule", "what it says"], list(known.items()))
        return
    counts = verdicts_by_rule(workspace_of(workspace))
    if as_json:
        output.data_json([dataclasses.asdict(one) for one in counts])
        return
    output.table(
        ["grader", "rules", "right", "wrong", "undecided", "now right", "right no more"],
        [(f"{one.grader}@{one.version}", one.rules or "-", one.right, one.wrong, one.undecided, one.now_right or "",
          one.not_right_any_more or "") for one in counts],
    )  # fmt: skip
    named = next((one.rules for one in counts if one.rules), "")
    if named:
        output.talk(f"localdistill traces --where \"{with_rules(named)}\" lists the traces of a line")
