"""Several runs' weights as one (model soups, Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.changed_settings import as_written
from peftlab.core.errors import UnsupportedError
from peftlab.core.files import atomic_folder

ADAPTER_CONFIG = "adapter_config.json"
CARD_NAME = "README.md"


def check_soup(runs: Sequence[SavedRun]) -> None:
    """Refuse runs whose weights do not lie in one space.

    Raises:
        UnsupportedError: They have different bases or methods, or the models started from nothing.
    """
    first = runs[0].recipe
    if first.model.from_config is not None:
        raise UnsupportedError(
            "the run's model started from nothing, so the weights of two such runs have nothing in common",
            where=str(runs[0].folder),
            hint="Leave --soup out: then answers are averaged.",
        )
    for run in runs[1:]:
        for key, one, other in (
            ("model", first.model, run.recipe.model),
            ("method", first.method, run.recipe.method),
        ):
            if one != other:
                raise UnsupportedError(
                    f"its `{key}` is not that of {runs[0].folder}, so their weights have no mean: "
                    f"{_difference(one.model_dump(mode='json'), other.model_dump(mode='json'))}",
                    where=str(run.folder),
                    hint="Leave --soup out: then answers are averaged.",
                )
        bases = {runs[0].record.base_fingerprint, run.record.base_fingerprint} - {None}
        if len(bases) > 1:
            raise UnsupportedError(
                f"its base had other weights than that of {runs[0].folder}, though both name {first.model.path}",
                where=str(run.folder),
                hint="Leave --soup out: then answers are averaged.",
            )


def write_soup(runs: Sequence[SavedRun], folder: Path) -> Path:
    """Write the mean of the runs' weights as the ``adapter/`` or ``model/`` of a folder.

    Args:
        runs: Of one base and one method; the tokenizer and all else are the first's.
        folder: Where it is made, whole or not at all.

    Raises:
        UnsupportedError: The method's weights have no mean.
    """
    first = runs[0]
    target = folder / first.artifact.name
    with atomic_folder(target) as partial:
        shutil.copytree(first.artifact, partial, dirs_exist_ok=True)
        (partial / CARD_NAME).unlink(missing_ok=True)
        config_file = partial / ADAPTER_CONFIG
        config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8")) if config_file.is_file() else {}
        for file in sorted(partial.glob("*.safetensors")):
            tensors, changes = first.recipe.method.soup([load_file(run.artifact / file.name) for run in runs], config)
            save_file(tensors, file, metadata={"format": "pt"})
            if changes:
                config_file.write_text(json.dumps(config | changes, indent=2) + "\n", encoding="utf-8")
    return target


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    # Keys of another method say nothing more.
    found = ["type"] if one.get("type") != other.get("type") else [k for k in one | other if one.get(k) != other.get(k)]
    return "; ".join(f"{key} is {as_written(other.get(key))}, not {as_written(one.get(key))}" for key in found[:3])
