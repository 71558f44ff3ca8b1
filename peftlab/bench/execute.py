"""Running a suite: tuning first, then every cell with every seed, each run by an executor.

A killed suite loses at most the steps since the running run's last checkpoint: everything else is read from the
folder. A run that fails is a record with a status; the others go on.
"""

from __future__ import annotations

import datetime
import functools
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from peftlab.bench.at_once import do_at_once
from peftlab.bench.cells import Cell
from peftlab.bench.executor import Executor, Finished
from peftlab.bench.label_curve import ChooseRows
from peftlab.bench.plan import Plan, PlannedRun
from peftlab.bench.suite import Suite, write_suite
from peftlab.bench.suite_data import keep_data
from peftlab.bench.tuning import Choice, tune
from peftlab.bench.worker import is_done, is_of_recipe, leave_record, move_aside, remove_weights, why_failed
from peftlab.core.errors import UserError
from peftlab.core.files import write_text
from peftlab.core.metric import METRICS
from peftlab.core.record import SUITE_NAME, RunRecord, read_record
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.recipe.schema import Recipe
from peftlab.training.launch import refuse_several_processes

SECONDS_NAME = "suite_seconds.json"

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """A suite that has come to its end.

    Args:
        statuses: How many compared runs ended how.
        runs_done: Runs of this call, trials included.
        seconds: Of this call.
    """

    statuses: dict[str, int]
    runs_done: int
    seconds: float


