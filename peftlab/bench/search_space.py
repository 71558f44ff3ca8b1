"""The settings that a search may try: a range or a list of choices for each key of a recipe.

A file says it in YAML, by the recipe's dotted keys::

    training.learning_rate: {low: 1e-5, high: 1e-2, log: true}
    method.rank: [4, 8, 16]
    training.epochs: {low: 1, high: 4}
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from peftlab.bench.cells import LEARNING_RATE, Cell
from peftlab.core.config import Config, Document, build_config, read_yaml
from peftlab.core.errors import ConfigError
from peftlab.core.method import METHODS
from peftlab.core.task import Task
from peftlab.recipe.schema import Recipe

AROUND = 10.0
"""Without a file, learning rates go from a tenth of the recipe's own to ten times as much."""
JUDGES = ("name", "seed", "task", "data", "evaluation", "measure", "tracking", "waive_guards")
"""Sections that say how trials are judged, and on which rows: these are the same for all."""
FREE = ("task", "task.max_length", "data.augmentation")
"""Keys of these sections that change only what the model reads of a text, or the training rows. Whole tasks can be
compared where they answer the same question."""
MOST_COMBINATIONS = 64


class Range(Config):
    """Numbers between two ends; whole numbers where both ends are whole."""

    low: int | float = Field(description="The smallest value.")
    high: int | float = Field(description="The largest value.")
    log: bool = Field(False, description="Whether 1 to 10 is tried as often as 10 to 100.")

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"the smaller end comes first, as in {{low: 1, high: 4}}, not {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True)
class SearchSpace:
    """What a search may try.

    Args:
        parameters: By the recipe's dotted keys: a range, or a list of choices.
    """

    parameters: Mapping[str, Range | list[Any]]

    def distributions(self) -> dict[str, Any]:
        """The same for Optuna, by the recipe's keys."""
        import optuna.distributions as optuna

        found: dict[str, Any] = {}
        for key, values in self.parameters.items():
            if isinstance(values, list):
                found[key] = optuna.CategoricalDistribution([_as_choice(value) for value in values])
            elif values.is_whole:
                found[key] = optuna.IntDistribution(int(values.low), int(values.high), log=values.log)
            else:
                found[key] = optuna.FloatDistribution(values.low, values.high, log=values.log)
        return found

    def settings(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna has drawn, as the recipe's values. Numbers have four digits: what is reported is what ran."""
        found: dict[str, Any] = {}
        for key, drawn in parameters.items():
            values = self.parameters[key]
            if isinstance(values, list):
                found[key] = next(value for value in values if _as_choice(value) == drawn)
            else:
                found[key] = float(f"{drawn:.4g}") if isinstance(drawn, float) else drawn
        return found

    def parameters_of(self, recipe: Recipe) -> dict[str, Any]:
        """A recipe's own settings as Optuna would draw them; those outside the space are left out."""
        found: dict[str, Any] = {}
        for key, values in self.parameters.items():
            value: Any = recipe.model_dump(mode="json")
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value in values:
                found[key] = _as_choice(value)
        return found

    def every(self) -> list[dict[str, Any]] | None:
        """All combinations as Optuna would draw them, where there are but a few; None: there are more."""
        choices = [values for values in self.parameters.values() if isinstance(values, list)]
        if len(choices) < len(self.parameters) or math.prod(map(len, choices)) > MOST_COMBINATIONS:
            return None
        drawn = itertools.product(*([_as_choice(value) for value in values] for values in choices))
        return [dict(zip(self.parameters, values, strict=True)) for values in drawn]

    def as_json(self) -> dict[str, Any]:
        """For the search's folder."""
        return {
            key: values if isinstance(values, list) else values.model_dump() for key, values in self.parameters.items()
        }


def _as_choice(value: Any) -> Any:
    """Optuna's choices are plain values; lists and mappings go by their JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def method_space(method: str, learning_rates: tuple[float, float]) -> SearchSpace:
    """A method's own search space, and a range of learning rates."""
    choices = {key: list(values) for key, values in METHODS.get(method).search_space.items()}
    low, high = learning_rates
    return SearchSpace({LEARNING_RATE: Range(low=low, high=high, log=True), **choices})


def default_space(recipe: Recipe) -> SearchSpace:
    """The method's own search space, and learning rates around the recipe's own.

    Args:
        recipe: Settled: it has a learning rate.
    """
    rate = recipe.training.learning_rate
    assert rate is not None  # noqa: S101 - a settled recipe has one
    return method_space(recipe.method.registered_name, (rate / AROUND, rate * AROUND))


def load_space(path: Path | str, cell: Cell) -> SearchSpace:
    """Read a search space, and try every end and every choice in the recipe.

    Args:
        path: A YAML file.
        cell: Makes recipes of settings.

    Raises:
        ConfigError: With file, line and key: a key that the recipe does not have, a value that it does not take, or a
            key that would change what trials are judged by.
    """
    document = read_yaml(path)
    if not document.values:
        raise ConfigError("there is nothing to try in it", where=str(path))
    parameters = {key: _read_values(key, document) for key in document.values}
    for key, values in parameters.items():
        place = f"{document.source}:{document.lines.get((key,), 1)}"
        for value in values if isinstance(values, list) else (values.low, values.high):
            recipe = cell.recipe({key: value}, seed=0, places={key: place})
            if key == "task":
                _check_question(recipe.task, cell.recipe({}, seed=0).task, place)
    return SearchSpace(parameters)


def _check_question(task: Task, own: Task, place: str) -> None:
    """Refuse a task whose scores say nothing of the recipe's question."""
    for what, found, wanted in (
        ("text columns", task.text_columns(), own.text_columns()),
        ("label columns", task.label_columns(), own.label_columns()),
        ("probabilities of classes", task.has_class_probabilities, own.has_class_probabilities),
    ):
        if found != wanted:
            raise ConfigError(
                f"trials could not be compared: {task.registered_name} has other {what} than the recipe's task",
                where=f"{place}: task",
                hint="Tasks to choose from answer the same question.",
            )


def _read_values(key: str, document: Document) -> Range | list[Any]:
    values = document.values[key]
    if key.split(".")[0] in JUDGES and key not in FREE:
        raise document.error(
            (key,), "trials could not be compared if this changed between them", "Set it in the recipe, or by --set."
        )
    if isinstance(values, list):
        if len(values) < 2 or any(value in values[:at] for at, value in enumerate(values)):
            raise document.error((key,), "at least two different choices are needed", "As in [4, 8, 16].")
        return values
    if not isinstance(values, dict) or not {"low", "high"} & set(values):
        hint = "Write a list of choices, or {low: …, high: …}; keys have dots: training.learning_rate."
        raise document.error((key,), "neither choices nor a range", hint)
    return build_config(Range, values, document=document, path=(key,))
