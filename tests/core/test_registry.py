"""A registry is used as a mapping is."""

from __future__ import annotations

import pytest

from peftlab import METHODS, TASKS, PeftlabError
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
