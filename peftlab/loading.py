"""Kept for scripts that know it here: see ``peftlab.preparation.loading``."""

from peftlab.preparation.loading import Loader

__all__ = ["Loader"]
