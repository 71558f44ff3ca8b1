"""What a suite's folder holds, what is missing in it, and how long that will take."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from peftlab.bench.cells import Cell, expand_cells
from peftlab.bench.label_curve import first_rows, rows_of
from peftlab.bench.suite import Suite, method_name
from peftlab.bench.suite_folder import SuiteFolder
from peftlab.bench.timing import Clock, Workload
from peftlab.bench.tuning import plan_rungs, propose_settings, trial_name, trial_recipe
from peftlab.bench.worker import goes_on_from, is_done
from peftlab.core.config import Document
from peftlab.core.errors import ConfigError, UnsupportedError, UserError
from peftlab.core.record import RECORD_NAME, read_record
from peftlab.core.reporter import Reporter, SaidOnce, Silent
from peftlab.preparation.check import CheckedModel, CheckedRecipe, check_data, check_model
from peftlab.preparation.load_data import load_data
from peftlab.preparation.metric_choice import common_metric, with_metric
from peftlab.recipe.schema import Recipe

TUNING_SEED = 1_000_000
"""Of trials, or the next one that is free: nobody adds it to the seeds that are compared."""


@dataclass(frozen=True)
class PlannedRun:
    """A run that the suite needs.

    Args:
        cell: Of which cell.
        folder: Where it is, or will be.
        recipe: Of the run. Before tuning is done: at settings that stand for those not known yet.
        done: Whether its outcome is there.
        trial: Whether it is one of tuning's.
        is_stale: Whether what is there went on from a run that has been replaced since.
    """

    cell: Cell
    folder: Path
    recipe: Recipe
    done: bool
    trial: bool
    is_stale: bool = False


class Plan:
    """A suite and its folder, checked and laid out.

    Args:
        suite: What to compare.
        document: Of the suite, for the places in messages.
        folder: Of the suite.
        offline: Allow no network.
        reporter: Is told of downloads.

    Raises:
        UserError: The suite, its recipe or its data is wrong.
    """

    def __init__(
        self, suite: Suite, document: Document, folder: SuiteFolder, *, offline: bool, reporter: Reporter
    ) -> None:
        self.suite, self.folder, self.source = suite, folder, Path(document.source)
        self.cells = expand_cells(suite, document)
        reporter = SaidOnce(reporter)
        self.refusals: dict[str, str] = {}
        """By cell: why it cannot run, as far as that shows beforehand. It fails, and the others go on."""
        self.checked = {
            combination: self._check(
                [cell for cell in self.cells if cell.combination == combination], offline, reporter
            )
            for combination in dict.fromkeys(cell.combination for cell in self.cells)
        }
        self._agree_on_metrics(document)
        for combination, checked in self.checked.items():
            if suite.tuning is not None and "validation" not in checked.data.splits:
                raise ConfigError(
                    "tuning needs a validation split to choose by, and there is none"
                    + (f" at {', '.join(combination)}" if combination else ""),
                    where=document.where(("tuning",)),
                    hint="Set data.validation_fraction in the recipe, or `tuning: null`.",
                )
        self._check_classes(document)
        self._check_routers(document)
        self._pools = {} if not suite.labels else self._all_train_rows(document, offline)
        self.clock = Clock({key: Workload.of(checked) for key, checked in self.checked.items()})

    def _check(self, cells: list[Cell], offline: bool, reporter: Reporter) -> CheckedRecipe:
        """Check every cell of a point of the axes, and the data with the first that can run.

        Raises:
            UserError: The data or the model is wrong, or no cell can run.
        """
        fits: list[tuple[Cell, CheckedModel]] = []
        first: UserError | None = None
        for cell in cells:
            recipe = cell.recipe({}, seed=self.suite.seeds[0])
            try:
                fits.append((cell, check_model(recipe, cell.document, offline=offline, reporter=reporter)))
            except (ConfigError, UnsupportedError) as error:
                self.refusals[cell.name] = str(error)
                first = first or error
        if first is not None and not fits:
            raise first
        # A default metric is chosen by the data, for all cells that name none.
        cell, checked = next(((cell, checked) for cell, checked in fits if not cell.names_metric), fits[0])
        checked = replace(checked, names_metric=cell.names_metric)
        return check_data(checked, cell.document, offline=offline, reporter=reporter)

    def _check_classes(self, document: Document) -> None:
        """A sequence has one head, which is made for the classes that the first task knows.

        Raises:
            ConfigError: A later task has others.
        """
        tasks = list(self.suite.sequence)
        for combination, checked in self.checked.items():
            if not tasks or combination[-1] == tasks[0]:
                continue
            known = {label.casefold() for label in self.checked[(*combination[:-1], tasks[0])].labels}
            new = sorted(label for label in checked.labels if label.casefold() not in known)
            if new:
                raise ConfigError(
                    f"the first task does not know the class {new[0]!r} of this one, and all tasks share a head",
                    where=document.where(("sequence", combination[-1])),
                    hint="Name all classes in `task.known_classes`, where the task has that key.",
                )

    def _all_train_rows(self, document: Document, offline: bool) -> dict[tuple[str, ...], Sequence[int]]:
        """By the point of the other axes, the numbers of all training rows, from which some are given a label.

        Raises:
            ConfigError: There are fewer than are to have one.
        """
        found: dict[tuple[str, ...], Sequence[int]] = {}
        most = self.suite.labels[-1]
        for cell in self.cells:
            if (point := cell.combination[:-1]) in found:
                continue
            recipe = cell.recipe(cell.all_rows, seed=self.suite.seeds[0])
            found[point] = load_data(recipe, offline=offline, report=Silent().say).splits["train"].index
            if len(found[point]) < most:
                raise ConfigError(
                    f"the training split has {len(found[point])} rows, and {most} are to have a label",
                    where=document.where(("labels",)),
                    hint="Leave the last numbers out.",
                )
        return found

    def _check_routers(self, document: Document) -> None:
        """See that runs can be routed, before any of them is made.

        Raises:
            ConfigError: They could not be.
        """
        methods = [method_name(entry) for entry in self.suite.methods]
        for cell in (cell for cell in self.cells if cell.router and cell.name not in self.refusals):
            recipe, splits = cell.recipe({}, seed=self.suite.seeds[0]), self.checked[cell.combination].data.splits
            for is_so, why in (
                (recipe.model.from_config is not None, "a model that starts from nothing has no base to go by"),
                (not recipe.task.predicts_from_logits, f"{recipe.task.registered_name} has no one answer for a row"),
                ("test" not in splits, f"the task {cell.combination[-1]} has no test rows"),
            ):
                if is_so:
                    place = ("methods", methods.index(cell.method), "router")
                    raise ConfigError(
                        f"a router cannot choose among these runs: {why}",
                        where=document.where(place),
                        hint="Leave `router` out, or mend that.",
                    )

    def _agree_on_metrics(self, document: Document) -> None:
        """One metric for all cells of a task that name none: scores of different metrics cannot be compared.

        Raises:
            ConfigError: No metric of the task measures the data of all of them.
        """
        open_ones = {key: checked for key, checked in self.checked.items() if not checked.names_metric}
        for task in dict.fromkeys(checked.recipe.task.registered_name for checked in open_ones.values()):
            own = {key: checked for key, checked in open_ones.items() if checked.recipe.task.registered_name == task}
            metric = common_metric([(checked.recipe, checked.data, checked.labels) for checked in own.values()])
            if metric is None:
                raise ConfigError(
                    f"no metric of {task} can choose an epoch on the validation splits of all points of the axes",
                    where=document.where(("axes",)),
                    hint="Set `evaluation.metric` at each point of the axes, or make a suite of each.",
                )
            for key, checked in own.items():
                self.checked[key] = replace(checked, recipe=with_metric(checked.recipe, metric))
            self.cells = [
                cell.measured_by(metric) if cell.combination in own and not cell.names_metric else cell
                for cell in self.cells
            ]

    @cached_property
    def tuning_seed(self) -> int:
        """A seed that no compared run has; that of the trials that are there, so that seeds can be added."""
        kept, own = self.folder.seed_of_trials(), self.suite.seeds
        if kept is not None and kept not in own:
            return kept
        return next(seed for seed in itertools.count(TUNING_SEED) if seed not in own)

    def train_examples(self, cell: Cell) -> int:
        """Rows of the training split at a cell's point of the axes."""
        return self.checked[cell.combination].data.summary.rows["train"]

    def runs(self, *, retry_failed: bool = False) -> Iterator[PlannedRun]:
        """All runs in their order: tuning, then seed by seed, so that early stopping leaves comparable methods."""
        for cell in self.cells:
            yield from self.trials(cell)
        for seed in self.suite.seeds:
            for cell in self.cells:
                yield self.final(cell, seed, retry_failed=retry_failed)

    def trials(self, cell: Cell) -> Iterator[PlannedRun]:
        """A cell's trials; those of later rungs stand for whichever settings get so far."""
        tuning = self.suite.tuning
        if tuning is None:
            return
        settings = propose_settings(cell, tuning, seed=self.tuning_seed)
        tuned = self.folder.choice(cell.name) is not None
        for count, examples in plan_rungs(tuning.trials, self.train_examples(cell)):
            for number in range(count):
                recipe = trial_recipe(cell, settings[number], seed=self.tuning_seed, train_examples=examples)
                folder = self.folder.trials / trial_name(cell, number, examples)
                yield PlannedRun(cell, folder, recipe, tuned or is_done(folder, recipe), trial=True)

    def final(self, cell: Cell, seed: int, *, retry_failed: bool = False) -> PlannedRun:
        """A cell's run with one seed, at the settings that tuning has chosen, or after the run before."""
        folder = self.folder.cells / f"{cell.name}--seed{seed}"
        if cell.strategy is not None:
            return self._labelled(cell, seed, folder, retry_failed=retry_failed)
        if cell.before is not None:
            before = self.final(self._named[cell.before], seed, retry_failed=retry_failed)
            recipe = cell.next_recipe(before.recipe, str(before.folder.resolve()), seed=seed)
            is_stale = not goes_on_from(folder, before.folder)
            done = before.done and not is_stale and is_done(folder, recipe, retry_failed=retry_failed)
            return PlannedRun(cell, folder, recipe, done, trial=False, is_stale=is_stale)
        chosen = {} if self.suite.tuning is None else self.folder.choice(cell.name)
        recipe = cell.recipe(chosen or {}, seed=seed)
        done = chosen is not None and is_done(folder, recipe, retry_failed=retry_failed)
        return PlannedRun(cell, folder, recipe, done, trial=False)

    def _labelled(self, cell: Cell, seed: int, folder: Path, *, retry_failed: bool) -> PlannedRun:
        """A run of a label curve. Its recipe names no rows as long as the run before has not chosen them."""
        if cell.before is None:
            rows = first_rows(self._pools[cell.combination[:-1]], cell.labels, seed)
            recipe = cell.recipe_of_rows(rows, seed=seed)
            return PlannedRun(cell, folder, recipe, is_done(folder, recipe, retry_failed=retry_failed), trial=False)
        before = self.final(self._named[cell.before], seed, retry_failed=retry_failed)
        given = None if before.recipe.data is None else before.recipe.data.train_rows
        chosen = None if given is None else rows_of(folder, given, cell.labels)
        if chosen is None:
            return PlannedRun(cell, folder, cell.recipe({}, seed=seed), False, trial=False)
        recipe = cell.recipe_of_rows(chosen, seed=seed)
        done = before.done and is_done(folder, recipe, retry_failed=retry_failed)
        return PlannedRun(cell, folder, recipe, done, trial=False)

    @cached_property
    def _named(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.cells}

    @property
    def chains(self) -> list[list[Cell]]:
        """The cells, those of a sequence together and in its order."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            chain = [cell] if cell.before is None else [*found.pop(cell.before), cell]
            found[cell.name] = chain
        return list(found.values())

    def learn_from_finished(self) -> None:
        """Let the clock see the runs that are there."""
        for run in self.runs():
            if run.done and (run.folder / RECORD_NAME).exists():
                record = read_record(run.folder)
                if record.status == "success":
                    self.clock.learn(run.cell.method, run.cell.combination, run.recipe, record.seconds)

    def seconds_left(self, *, retry_failed: bool) -> float:
        """Of all runs that are missing, one after the other."""
        return sum(
            self.clock.estimate(run.cell.method, run.cell.combination, run.recipe)
            for run in self.runs(retry_failed=retry_failed)
            if not run.done
        )
