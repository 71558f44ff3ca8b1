"""Which data a suite's runs have learned: its folder remembers, since finished runs go by their recipes alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from peftlab.core.errors import UserError
from peftlab.core.files import write_text
from peftlab.preparation.check import CheckedRecipe
from peftlab.recipe.schema import Recipe

DATA_NAME = "suite_data.json"


def keep_data(folder: Path, checked: Mapping[tuple[str, ...], CheckedRecipe]) -> None:
    """Write down what the data are, the first time; later they must be the same.

    A data set that the suite names newly is another one, and its runs are run anew anyway.

    Args:
        folder: Of the suite.
        checked: By the point of the axes.

    Raises:
        UserError: What the suite names holds other rows than when it began.
    """
    path = folder / DATA_NAME
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = dict(known)
    for point, each in checked.items():
        now = each.data.summary.fingerprint
        if found.setdefault(_key(each.recipe), now) != now:
            raise UserError(
                "the data have changed since the suite was begun" + (f", at {', '.join(point)}" if point else ""),
                where=str(folder),
                hint="Bring them back as they were, or choose another --output-dir: methods that learned other rows "
                "cannot be compared, and tuning has chosen by the rows of then.",
            )
    if found != known:
        write_text(path, json.dumps(found, indent=2) + "\n")


def _key(recipe: Recipe) -> str:
    """What names the data: also the seed, where it cuts the splits."""
    values = recipe.model_dump(mode="json", include={"task", "data", "continues"})
    distillation = recipe.training.distillation
    values["distillation"] = None if distillation is None else distillation.model_dump(mode="json")
    if recipe.data is not None:
        values["data"]["draw_seed"] = None
        values["seed"] = recipe.seed if recipe.data.split_seed is None else None
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
