"""Where a model's tokens become vectors."""

from __future__ import annotations

from typing import Any


def input_embeddings(model: Any) -> Any:
    """The module of a model of transformers; of one with a tower for images beside that for texts, the latter's."""
    tower = model.text_model if hasattr(model, "get_text_features") else model
    return tower.get_input_embeddings()
