"""Recipes: overrides, what is left open, and that every recipe in the repository loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from peftlab.core.config import parse_yaml
from peftlab.core.errors import ConfigError
from peftlab.core.method import METHODS
from peftlab.recipe.json_schema import recipe_schema
from peftlab.recipe.schema import build_recipe, load_recipe, override, resolve_recipe, write_recipe
from tests.small_methods import PEFT_ADAPTERS

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted(path for path in REPOSITORY.glob("recipes/**/*.yaml") if "\ntask:" in path.read_text())
"""Those of applications are in tests/assembly."""
SCHEMA = REPOSITORY / "peftlab" / "schemas" / "recipe.schema.json"

SMALL = """\
name: small
model: {path: ./model}
task: {type: text_classification}
data: {source: rows.csv}
method:
  type: lora
  rank: 4
"""


def small(*assignments: str):
    return build_recipe(override(parse_yaml(SMALL, source="small.yaml"), assignments), default_name="x")


def test_there_are_recipes_for_every_method_that_is_more_than_a_config_of_peft() -> None:
    methods = {load_recipe(path)[0].method.registered_name for path in RECIPES}
    assert methods >= set(METHODS) - set(PEFT_ADAPTERS)


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    """Of the shipped schema; to check the schema itself takes longer than a recipe, and is done once."""
    schema = json.loads(SCHEMA.read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_fits_the_schema(path: Path, validator: jsonschema.protocols.Validator) -> None:
    recipe, document = load_recipe(path)
    assert resolve_recipe(recipe).training.learning_rate is not None
    validator.validate(document.values)
    first = path.read_text().splitlines()[0]
    named = first.removeprefix("# yaml-language-server: $schema=")
    assert (path.parent / named).resolve() == SCHEMA


def test_the_shipped_schema_is_the_current_one() -> None:
    assert json.loads(SCHEMA.read_text()) == recipe_schema()


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    schema = recipe_schema()
    values = parse_yaml(SMALL, source="x").values
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, "method": {"type": "lora", "rnak": 4}}, schema)


def test_the_schema_knows_the_keys_of_each_reward() -> None:
    schema, values = recipe_schema(), parse_yaml(SMALL, source="x").values

    def validate(**reward: Any) -> None:
        jsonschema.validate({**values, "task": {"type": "reinforcement", "rewards": [reward]}}, schema)

    validate(type="regular_expression", pattern="a+", weight=0.5)
    for wrong in ({"type": "regular_expression", "patern": "a+"}, {"type": "exact_match", "pattern": "a"}, {}):
        with pytest.raises(jsonschema.ValidationError):
            validate(**wrong)


def test_overrides_reach_every_depth() -> None:
    recipe = small("training.epochs=7", "method.target_modules=[query, value]", "seed=3")
    assert recipe.training.epochs == 7
    assert recipe.method.target_modules == ["query", "value"]
    assert recipe.seed == 3


def test_another_type_starts_the_section_anew_whatever_the_order() -> None:
    for assignments in (["method.type=full"], ["method.type=prefix_tuning", "method.num_virtual_tokens=5"]):
        assert small(*assignments).method.registered_name == assignments[0].partition("=")[2]
        assert small(*reversed(assignments)).method == small(*assignments).method
    assert small("method.type=lora").method.rank == 4


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "not of the form KEY=VALUE"),
        ("=3", "not of the form"),
        ("name.first=x", "plain value"),
        ("method.rnak=3", "--set: method.rnak: unknown key\n  Did you mean `rank`?"),
        ("training.epochs=many", "--set: training.epochs: should be a valid integer"),
        ("method.type=lorra", "unknown method `lorra`\n  Did you mean `lora`?"),
        ("task.type=nothing", "unknown task `nothing`"),
        ("method=lora", "--set: method: a mapping is needed"),
        ("waive_guards=[gradient]", "Did you mean `gradients`?"),
        ("seed=[1", "not YAML"),
    ],
)
def test_wrong_overrides_are_told_as_such(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small(assignment)
    assert message in str(caught.value)


def test_open_values_are_filled_in() -> None:
    recipe = resolve_recipe(small())
    assert recipe.training.epochs == 3
    assert recipe.training.batch_size == 32
    assert recipe.training.learning_rate == METHODS.get("lora").default_learning_rate
    assert recipe.evaluation.metric == "accuracy"
    assert resolve_recipe(small("training.max_steps=5")).training.epochs is None
    assert resolve_recipe(recipe) == recipe


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean `accuracy`"):
        resolve_recipe(small("evaluation.metric=acuracy"))


def test_a_written_recipe_is_read_back(tmp_path: Path) -> None:
    recipe = resolve_recipe(small("task.label=[a, b]", "training.learning_rate=5e-4"))
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml")[0] == recipe


@pytest.mark.parametrize("key", ["seed", "data.split_seed", "data.draw_seed"])
def test_seeds_are_those_that_generators_take(key: str) -> None:
    assert small(f"{key}={2**32 - 1}", "data.max_train_examples=4")
    for wrong in (-1, 2**32):
        with pytest.raises(ConfigError, match=rf"{key}: should be (greater|less) than or equal to"):
            small(f"{key}={wrong}", "data.max_train_examples=4")
