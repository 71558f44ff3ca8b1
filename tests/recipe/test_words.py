"""A key of another tool, or of another section, is told where it belongs."""

from __future__ import annotations

from typing import Any

import pytest

from peftlab.core.config import Document, parse_yaml_value
from peftlab.core.errors import ConfigError
from peftlab.core.method import METHODS
from peftlab.core.task import TASKS
from peftlab.recipe.schema import Recipe, build_recipe, override
from peftlab.recipe.words import HERE, IN_SECTION

VALUES: dict[str, Any] = {
    "model": {"path": "somewhere"},
    "task": {"type": "text_classification", "text": "text", "label": "label"},
    "data": {"source": "rows.csv"},
    "method": {"type": "lora"},
    "training": {"batch_size": 8},
}
SECTIONS = ("model", "data", "training", "evaluation")


def with_words(**settings: Any) -> Document:
    document = Document("recipe.yaml", VALUES)
    return override(document, [f"{key.replace('__', '.')}={value}" for key, value in settings.items()])


@pytest.mark.parametrize(
    ("key", "belongs"),
    [
        ("training__lr", "training.learning_rate"),
        ("training__eval_steps", "evaluation.every"),  # and not `max_steps`, which looks more like it
        ("method__lora_r", "method.rank"),
        ("training__rank", "method.rank"),
        ("learning_rate", "training.learning_rate"),
        ("data__text", "task.text"),
        ("data__test", "data.source: {test: …}"),
        ("training__seed", "seed"),
        ("model__name", "model.path"),
        ("model__load_in_4bit", "model.quantization: nf4"),
    ],
)
def test_where_a_key_belongs(key: str, belongs: str) -> None:
    with pytest.raises(ConfigError) as told:
        build_recipe(with_words(**{key: 1}), default_name="a")
    assert f"{key.replace('__', '.')}: unknown key\n  In a recipe this is `{belongs}`." in str(told.value)


def test_a_slip_is_a_slip() -> None:
    with pytest.raises(ConfigError, match="Did you mean `batch_size`"):
        build_recipe(with_words(training__batch_szie=1), default_name="a")


def test_a_name_in_a_section_s_place_is_written_into_it() -> None:
    with pytest.raises(ConfigError, match=r"Write `method: \{type: lora\}`"):
        build_recipe(with_words(method="lora"), default_name="a")


@pytest.mark.parametrize("target", sorted({*HERE.values(), *IN_SECTION.values()}))
def test_what_is_told_is_right(target: str) -> None:
    key, _, value = target.partition(": ")
    section, _, name = key.partition(".")
    if section in ("method", "task"):
        kinds = METHODS.items() if section == "method" else TASKS.items()
        assert name == "type" or any(name in kind.model_fields for _, kind in kinds)
    elif name:
        recipe = build_recipe(with_words(), default_name="a")
        assert section in SECTIONS
        assert name in type(getattr(recipe, section)).model_fields
    else:
        assert section in Recipe.model_fields
    if value and "…" not in value and section != "method":
        assert parse_yaml_value(value) is not None
        build_recipe(with_words(**{key: value}), default_name="a")


def test_mistakes_of_all_sections_are_told_together() -> None:
    with pytest.raises(ConfigError) as told:
        build_recipe(
            with_words(task__labl="x", method__r=8, model__dtype="x", training__lr=1, evaluation__metrics="f1"),
            default_name="a",
        )
    for key in ("task.labl", "method.r", "model.dtype", "training.lr", "evaluation.metrics"):
        assert f"--set: {key}: " in str(told.value), key
    with pytest.raises(ConfigError) as told:
        build_recipe(with_words(training__optimizer="{type: adamv}", model__dtpye="x"), default_name="a")
    assert "training.optimizer.type" in str(told.value)
    assert "model.dtpye" in str(told.value)
