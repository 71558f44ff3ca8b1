"""A suite, an application or a recipe in the place of another is named, with the verb that takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftlab.assembly.app_file import load_application
from peftlab.bench.suite import load_suite
from peftlab.core.errors import ConfigError
from peftlab.recipe.schema import load_recipe

FILES = {
    "recipe": "model: {path: a}\ntask: {type: text_classification}\ndata: {source: a.csv}\nmethod: {type: lora}\n",
    "suite": "recipe: a.yaml\nmethods: [{type: lora}]\nseeds: [0]\ntuning: null\n",
    "application": "type: support\ndialogues: a.csv\nfaq: faq\nembedding: {recipe: a}\n",
}
VERBS = {"recipe": "run", "suite": "bench", "application": "app build"}
LOADERS: dict[str, Callable[[Path], Any]] = {
    "recipe": load_recipe, "suite": load_suite, "application": load_application
}  # fmt: skip


@pytest.mark.parametrize("given", FILES)
@pytest.mark.parametrize("wanted", LOADERS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, wanted: str, given: str) -> None:
    path = tmp_path / f"{given}.yaml"
    path.write_text(FILES[given])
    if wanted == given:
        LOADERS[wanted](path)
        return
    with pytest.raises(
        ConfigError, match=rf"{given}.yaml: this is an? {given}.*, and an? {wanted}.* is needed"
    ) as caught:
        LOADERS[wanted](path)
    assert f"`peftlab {VERBS[given]} {path}`" in str(caught.value)


def test_a_misspelt_recipe_is_still_told_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(FILES["recipe"] + "methods: {type: lora}\n")
    with pytest.raises(ConfigError, match=r"recipe.yaml:5: methods: unknown key\n  Did you mean `method`"):
        load_recipe(path)
