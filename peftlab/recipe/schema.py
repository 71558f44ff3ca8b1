"""A recipe: the stages' sections composed; loaded from YAML, overridden, resolved, written."""

from __future__ import annotations

import io
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, ValidationInfo, field_validator
from ruamel.yaml import YAML

from peftlab.core.changed_settings import as_written
from peftlab.core.config import (
    Config,
    Document,
    KeyPath,
    RegisteredConfig,
    build_config,
    parse_yaml_value,
    replace_config,
)
from peftlab.core.errors import ConfigError, did_you_mean
from peftlab.core.files import path_of, write_text
from peftlab.core.folder_name import FolderName
from peftlab.core.hooks import TrainingHooks
from peftlab.core.method import Method
from peftlab.core.metric import METRICS
from peftlab.core.seed import Seed
from peftlab.core.task import Scorer, Task
from peftlab.data.data_config import SOURCE_KEYS, DataConfig
from peftlab.metrics._scorer import ScorerWithMetric
from peftlab.models.model_config import ModelConfig
from peftlab.recipe.continuation import Continuation
from peftlab.recipe.kinds import RECIPE, read_kind
from peftlab.recipe.registered import build_parts
from peftlab.recipe.shipped import find_recipe
from peftlab.recipe.values import document_of, name_of
from peftlab.recipe.words import words_of
from peftlab.training.distillation import LearnsFromTeachers
from peftlab.training.optimizer_choice import optimizer_class
from peftlab.training.training_config import GUARDS, EvaluationConfig, Tracker, TrainingConfig

BELONGS_TO: Mapping[KeyPath, tuple[str, ...]] = {
    ("data", "source"): SOURCE_KEYS,
    ("model", "path"): ("revision", "trust_remote_code"),
}
"""Keys beside an address that hold for this address alone: with another one they are as if not written."""
DEFAULT_EPOCHS = 3
DEFAULT_BATCH_SIZE = 32


class Recipe(Config):
    """What to run: a base model tuned on a task with a method."""

    name: FolderName = Field(description="Name of the run's folder. Without it: the file's name.")
    seed: Seed = Field(0, description="Seed of splits, new weights, the order of batches and dropout.")
    model: ModelConfig = Field(description="The base model.")
    task: SerializeAsAny[Task] = Field(description="What to learn.")
    data: DataConfig | None = Field(
        None, description="The data to learn from. null: only for tasks that make their own, such as turing_machine."
    )
    method: SerializeAsAny[Method] = Field(description="Which parameters to train.")
    continues: Continuation | None = Field(
        None, description="The run to go on from: `{run: runs/a, replay: 0.05}`. null: the run begins with the base."
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="How to train them.")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="How to choose the best state.")
    measure: bool = Field(
        True, description="Measure memory and the machine's speed. false: only the scores matter, as in tuning."
    )
    tracking: list[Tracker] = Field(default_factory=list, description="Where metrics go, besides metrics.jsonl.")
    waive_guards: list[str] = Field(
        default_factory=list, description="Guards that may fail. The failure is noted, and the run goes on."
    )

    @field_validator("waive_guards")
    @classmethod
    def _check_guards(cls, names: list[str], info: ValidationInfo) -> list[str]:
        parts = [info.data[key] for key in ("task", "method") if key in info.data]
        training = info.data.get("training")
        known = _guards_of([*parts, *(training.regularizers if training is not None else ())])
        for name in names:
            if name not in known:
                raise ValueError(f"this run has no guard `{name}`. {did_you_mean(name, known) or ''}".strip())
        return names

    def __init__(self, **sections: Any) -> None:
        """A recipe from its sections: plain values as in YAML, or the sections' own classes.

        Args:
            **sections: The keys of a recipe. ``data.source`` may be rows; see :meth:`from_dict`.

        Raises:
            ConfigError: With the key, and what was expected.
        """
        self.__setstate__(Recipe.from_dict(sections).__getstate__())

    # For pydantic this is no construction of its own: it validates as if there were none.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """A recipe from plain values, as strict as from YAML. Relative paths start in the working directory.

        Args:
            values: What a YAML file would hold. Paths, tuples and numpy's numbers are taken for what they hold, and
                ``data.source`` (or each split of it) may be a list of dicts, a pandas DataFrame, a pyarrow Table, or a
                ``Dataset`` or ``DatasetDict`` of ``datasets``. Without a ``name`` task and method make one.

        Raises:
            ConfigError: With the key, and what was expected.
            DataError: The rows that are given are no table.
        """
        document = document_of(values)
        return build_recipe(document, default_name=name_of(document.values))

    def to_yaml(self) -> str:
        """The recipe as YAML, its keys in their own order."""
        return yaml_text(self.model_dump(mode="json"))

    @property
    def known_guards(self) -> dict[str, str]:
        """The guards that this run can have, and what each checks."""
        return _guards_of([self.task, self.method, *self.training.regularizers])

    def has_dropout(self, config: Mapping[str, Any]) -> bool:
        """Whether training may drop something at random, as far as a config tells: one that names no rate has defaults.

        Args:
            config: Of the base model: what it drops where ``model.dropout`` is null and the base trains.
        """
        if getattr(self.method, "dropout", 0) > 0:
            return True
        if self.model.dropout is not None or not self.method.trains_base:
            return (self.model.dropout or 0) > 0
        named = [value for key, value in config.items() if "drop" in key]
        rates = [value for value in named if isinstance(value, int | float) and not isinstance(value, bool)]
        return not rates or max(rates) > 0

    def training_hooks(self) -> list[TrainingHooks]:
        """The hooks of a run, the method's first. Regularisers are copies, which remember nothing yet."""
        settings = self.training.distillation
        teachers = [] if settings is None else [LearnsFromTeachers(settings=settings)]
        return [self.method, *(each.model_copy(deep=True) for each in self.training.regularizers), *teachers]

    @property
    def train_rows_key(self) -> str:
        """The key that says how many rows there are for training, at most."""
        return "data.max_train_examples" if self.data is not None else f"task.{self.task.train_rows_key}"

    @property
    def train_rows(self) -> int | None:
        """Its value; None: all that there are."""
        section, key = self.train_rows_key.split(".")
        rows: int | None = getattr(getattr(self, section), key)
        return rows

    def has_metric(self, name: str) -> bool:
        """Whether a metric can be asked for: the task computes it, or it is computed from the task's predictions."""
        return name in self.task.metrics or (name in METRICS and self.task.registered_name in METRICS[name].tasks)

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Fresh metrics: those of the task, and the one that the recipe asks for, if that comes from elsewhere."""
        metric, own = self.evaluation.metric, self.task.scorer(labels)
        return own if metric is None or metric in self.task.metrics else ScorerWithMetric(own, METRICS[metric])

    def evaluation_batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Batches for evaluation: positions of examples of like length, the longest first.

        Args:
            lengths: Tokens of each example.
        """
        from peftlab.data.batching import plan_in_order_of_length

        own, training = self.evaluation.batch_size, self.training
        limit = None if own else training.max_tokens_per_batch
        size = own or training.batch_size or (None if limit else DEFAULT_BATCH_SIZE)
        return plan_in_order_of_length(lengths, batch_size=size, max_tokens=limit)


