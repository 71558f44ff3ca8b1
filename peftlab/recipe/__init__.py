"""Recipes: their keys, how they are loaded, and what fills their gaps."""

from peftlab.recipe.schema import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
