"""A suite: which methods are compared, on what, with how many seeds and how much tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from peftlab.bench.method_entry import check_entry
from peftlab.core.config import Config, Document, KeyPath, WrongKeyError, build_config
from peftlab.core.definitions import define
from peftlab.core.folder_name import FolderName
from peftlab.core.method import METHODS
from peftlab.core.seed import Seed
from peftlab.recipe.kinds import SUITE, read_kind
from peftlab.recipe.schema import write_yaml

NAME = r"^[\w][\w.]*(-[\w.]+)*$"
"""Names of cells and axes: no double hyphen, which separates them in the names of folders."""
ENTRY_KEYS = ("name", "set", "then", "router", "select")
"""Keys of an entry under ``methods`` that are the suite's; all others are the method's."""


class Tuning(Config):
    """The budget that every method gets for finding its settings."""

    trials: PositiveInt = Field(le=10_000, description="How many settings are tried for each method.")
    learning_rate: list[PositiveFloat] = Field(
        min_length=2, max_length=2, description="The smallest and the largest learning rate that is tried."
    )

    @field_validator("learning_rate")
    @classmethod
    def _is_a_range(cls, value: list[float]) -> list[float]:
        if value[0] >= value[1]:
            raise ValueError(f"the smallest rate comes first, as in [1e-5, 1e-2], not {value}")
        return value


class Published(Config):
    """A figure of a paper, shown beside the measured one."""

    score: float = Field(description="The score in the metric's own unit: 0.935, not 93.5.")
    metric: str = Field(description="The metric, such as accuracy.")
    source: str = Field(description="Paper and table.")


class Suite(Config):
    """Methods crossed with axes and seeds."""

    name: FolderName = Field(json_schema_extra={"pattern": NAME}, description="Name of the suite's folder.")
    recipe: str = Field(
        min_length=1, description="The recipe that all cells share. The path starts at the suite's file."
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="Overrides for every cell, such as training.epochs: 3."
    )
    methods: list[dict[str, Any]] = Field(
        min_length=1,
        description="The methods to compare, each written as in a recipe. More keys: `name` of the cell (default: the "
        "type), and `set`, overrides for this method alone. With a `sequence` also `then`, overrides for every task "
        "after the first, in which `$earlier` stands for the run before; and `router`, whether a router chooses among "
        "the runs of all tasks. With `labels` also `select`, the strategy that chooses the rows to label next.",
    )
    axes: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict, description="Axis → name of a value → overrides. Every method runs with every value."
    )
    sequence: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Tasks in a row: name → overrides, such as data.source. Every method learns one after the other; "
        "each run goes on from the one before.",
    )
    labels: list[PositiveInt] = Field(
        default_factory=list,
        description="Numbers of labelled training rows, such as [50, 100, 200], for a label curve. Every method begins "
        "with as many rows drawn by the seed; its strategy chooses the next ones among the other training rows.",
    )
    seeds: list[Seed] = Field(min_length=1, description="Each cell runs once with each seed.")
    resample_train: bool = Field(
        False,
        description="Each seed draws training rows of its own, where data.max_train_examples or "
        "data.max_train_examples_per_class draws some. Validation and test rows are the same for all.",
    )
    tuning: Tuning | None = Field(
        description="The budget for tuning. null: no tuning; learning rates are the suite's, or each method's default."
    )
    audit: bool = Field(
        False, description="Audit every cell when all have run, and compare the methods by what the audits found."
    )
    published: dict[str, Published] = Field(
        default_factory=dict, description="Name of a cell → the score that a paper reports."
    )

    @field_validator("name")
    @classmethod
    def _name_fits(cls, value: str) -> str:
        _check_names([value])
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError(f"every seed counts once, not {value}")
        return value

    @field_validator("axes")
    @classmethod
    def _axes_have_values(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for axis, choices in value.items():
            if not choices:
                raise ValueError(f"the axis `{axis}` has no value")
            _check_names(choices)
        return value

    @field_validator("sequence")
    @classmethod
    def _tasks_can_follow(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(value) == 1:
            raise ValueError(f"a sequence has two tasks at least, and this one `{next(iter(value))}` alone")
        _check_names(value)
        return value

    @field_validator("labels")
    @classmethod
    def _labels_grow(cls, value: list[int]) -> list[int]:
        if len(value) == 1 or sorted(set(value)) != value:
            raise ValueError(f"two growing numbers are needed at least, as in [50, 100, 200], not {value}")
        return value

    @property
    def _overridden(self) -> dict[str, KeyPath]:
        """Keys that the suite overrides anywhere but under ``then``, each with the first place where it does."""
        parts: dict[KeyPath, Mapping[str, Any]] = {("set",): self.set}
        parts |= {("methods", at, "set"): entry.get("set", {}) for at, entry in enumerate(self.methods)}
        parts |= {("sequence", name): task for name, task in self.sequence.items()}
        parts |= {("axes", axis, name): self.axes[axis][name] for axis in self.axes for name in self.axes[axis]}
        found: dict[str, KeyPath] = {}
        for place, part in parts.items():
            for key, path in _keys_within(part, place):
                found.setdefault(key, path)
        return found

    @model_validator(mode="after")
    def _sequence_fits(self) -> Suite:
        if not self.sequence:
            return self
        if self.tuning is not None:
            raise ValueError("a suite with a `sequence` is not tuned: write `tuning: null`, and set learning rates")
        for key, path in self._overridden.items():
            if key.split(".")[0] == "continues":
                raise WrongKeyError(path, "how a run goes on from the one before belongs into `then` of a method")
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> Suite:
        if not self.labels:
            return self
        if self.sequence:
            raise ValueError("a suite has `labels` or a `sequence`, not both")
        if self.tuning is not None:
            raise ValueError("a suite with `labels` is not tuned: write `tuning: null`, and set learning rates")
        limits = ("data.max_train_examples", "data.max_train_examples_per_class")
        for key in ("data.train_rows", *limits, "data.draw_seed"):
            if key in self._overridden:
                raise WrongKeyError(
                    self._overridden[key],
                    f"`{key}` cannot be set here: `labels` says how many rows there are, and each seed draws its own",
                    "Leave it out.",
                )
        return self

    @model_validator(mode="after")
    def _draws_fit(self) -> Suite:
        if not self.resample_train:
            return self
        if self.labels:
            raise WrongKeyError(("resample_train",), "with `labels` each seed draws its rows anyway", "Leave it out.")
        if "data.draw_seed" in self._overridden:
            raise WrongKeyError(
                self._overridden["data.draw_seed"],
                "`data.draw_seed` cannot be set here: `resample_train` makes it each run's seed",
                "Leave one of them out.",
            )
        return self

    @model_validator(mode="after")
    def _cells_differ(self) -> Suite:
        names = [method_name(entry) for entry in self.methods]
        _check_names(names)
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"two methods are both called `{twice[0]}`; give one of them a `name`")
        for key, path in self._overridden.items():
            if key.split(".")[0] in {"method", "seed", "name"}:
                told = f"`{key}` cannot be set here; a suite has `methods`, `seeds` and `name` for it"
                raise WrongKeyError(path, told, "Leave it out.")
            if key == "training.learning_rate" and self.tuning is not None:
                told = "the suite tunes `training.learning_rate`"
                raise WrongKeyError(path, told, "Leave it out, or write `tuning: null`.")
        return self


def _keys_within(values: Mapping[str, Any], place: KeyPath, before: str = "") -> Iterator[tuple[str, KeyPath]]:
    """Dotted keys and their paths; `data: {draw_seed: 1}` sets `data` as a whole, and `data.draw_seed` with it."""
    for key, value in values.items():
        yield f"{before}{key}", (*place, key)
        if isinstance(value, Mapping):
            yield from _keys_within(value, (*place, key), f"{before}{key}.")


def _check_names(names: Any) -> None:
    import re

    for name in names:
        if not re.fullmatch(NAME, str(name)):
            raise ValueError(f"`{name}` cannot name a folder; use letters, digits, `_`, `.` and single hyphens")


def method_name(entry: Mapping[str, Any]) -> str:
    """What an entry under ``methods`` is called."""
    return str(entry.get("name", entry.get("type", "")))


def load_suite(path: Path | str) -> tuple[Suite, Document]:
    """Read a suite.

    Returns:
        The suite, and the document that knows the lines of its keys.

    Raises:
        ConfigError: With file, line and key.
    """
    path = Path(path)
    document = read_kind(path, SUITE)
    methods = document.values.get("methods")
    for position, entry in enumerate(methods if isinstance(methods, list) else []):
        if isinstance(entry, Mapping):
            check_entry(document, entry, ("methods", position))
    suite = build_config(Suite, {"name": path.stem, **document.values}, document=document)
    return suite, document


def write_suite(suite: Suite, path: Path) -> None:
    """Write a suite as YAML."""
    write_yaml(suite, path)


def suite_schema() -> dict[str, Any]:
    """The JSON Schema of a suite, with every registered method."""
    schema = Suite.model_json_schema(mode="validation")
    definitions = schema.setdefault("$defs", {})
    choices = []
    for name, cls in METHODS.items():
        choices.append(define(f"method.{name}", cls, definitions))
        own = definitions[f"method.{name}"]
        own["properties"] |= {"name": {"type": "string"}, "set": {"type": "object"}}
        own["properties"] |= {"then": {"type": "object"}, "router": {"type": "boolean"}}
        own["properties"] |= {"select": {"type": "object"}}
    schema["properties"]["methods"]["items"] = {"oneOf": choices}
    schema["required"] = [name for name in schema["required"] if name != "name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "peftlab suite"}
