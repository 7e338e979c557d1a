"""Everything that is wrong with a recipe's text, as far as it can be known before it runs."""

from __future__ import annotations

from pathlib import Path

from localdistill.recipe import parse_recipe
from localdistill.recipe.drafts import problems_in
from localdistill.recipe.problems import Problem
from localdistill.stages.checking import check_recipe


def problems_before_run(text: str, base: Path) -> list[Problem]:
    """What is wrong with the recipe `text`, whose relative paths start from `base`: how it is written and, once that
    is right, what its stages would fail on. Takes about a second; `problems_in` reads the text alone."""
    found = problems_in(text)
    if any(problem.kind == "error" for problem in found):
        return found
    return [*found, *check_recipe(parse_recipe(text), base)]
