"""A registry is used as a mapping is."""

from __future__ import annotations

from typing import Any

import pytest

from peftlab import METHODS, TASKS, PeftlabError
from peftlab.core.application import APPLICATIONS
from peftlab.core.augmentation import AUGMENTATIONS
from peftlab.core.errors import ConfigError
from peftlab.core.optimizer import OPTIMIZERS
from peftlab.core.registry import Registry
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.schedule import SCHEDULES
from peftlab.core.selection import STRATEGIES
from peftlab.methods.lora import Lora


def test_methods_and_tasks_are_looked_up_as_in_a_mapping() -> None:
    assert METHODS["lora"] is Lora
    assert "lora" in METHODS
    assert "lroa" not in METHODS
    assert ["lora"] not in METHODS
    assert list(METHODS) == sorted(METHODS)
    assert len(METHODS) == len(list(METHODS)) == len(dict(METHODS.items()))
    assert {"lora", "full", "adalora"} <= set(METHODS)
    assert TASKS["text_classification"].registered_name == "text_classification"


def test_a_name_that_is_not_there_is_a_key_error_that_helps() -> None:
    with pytest.raises(KeyError) as caught:
        METHODS["lroa"]
    assert isinstance(caught.value, PeftlabError)
    assert "lora" in f"{caught.value}"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"rnk": 3}, "lora: rnk: unknown key\n  Did you mean `rank`?"),
        ({"rank": "3", "rnk": 3}, "lora: rank: should be a valid integer, not '3'\n  lora: rnk: unknown key"),
        ({"type": "full"}, "lora: type `full` is not `lora`"),
    ],
)
def test_wrong_settings_in_python_are_told_as_in_a_recipe(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        METHODS["lora"](**keys)
    assert str(caught.value).startswith(told)
    assert isinstance(caught.value, ValueError)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "registry", [METHODS, TASKS, APPLICATIONS, AUGMENTATIONS, OPTIMIZERS, REGULARIZERS, SCHEDULES, STRATEGIES]
)
def test_all_registries_tell_a_key_that_is_none(registry: Registry[Any]) -> None:
    for name, cls in registry.items():
        with pytest.raises(ConfigError, match=f"{name}: no_such_key: unknown key"):
            cls(no_such_key=1)
