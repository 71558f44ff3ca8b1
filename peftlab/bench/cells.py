"""The cells of a suite: each method with each value of each axis, as a recipe of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peftlab.bench.suite import ENTRY_KEYS, Suite, method_name
from peftlab.core.config import Document, read_yaml, replace_config
from peftlab.core.errors import ConfigError, did_you_mean
from peftlab.core.selection import STRATEGIES, Strategy, check_strategy, labels_name
from peftlab.preparation.places import at_place
from peftlab.preparation.settle_recipe import settle_recipe
from peftlab.recipe.continuation import EARLIER, put_in_place
from peftlab.recipe.registered import build_registered
from peftlab.recipe.schema import Recipe, assign, build_recipe

LEARNING_RATE = "training.learning_rate"
METRIC = "evaluation.metric"


@dataclass(frozen=True, eq=False)
class Cell:
    """One method at one point of the axes: what all its trials and seeds share.

    Args:
        name: ``<method>[--<axis value>…]``.
        method: The method's name in the suite.
        combination: The values of the axes, by the axes' names; of a sequence also the task.
        document: The recipe before settings and seed, which knows where its keys come from. Of a task of a sequence:
            the recipe that learns it alone.
        before: Name of the cell of the task before; None: there is none.
        then: The recipe that goes on from the run before, for which :data:`EARLIER` stands; None: there is none.
        router: Whether a router chooses among the runs of all tasks.
        strategy: Of a label curve: chooses the rows that are labelled next.
        labels: Of a label curve: how many rows have a label.
        resample_train: Whether each seed draws its own training rows.
    """

    name: str
    method: str
    combination: tuple[str, ...]
    document: Document
    before: str | None = None
    then: Document | None = None
    router: bool = False
    strategy: Strategy | None = None
    labels: int = 0
    resample_train: bool = False

    def recipe(self, settings: Mapping[str, Any], *, seed: int, places: Mapping[str, str] | None = None) -> Recipe:
        """The recipe of one run.

        Args:
            settings: What tuning has chosen, by the recipe's keys.
            seed: Of new weights, order of batches and dropout; with ``resample_train`` also of which training rows are
                drawn. The splits stay those of the suite.
            places: Where settings were written, for messages.

        Raises:
            ConfigError: With file, line and key.
        """
        values = {**settings, **self._seeds(seed)}
        document = assign(self.document, values, dict.fromkeys(values, self.document.source) | dict(places or {}))
        return settle_recipe(build_recipe(document, default_name=self.name), document)

    def next_recipe(self, earlier: Recipe, folder: str, *, seed: int) -> Recipe:
        """The recipe of a run that goes on from the run before.

        Args:
            earlier: Of that run.
            folder: Of that run.
            seed: As of :meth:`recipe`.

        Raises:
            ConfigError: With file, line and key.
            UnsupportedError: The method cannot go on from the one before.
        """
        following = self.then or self.document
        following = assign(following, self._seeds(seed), dict.fromkeys(self._seeds(seed), following.source))
        values = put_in_place(following.values, EARLIER, folder)
        recipe = settle_recipe(build_recipe(replace(following, values=values), default_name=self.name), following)
        if recipe.continues is None or not recipe.continues.weights:
            return recipe
        with at_place(following, ("method",)):
            return replace_config(recipe, method=recipe.method.after(earlier.method))

    def recipe_of_rows(self, rows: Sequence[int], *, seed: int) -> Recipe:
        """The recipe that learns from the rows that have a label so far.

        Args:
            rows: Their numbers.
            seed: As of :meth:`recipe`.
        """
        return self.recipe({"data.train_rows": list(rows), **self.all_rows}, seed=seed)

    @property
    def all_rows(self) -> dict[str, Any]:
        """Settings under which no number of rows is drawn; a label curve says how many it has."""
        by_class = (self.document.values.get("data") or {}).get("max_train_examples_per_class") is not None
        return {"data.max_train_examples": None} | ({} if by_class else {"data.draw_seed": None})

    def _seeds(self, seed: int) -> dict[str, Any]:
        return {"seed": seed, "data.draw_seed": seed} if self.resample_train else {"seed": seed}

    @property
    def names_metric(self) -> bool:
        """Whether the suite or its recipe names the metric; else it is the task's default, as far as that fits."""
        evaluation = self.document.values.get("evaluation")
        return isinstance(evaluation, Mapping) and evaluation.get("metric") is not None

    def measured_by(self, metric: str) -> Cell:
        """The same cell with a metric."""
        document = assign(self.document, {METRIC: metric}, {METRIC: self.document.source})
        then = None if self.then is None else assign(self.then, {METRIC: metric}, {METRIC: self.document.source})
        return replace(self, document=document, then=then)