def _guards_of(parts: Sequence[RegisteredConfig]) -> dict[str, str]:
    """The guards of every run, and those that a run's parts name."""
    return {**GUARDS, **{name: text for part in parts for name, text in part.guard_names.items()}}


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> tuple[Recipe, Document]:
    """Read a recipe from a YAML file.

    Args:
        path: The file, or the name of a recipe that comes with peftlab.
        overrides: ``key.path=value`` each, the value in YAML.

    Returns:
        The recipe, and the document that knows the lines of its keys.

    Raises:
        ConfigError: With file, line and key.
    """
    if isinstance(overrides, str | Mapping):
        hint = 'As in load_recipe(path, ["training.epochs=3"]).'
        raise ConfigError(f"a list is needed, not {reprlib.repr(overrides)}", where="overrides", hint=hint)
    path = find_recipe(path_of(path, "the path of a recipe", where="path"))
    document = override(read_kind(path, RECIPE), overrides)
    return build_recipe(document, default_name=path.stem), document


def build_recipe(document: Document, *, default_name: str) -> Recipe:
    """Validate a document as a recipe.

    Raises:
        ConfigError: With file, line and key.
    """
    document = replace(document, words=words_of(document.values, Recipe.model_fields).hint)
    values = dict(document.values)
    values.setdefault("name", default_name)
    build_parts(values, document)
    recipe = build_config(Recipe, values, document=document)
    if recipe.data is None and recipe.task.train_rows_key is None:
        raise document.error(("data",), "this key is required", "Name a source: `data: {source: …}`.")
    return recipe


def override(document: Document, assignments: Sequence[str]) -> Document:
    """Apply ``--set key.path=value`` to a document.

    Setting the ``type`` of a section to another one starts that section anew: the keys of the old type, which the new
    one would not know, are dropped.

    Raises:
        ConfigError: An assignment is not of that form, or its key leads through a plain value.
    """
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        if not equals or not all(dotted.strip().split(".")):
            raise ConfigError(f"`{assignment}` is not of the form KEY=VALUE", where="--set", hint="As in --set seed=1.")
        parsed[dotted.strip()] = parse_yaml_value(text)
    return assign(document, parsed, dict.fromkeys(parsed, "--set"))