class Execution:
    """One call of ``peftlab bench``.

    Args:
        plan: What to run.
        executor: Executes the runs.
        workers: How many runs at once, at most.
        retry_failed: Run again what has failed.
        reporter: Tells a person.
        choose_rows: Chooses the rows of a label curve that are labelled next; None: the suite has none.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor,
        *,
        workers: int,
        retry_failed: bool,
        reporter: Reporter,
        choose_rows: ChooseRows | None = None,
    ) -> None:
        self.plan, self.workers, self.retry_failed, self.reporter = plan, workers, retry_failed, reporter
        self.executor, self._choose_rows = executor, choose_rows
        self._lock, self._choosing = threading.Lock(), threading.Lock()
        self._runs_done = 0

    def execute(self) -> Outcome:
        """Run all that is missing.

        Raises:
            KeyboardInterrupt: The user stopped it; what was running can be resumed.
            UserError: A launcher has started several of these processes, or the data have changed.
        """
        refuse_several_processes()  # here, and not only in each run: every cell would be a failure
        started = time.monotonic()
        plan = self.plan
        keep_data(plan.folder.path, plan.checked)
        self._keep_suite(plan.suite)
        missing = sum(not run.done for run in plan.runs(retry_failed=self.retry_failed))
        with progress_bar(self.reporter, "runs", missing):
            choices = dict(zip(plan.cells, self._each(self._tune, plan.cells), strict=True))
            chains = [(chain, seed) for seed in plan.suite.seeds for chain in plan.chains]
            found = self._each(lambda each: self._chain(*each, choices), chains)
            records = [record for of_chain in found for record in of_chain]
        statuses: dict[str, int] = {}
        for record in records:
            statuses[record.status] = statuses.get(record.status, 0) + 1
        return Outcome(statuses, self._runs_done, time.monotonic() - started)

    def _each(self, work: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """Work on several items at once; Ctrl-C stops the processes, which leave records."""
        works = [functools.partial(work, item) for item in items]
        return do_at_once(works, workers=self.workers, stop=self.executor.stop)

    # --- tuning ---------------------------------------------------------------------------------------------------

    def _tune(self, cell: Cell) -> Choice:
        tuning = self.plan.suite.tuning
        if tuning is None:
            return Choice({})
        seed = self.plan.tuning_seed
        metric = str(cell.recipe({}, seed=seed).evaluation.metric)
        return tune(
            cell,
            tuning,
            seed=seed,
            train_examples=self.plan.train_examples(cell),
            higher_is_better=METRICS[metric].higher_is_better,
            folder=self.plan.folder.tuning,
            run=self._trial,
        )

    def _trial(self, recipe: Recipe, name: str) -> RunRecord:
        folder = self.plan.folder.trials / name
        done = is_done(folder, recipe, retry_failed=self.retry_failed)
        record = self._run(recipe, folder, name, done=done)
        remove_weights(folder)
        return record

    # --- the compared runs ------------------------------------------------------------------------------------------

    def _chain(self, chain: Sequence[Cell], seed: int, choices: Mapping[Cell, Choice]) -> list[RunRecord]:
        """A cell's run; of a sequence or a label curve all of its runs, one after the other."""
        records: list[RunRecord] = []
        is_anew, before = False, None
        for cell in chain:
            planned = self.plan.final(cell, seed, retry_failed=self.retry_failed)
            if planned.folder.exists() and (is_anew or planned.is_stale):  # it went on from another run
                move_aside(planned.folder, self.plan.folder.replaced)
                planned = self.plan.final(cell, seed, retry_failed=self.retry_failed)
            try:
                if before is not None and records[-1].status == "success":
                    planned = self._with_rows(planned, before)
            except UserError as error:
                record = self._leave_failed(planned.recipe, planned.folder, f"no rows could be chosen: {error}")
            else:
                record = self._final(planned, choices[cell], records[-1] if records else None)
            records.append(record)
            is_anew, before = is_anew or not planned.done, planned
        return records

    def _with_rows(self, planned: PlannedRun, before: PlannedRun) -> PlannedRun:
        """The next run of a label curve, with the rows that the run before has chosen; any other as it is.

        Raises:
            UserError: None could be chosen.
        """
        cell, data = planned.cell, planned.recipe.data
        known = None if before.recipe.data is None else before.recipe.data.train_rows
        if cell.strategy is None or data is None or data.train_rows is not None:
            return planned
        if self._choose_rows is None or known is None:
            raise RuntimeError("a label curve needs `choose_rows`, and begins with rows")
        seed = planned.recipe.seed
        with self._choosing:  # in this process, one model at a time
            chosen = self._choose_rows(before.folder, cell.strategy, cell.labels - len(known), seed + cell.labels)
        return replace(planned, recipe=cell.recipe_of_rows([*known, *chosen], seed=seed))

    def _final(self, planned: PlannedRun, choice: Choice, before: RunRecord | None) -> RunRecord:
        recipe, folder = planned.recipe, planned.folder
        if choice.settings is None:
            return self._leave_failed(recipe, folder, f"every trial of the tuning failed; the first: {choice.error}")
        if before is not None and before.status != "success" and not planned.done:
            return self._leave_failed(recipe, folder, f"the run before, {before.name}: {before.status}")
        return self._run(recipe, folder, f"{planned.cell.name} seed {recipe.seed}", done=planned.done)

    def _leave_failed(self, recipe: Recipe, folder: Path, error: str) -> RunRecord:
        """The record of a run that never started, since what it needs has failed."""
        if folder.exists() and not is_of_recipe(folder, recipe):
            move_aside(folder, self.plan.folder.replaced)
        record = RunRecord(
            name=recipe.name,
            status="failed",
            error=error,
            recipe=recipe.model_dump(mode="json"),
            started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            seconds=0.0,
        )
        leave_record(record, folder)
        self._tell(f"{folder.name}: {record.error}")
        return record

    # --- one run -------------------------------------------------------------------------------------------------

    def _run(self, recipe: Recipe, folder: Path, name: str, *, done: bool) -> RunRecord:
        if done:
            return read_record(folder)
        if folder.exists() and not is_of_recipe(folder, recipe):
            move_aside(folder, self.plan.folder.replaced)
        finished = self.executor.run(recipe, folder)
        if self.executor.stopped:
            raise KeyboardInterrupt
        self._note_seconds(finished)
        self._tell(f"{name}: {_outcome(finished.record)}, {finished.wall_seconds:.0f} s")
        return finished.record

    def _tell(self, line: str) -> None:
        with self._lock:
            self._runs_done += 1
            self.reporter.say(line)
            self.reporter.advance(1)

    def _note_seconds(self, finished: Finished) -> None:
        """Add up what processes took beside their runs, for the report; over all calls of ``bench``.

        A run that was taken up again also counts the seconds of processes that are gone: it tells nothing of this one.
        Nor does a record that was left for a process that could not: all of its time is the process's.
        """
        if finished.record.resumed or finished.record.seconds >= finished.wall_seconds:
            return
        path = self.plan.folder.path / SECONDS_NAME
        with self._lock:
            noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            runs = noted.get("runs", 0) + 1
            wall = noted.get("wall_seconds", 0.0) + finished.wall_seconds
            inside = noted.get("run_seconds", 0.0) + finished.record.seconds
            summary = {
                "runs": runs,
                "wall_seconds": round(wall, 2),
                "run_seconds": round(inside, 2),
                "overhead_seconds_per_run": round((wall - inside) / runs, 2),
                "workers": self.workers,
            }
            write_text(path, json.dumps(summary, indent=2) + "\n")

    def _keep_suite(self, suite: Suite) -> None:
        """Write the suite down; runs of cells that it no longer has are put aside."""
        folder = self.plan.folder
        written, source = folder.path / SUITE_NAME, self.plan.source
        if not (written.exists() and source.exists() and written.samefile(source)):  # never over its own input
            write_suite(suite, written)
        wanted = {f"{cell.name}--seed{seed}" for cell in self.plan.cells for seed in suite.seeds}
        for path in sorted(folder.cells.glob("*")) if folder.cells.is_dir() else []:
            if path.is_dir() and path.name not in wanted:
                move_aside(path, folder.replaced)
        names = {cell.name for cell in self.plan.cells}
        for path in sorted(folder.tuning.glob("*.json")) if folder.tuning.is_dir() else []:
            if path.stem not in names or suite.tuning is None:
                path.unlink()


def _outcome(record: RunRecord) -> str:
    if record.status != "success":
        return why_failed(record)
    metric = record.recipe["evaluation"]["metric"]
    split = next((name for name in ("validation", "test") if record.scores.get(name)), "")
    scores = record.scores.get(split, {})
    return f"{split} {metric} {scores[metric]:.4f}" if metric in scores else "done"


__all__ = ["Execution", "Outcome", "PlannedRun"]
