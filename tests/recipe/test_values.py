"""Recipes that a program makes: the same defaults, checks and messages as from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peftlab
from peftlab import METHODS, Recipe
from peftlab.core.config import parse_yaml
from peftlab.core.errors import ConfigError
from peftlab.models.model_config import ModelConfig
from peftlab.recipe.schema import build_recipe, load_recipe

ROWS = [{"text": f"text {number}", "label": "good" if number % 2 else "bad"} for number in range(6)]
VALUES: dict[str, Any] = {
    "model": {"path": "some/model"},
    "task": {"type": "text_classification", "max_length": 32},
    "data": {"source": "reviews.csv"},
    "method": {"type": "lora", "rank": 4},
}


def test_a_dict_and_keywords_are_the_same_recipe_as_yaml(tmp_path: Path) -> None:
    made = Recipe.from_dict({**VALUES, "name": "mine", "seed": 3})
    assert made == Recipe(**VALUES, name="mine", seed=3)
    (tmp_path / "mine.yaml").write_text(made.to_yaml())
    loaded, _ = load_recipe(tmp_path / "mine.yaml")
    assert loaded == made
    assert made.method == METHODS["lora"](rank=4)
    assert made.training == loaded.training


def test_sections_may_be_objects() -> None:
    made = Recipe(**{**VALUES, "model": ModelConfig(path="some/model"), "method": METHODS["lora"](rank=4)})
    assert made == Recipe(**VALUES)
    assert made.name == "text_classification-lora"


def test_what_python_writes_otherwise_is_taken() -> None:
    values = {**VALUES, "model": {"path": Path("some") / "model"}, "seed": np.int64(3)}
    values["method"] = {"type": "lora", "target_modules": ("query", "value")}
    made = Recipe.from_dict(values)
    assert (made.model.path, made.seed) == ("some/model", 3)
    assert made.to_yaml().count("- query") == 1


def test_a_copy_and_a_change_are_checked_as_ever() -> None:
    made = Recipe(**VALUES)
    assert peftlab.core.config.replace_config(made, seed=5).seed == 5
    with pytest.raises(ValueError, match="frozen"):
        made.seed = 5  # type: ignore[misc]


def test_rows_are_written_down_by_their_number_and_fingerprint() -> None:
    made = Recipe(**{**VALUES, "data": {"source": {"train": ROWS, "test": f"{'folder/' * 20}test.csv"}}})
    document = parse_yaml(made.to_yaml(), source="recipe.yaml")
    assert document.values["data"]["source"]["train"].startswith("python:rows=6#sha256=")
    assert f"test: {'folder/' * 20}test.csv\n" in made.to_yaml()
    assert build_recipe(document, default_name="x").to_yaml() == made.to_yaml()


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"method": {"type": "lora", "rnak": 3}}, "method.rnak", "Did you mean `rank`"),
        ({"method": {"type": "lroa"}}, "method.type", "lora"),
        ({"method": "lora"}, "method", r"Write `method: \{type: lora\}`"),
        ({"method": METHODS["lora"]}, "method", "a mapping is needed"),
        ({"method": {"type": "lora", "rank": "4"}}, "method.rank", "should be a valid integer, not '4'"),
        ({"model": "bert"}, "model", "a mapping of keys to values is needed, not 'bert'"),
        ({"model": {"path": 3}}, "model.path", "should be a valid string, not 3"),
        ({"model": {}}, "model", "`path` is required"),
        ({"training": {"learning_rate": "5e-4"}}, "training.learning_rate", "should be a valid number"),
        ({"training": {"epochs": True}}, "training.epochs", "should be a valid integer, not True"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"nmae": "x"}, "nmae", "Did you mean `name`"),
        ({"data": None}, "data", "this key is required"),
        ({"data": ROWS}, "data", "a mapping of keys to values is needed"),
        ({"data": {"source": 3}}, "data.source", "an address or rows are needed, not 3"),
        ({"data": {"source": {"trian": ROWS}}}, "data.source.train", "Did you mean `train`"),
        ({"data": {"source": {"train": 3}}}, "data.source.train", "an address or rows are needed, not 3"),
        ({"data": {"source": ""}}, "data.source", "an address is needed"),
        ({"data": {"source": ROWS, "test_fraction": 2}}, "data.test_fraction", "less than 1"),
        ({"training": {3: 4}}, "training", "a key must be a plain word, not 3"),
        ({"training": {"schedule": "\ud83d"}}, "training.schedule", "half a surrogate pair"),
    ],
)
def test_every_mistake_names_its_key(change: dict[str, Any], where: str, message: str) -> None:
    for make in (Recipe.from_dict, lambda values: Recipe(**values)):
        with pytest.raises(ConfigError, match=message) as caught:
            make({**VALUES, **change})
        assert caught.value.where == f"recipe: {where}"


@pytest.mark.parametrize("values", ["recipe.yaml", [VALUES], None, Path("recipe.yaml")])
def test_what_is_no_mapping_is_no_recipe(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"a mapping of keys to values is needed.*\n.*load_recipe"):
        Recipe.from_dict(values)


def test_the_name_is_the_place_of_messages() -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe(**{**VALUES, "name": "mine", "seed": "x"})
    assert caught.value.where == "mine: seed"
