"""Write a model as a checkpoint of this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_checkpoint(model: Any, folder: Path) -> None:
    """Write a transformers model into a folder that this process alone fills.

    Of several processes transformers lets only the first write, and says nothing in the others. Each of ours has a
    folder of its own.
    """
    vars(model)["should_save_on_this_rank"] = bool
    try:
        model.save_pretrained(folder)
    finally:
        del vars(model)["should_save_on_this_rank"]