def expand_cells(suite: Suite, document: Document) -> list[Cell]:
    """All cells of a suite, checked as recipes.

    Args:
        suite: From :func:`peftlab.bench.suite.load_suite`.
        document: Of the suite, for the places in messages.

    Raises:
        ConfigError: The base recipe, an override or a method is wrong.
    """
    base = _without_learning_rate(read_yaml((document.folder or Path()) / suite.recipe))
    base = assign(base, suite.set, {key: document.where(("set", key)) for key in suite.set})
    build_recipe(base, default_name=suite.name)
    if suite.sequence and base.values.get("continues") is not None:
        raise ConfigError(
            "the first run of a sequence begins with a base, and this recipe goes on from a run",
            where=base.where(("continues",)),
        )
    cells: list[Cell] = []
    last: dict[tuple[str, ...], tuple[str, Recipe]] = {}
    for names, overrides, places in _combinations(suite, document):
        shared = assign(base, overrides, places)
        for position, entry in enumerate(suite.methods):
            name = "--".join([method_name(entry), *names])
            alone = _cell_document(shared, entry, name, document, position)
            cell = Cell(name, method_name(entry), names, alone, router=entry.get("router", False))
            if suite.resample_train:
                cell = _resampled(cell, suite, document)
            recipe = cell.recipe({}, seed=suite.seeds[0])
            if suite.sequence:
                chain = (method_name(entry), *names[:-1])
                if chain in last:
                    before, earlier = last[chain]
                    then = _next_document(alone, entry, document, position)
                    cell = replace(cell, before=before, then=then)
                    anywhere = str(Path.cwd())  # the run before is not there yet, and nothing opens it here
                    recipe = cell.next_recipe(earlier, anywhere, seed=suite.seeds[0])
                last[chain] = name, recipe
            if suite.labels:
                cell = _labelled(cell, entry, recipe, suite, document.where(("methods", position, "select")))
            cells.append(cell)
    known = [cell.name for cell in cells]
    for name in suite.published:
        if name not in known:
            raise document.error(("published", name), "there is no such cell", did_you_mean(name, known))
    return cells


def _resampled(cell: Cell, suite: Suite, document: Document) -> Cell:
    """A cell whose training rows each seed draws anew.

    Raises:
        ConfigError: Nothing is drawn.
    """
    data = cell.recipe({}, seed=suite.seeds[0]).data
    if data is None or (data.max_train_examples is None and data.max_train_examples_per_class is None):
        raise document.error(
            ("resample_train",),
            f"no training rows of `{cell.name}` are drawn, so seeds cannot draw others",
            "Set data.max_train_examples or data.max_train_examples_per_class, or leave it out.",
        )
    return replace(cell, resample_train=True)


def _labelled(cell: Cell, entry: Mapping[str, Any], recipe: Recipe, suite: Suite, where: str) -> Cell:
    """A cell of a label curve: its rows are those of the cell with fewer labels, and more that this one chooses."""
    strategy = build_registered(STRATEGIES, entry["select"], Document(source=where, values={}), ("select",))
    check_strategy(strategy, recipe.task, where=where)
    names = [labels_name(labels) for labels in suite.labels]
    at = names.index(cell.combination[-1])
    before = cell.name.removesuffix(names[at]) + names[at - 1] if at else None
    return replace(cell, before=before, strategy=strategy, labels=suite.labels[at])


def _next_document(alone: Document, entry: Mapping[str, Any], document: Document, position: int) -> Document:
    """The recipe of a task that goes on from the run on the task before."""
    values = {"continues.run": EARLIER, **entry.get("then", {})}
    places = {key: document.where(("methods", position, "then", key)) for key in values}
    return assign(alone, values, places)


def _combinations(suite: Suite, document: Document) -> Iterator[tuple[tuple[str, ...], dict[str, Any], dict[str, str]]]:
    """Points of the axes; the last one are the tasks of a sequence or the numbers of labels, in their order."""
    axes: dict[tuple[str, ...], Mapping[str, dict[str, Any]]]
    axes = {("axes", axis): choices for axis, choices in suite.axes.items()}
    axes |= {("sequence",): suite.sequence} if suite.sequence else {}
    if suite.labels:
        axes[("labels",)] = {labels_name(count): {"data.max_train_examples": count} for count in suite.labels}
    for names in itertools.product(*axes.values()):
        overrides, places = {}, {}
        for (axis, choices), name in zip(axes.items(), names, strict=True):
            overrides.update(choices[name])
            at = (*axis, name) if axis[0] != "labels" else axis
            places.update({key: document.where((*at, key)) for key in choices[name]})
        yield names, overrides, places


def _without_learning_rate(base: Document) -> Document:
    """The base recipe's rate suits its own method; every other has another."""
    training = base.values.get("training")
    if not isinstance(training, Mapping):
        return base
    kept = {key: value for key, value in training.items() if key != "learning_rate"}
    return replace(base, values={**base.values, "training": kept})


def same_examples(shared: Document) -> dict[str, Any]:
    """Every seed sees the same examples: only then can runs be compared example by example."""
    data = shared.values.get("data")
    if data is None:  # the task makes its own; see its `data_seed`
        return {"task.data_seed": shared.values.get("seed", 0)}
    split_seed = data.get("split_seed")
    return {"data.split_seed": shared.values.get("seed", 0) if split_seed is None else split_seed}


def _cell_document(
    shared: Document, entry: Mapping[str, Any], name: str, document: Document, position: int
) -> Document:
    """The shared recipe with one method in it, and nothing left of the method that the base recipe is of."""
    lines = {path: line for path, line in shared.lines.items() if path[:1] != ("method",)}
    shared = replace(shared, values={**shared.values, "method": {}}, lines=lines)
    method = {f"method.{key}": value for key, value in entry.items() if key not in ENTRY_KEYS}
    values = {
        "name": name,
        **same_examples(shared),
        **method,
        **entry.get("set", {}),
    }
    entry_place = ("methods", position)
    places = dict.fromkeys(values, document.where(entry_place))
    places |= {f"method.{key}": document.where((*entry_place, key)) for key in entry}
    places |= {key: document.where((*entry_place, "set", key)) for key in entry.get("set", {})}
    cell = assign(shared, values, places)
    return replace(cell, places={**cell.places, ("method",): document.where(entry_place)})
