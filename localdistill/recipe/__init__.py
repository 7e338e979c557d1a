"""Recipes: TOML in, frozen models out."""

from localdistill.core.options import Member
from localdistill.recipe.advice import advice_on
from localdistill.recipe.reading import dump_recipe, load_recipe, parse_recipe, read_resolved
from localdistill.recipe.schema import recipe_schema
from localdistill.recipe.sections import Recipe

__all__ = ["Member", "Recipe", "advice_on", "dump_recipe", "load_recipe", "parse_recipe", "read_resolved",
           "recipe_schema"]
