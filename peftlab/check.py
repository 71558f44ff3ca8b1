"""Kept for scripts that know it here: see ``peftlab.preparation.check``."""

from peftlab.preparation.check import CheckedRecipe, check_recipe

__all__ = ["CheckedRecipe", "check_recipe"]
