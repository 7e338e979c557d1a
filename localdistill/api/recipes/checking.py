"""Everything that is wrong with a recipe's text, as far as it can be known before it runs."""

from __future__ import annotations

from pathlib import Path

from localdistill.recipe import parse_recipe
from localdistill.recipe.drafts import problems_in
from localdistill.recipe.problems import Problem
from localdistill.stages.checking import check_recipe
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store


def problems_before_run(text: str, base: Path, workspace: Workspace | None = None) -> list[Problem]:
    """What is wrong with the recipe `text`, whose relative paths start from `base`: how it is written and, once that
    is right, what its stages would fail on, in `workspace` where one is given. Takes about a second;
    `problems_in` reads the text alone."""
    found = problems_in(text)
    if any(problem.kind == "error" for problem in found):
        return found
    store = open_store(workspace) if workspace is not None else None
    return [*found, *check_recipe(parse_recipe(text), base, store=store)]
