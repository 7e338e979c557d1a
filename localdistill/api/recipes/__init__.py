"""Recipes: planned and quoted before anything is spent."""