def assign(document: Document, values_by_key: Mapping[str, Any], places_by_key: Mapping[str, str]) -> Document:
    """Put values at dotted keys of a document.

    Setting the ``type`` of a section to another one starts that section anew, and setting an address to another one
    takes the keys away that hold for the old one alone, such as its encoding, unless they are set too.

    Args:
        document: Stays as it is.
        values_by_key: ``training.epochs`` → 3.
        places_by_key: Where each key was written, for messages.

    Returns:
        A changed copy.

    Raises:
        ConfigError: A key leads through a plain value.
    """
    values = _copy(document.values)
    places, lines, notes = dict(document.places), dict(document.lines), list(document.notes)
    for dotted, value in sorted(values_by_key.items(), key=lambda item: not item[0].endswith(".type")):
        path = tuple(dotted.split("."))
        target, made = values, []
        for depth, key in enumerate(path[:-1], start=1):
            if key not in target:
                made.append(path[:depth])
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                place = places_by_key[dotted]
                where = f"{place} {dotted}" if place == "--set" else place
                raise ConfigError(f"`{key}` is a plain value, so it has no key `{path[-1]}`", where=where)
        if target.get(path[-1], None if path[-1] == "type" else value) != value:
            lost = _take_what_belongs_to(target, path, values_by_key)
            # Suites and searches change types by design, for many runs at once; a person who does it is told.
            if lost and (path[-1] != "type" or places_by_key[dotted] == "--set"):
                shown = ", ".join(lost)
                notes.append(f"{dotted} is another one now, so what was said of the old one is left out: {shown}")
        target[path[-1]] = value
        places = {key: place for key, place in places.items() if key[: len(path)] != path}
        lines = {key: line for key, line in lines.items() if key[: len(path)] != path}
        places |= dict.fromkeys([*made, path], places_by_key[dotted])  # sections that it makes have its place too
    return replace(document, values=values, places=places, lines=lines, notes=tuple(notes))


def _take_what_belongs_to(section: dict[str, Any], path: tuple[str, ...], given: Mapping[str, Any]) -> list[str]:
    """Take the keys out of a section that hold for the old value of one of its keys.

    Args:
        section: Where they are; a new type begins it anew.
        path: Of the key that gets another value.
        given: What is set at the same time, by dotted keys.

    Returns:
        Those that nothing is put in place of, as a recipe has them.
    """
    starts_anew = path[-1] == "type"
    old = [key for key in section if key != "type"] if starts_anew else BELONGS_TO.get(path, ())
    dotted = {key: ".".join([*path[:-1], key]) for key in old if key in section}
    gone = {name: section.pop(key) for key, name in dotted.items() if name not in given}
    if starts_anew:
        section.clear()
    # The recipe of a run says of every key what it is, also that it is not set.
    return [f"{name}: {as_written(value)}" for name, value in gone.items() if value is not None]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def resolve_recipe(recipe: Recipe) -> Recipe:
    """Put the values in that a recipe leaves open, so that what ran is written down.

    Raises:
        ConfigError: The metric is not one of the task's.
    """
    training = recipe.training
    metric = recipe.evaluation.metric or recipe.task.metrics[0]
    if not recipe.has_metric(metric):
        known = [*recipe.task.metrics, *(name for name in METRICS if recipe.has_metric(name))]
        raise ConfigError(
            f"the task {recipe.task.registered_name} has no metric `{metric}`",
            where="evaluation.metric",
            hint=did_you_mean(metric, known),
        )
    if metric not in METRICS:
        raise ConfigError(
            f"it is unknown whether a higher {metric} is better",
            where="evaluation.metric",
            hint=f"The package of the task {recipe.task.registered_name} must register it: "
            f"@METRICS.register({metric!r}).",
        )
    changes: dict[str, Any] = {}
    if training.epochs is None and training.max_steps is None:
        changes["epochs"] = DEFAULT_EPOCHS
    if training.batch_size is None and training.max_tokens_per_batch is None:
        changes["batch_size"] = DEFAULT_BATCH_SIZE
    if training.learning_rate is None:
        factor = math.prod(each.default_rate_factor for each in training.regularizers)
        rate = optimizer_class(training.optimizer).rate_for(recipe.method.default_learning_rate)
        changes["learning_rate"] = rate * factor
    return replace_config(
        recipe,
        training=replace_config(training, **changes),
        evaluation=replace_config(recipe.evaluation, metric=metric),
    )


def with_learned(recipe: Recipe, learned: Mapping[str, Any]) -> Recipe:
    """The recipe, its task with what it learned of the training split."""
    return replace_config(recipe, task=recipe.task.fitted(learned))


def write_recipe(recipe: Recipe, path: Path | str) -> None:
    """Write a recipe as YAML."""
    write_text(Path(path), recipe.to_yaml())


def write_yaml(config: Config, path: Path) -> None:
    """Write a configuration as YAML, its keys in their own order."""
    write_yaml_values(config.model_dump(mode="json"), path)


def write_yaml_values(values: dict[str, Any], path: Path) -> None:
    """Write plain values as YAML, the keys in their own order."""
    write_text(path, yaml_text(values))


def yaml_text(values: dict[str, Any]) -> str:
    """Plain values as YAML, the keys in their own order."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 1 << 16  # long addresses and texts stay on the line of their key
    yaml.dump(values, stream)
    return stream.getvalue()
