"""What a model's config tells of the images that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

USUAL_SIZE, USUAL_PATCH = 224, 16
"""Pixels of an image and of a patch where a config does not say."""
USUAL_PATCHES = (USUAL_SIZE // USUAL_PATCH) ** 2 + 1


def image_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The images that the model takes, and how many patches it makes of one, as a part of ``learned``.

    Args:
        config: Of the model, or of its tower for images.
    """
    size, patch = config.get("image_size", USUAL_SIZE), config.get("patch_size", USUAL_PATCH)
    height, width = [size, size] if isinstance(size, int) else size
    rows, columns = [patch, patch] if isinstance(patch, int) else patch
    tokens = max(1, height // rows) * max(1, width // columns) + 1
    shape = [int(config.get("num_channels", 3)), height, width]
    return {"image_shape": shape, "tokens": tokens, "fixed_size": "image_size" in config}


def image_shape(learned: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels × height × width of an image, as :func:`image_facts` has learned it."""
    return tuple(learned.get("image_shape", (3, USUAL_SIZE, USUAL_SIZE)))


def fixed_size(learned: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that the model takes; None: any."""
    _, height, width = image_shape(learned)
    return (height, width) if learned.get("fixed_size") else None
