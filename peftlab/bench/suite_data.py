"""Which data a suite's runs have learned: its folder remembers, since finished runs go by their recipes alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from peftlab.core.errors import UserError
from peftlab.core.files import write_text
from peftlab.packs.layout import SUITE_DATA_NAME
from peftlab.preparation.check import CheckedRecipe
from peftlab.recipe.schema import Recipe


def keep_data(folder: Path, checked: Mapping[tuple[str, ...], CheckedRecipe]) -> None:
    """Write down what the data are, the first time; later they must be the same.

    Args:
        folder: Of the suite.
        checked: By the point of the axes.

    Raises:
        UserError: What the suite names holds other rows than when it began.
    """
    found = same_data(folder, checked)
    if found != _known(folder):
        write_text(folder / SUITE_DATA_NAME, json.dumps(found, indent=2) + "\n")


def same_data(
    folder: Path, checked: Mapping[tuple[str, ...], CheckedRecipe], *, where: Path | None = None
) -> dict[str, str]:
    """See that the data are those with which the suite began, and write nothing.

    A data set that the suite names newly is another one, and its runs are run anew anyway.

    Args:
        folder: Of the suite.
        checked: By the point of the axes.
        where: What the user calls the folder, where this is a copy of it.

    Returns:
        What is known of the data now.

    Raises:
        UserError: What the suite names holds other rows than when it began.
    """
    found = _known(folder)
    for point, each in checked.items():
        now = each.data.summary.fingerprint
        if found.setdefault(_key(each.recipe), now) != now:
            raise UserError(
                "the data have changed since the suite was begun" + (f", at {', '.join(point)}" if point else ""),
                where=str(where or folder),
                hint="Bring them back as they were, or choose another --output-dir: methods that learned other rows "
                "cannot be compared, and tuning has chosen by the rows of then.",
            )
    return found


def _known(folder: Path) -> dict[str, str]:
    path = folder / SUITE_DATA_NAME
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return known


def _key(recipe: Recipe) -> str:
    """What names the data: also the seed, where it cuts the splits."""
    values = recipe.model_dump(mode="json", include={"task", "data", "continues"})
    distillation = recipe.training.distillation
    values["distillation"] = None if distillation is None else distillation.model_dump(mode="json")
    if recipe.data is not None:
        values["data"]["draw_seed"] = None
        values["seed"] = recipe.seed if recipe.data.split_seed is None else None
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
