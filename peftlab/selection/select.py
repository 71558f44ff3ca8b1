"""Which rows of a pool should be given labels next, by what a finished run makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.artifact.saved_export import Saved, open_saved
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import Document, build_config, parse_yaml_value
from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.reporter import Reporter
from peftlab.core.selection import STRATEGIES, Candidates, Strategy, check_strategy, choose
from peftlab.core.splits import Split
from peftlab.data.data_config import DataConfig
from peftlab.inference.files import options_in_hints
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import rounded
from peftlab.preparation.load_data import load_data
from peftlab.recipe.schema import Recipe
from peftlab.selection.evidence import gather
from peftlab.selection.pool import leave_out, read_pool, told

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Selection:
    """What was selected.

    Args:
        run: Its name.
        strategy: Its name.
        pool: How many rows the pool has.
        left_out: How many of them could not be chosen, by the reason.
        rows: The chosen ones, the best first: the whole row, and ``select_rank`` (from 1), ``select_row`` (its row in
            the pool, from 0), ``select_strategy``, ``select_score`` and ``select_reason``.
    """

    run: str
    strategy: str
    pool: int
    left_out: Mapping[str, int]
    rows: Sequence[Mapping[str, Any]]


def build_strategy(name: str, settings: Sequence[str]) -> Strategy:
    """A strategy with its settings.

    Args:
        name: A name of ``peftlab ls strategies``.
        settings: ``KEY=VALUE`` each.

    Raises:
        ConfigError: There is no such strategy or key, or the value is none for it.
    """
    cls, values = STRATEGIES.get(name, where="--strategy"), dict[str, Any]()
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"`{setting}` is not of the form KEY=VALUE", where="--set")
        values[key] = parse_yaml_value(value)
    return build_config(cls, values, document=Document(source="--set", values=values))


def select_rows(
    run: Path,
    path: Path,
    strategy: Strategy,
    count: int,
    *,
    reading: Callable[[Recipe], DataConfig],
    seed: int,
    offline: bool,
    device: torch.device | None,
    reporter: Reporter,
) -> Selection:
    """Choose rows of a table to label next.

    Args:
        run: The folder of a run or an export.
        path: The pool: a table with the text columns of the run's task.
        strategy: How to choose.
        count: How many.
        reading: Says how the table is written, for the run's recipe.
        seed: For the strategy's chance.
        offline: Allow no network.
        device: Where the model computes; None: CUDA where it is there.
        reporter: Is told what goes on.

    Raises:
        UserError: The run or its data cannot be loaded, the task does not go with the strategy or with tables, or the
            pool is empty, lacks a column, or has fewer rows that can be chosen than are wanted.
    """
    saved = open_saved(run)
    recipe, task = saved.recipe, saved.recipe.task
    if not task.labels_by_row:
        raise UnsupportedError(
            f"rows of a table are chosen one by one, and a run of {task.registered_name} reads what is made of them",
            where=str(run),
            hint="Give a run of text_classification, or of another task that reads a row's own texts.",
        )
    check_strategy(strategy, task, where=str(run))
    with options_in_hints():
        table, everything = read_pool(path, reading(recipe), task)
    known = _data_of(saved, offline, reporter)
    pool = leave_out(table, everything, known, task)
    if words := told(pool.left_out):
        reporter.say(f"left out of {len(table)} rows: {words}")
    _check_count(count, len(pool.split), table.name, because=told(pool.left_out))
    candidates = Candidates(len(pool.split))
    if strategy.uses:
        tuned = load_tuned(saved, offline=offline, device=device, report=reporter.say)
        candidates = gather(strategy, tuned, pool.split, known["train"], reporter)
    name = strategy.registered_name
    rows = [
        {
            **{key: _plain(value) for key, value in pool.row(choice.position).items()},
            "select_rank": rank,
            "select_row": pool.split.index[choice.position],
            "select_strategy": name,
            "select_score": rounded(choice.score),
            "select_reason": choice.reason,
        }
        for rank, choice in enumerate(choose(strategy, candidates, count, seed=seed), start=1)
    ]
    return Selection(saved.name, name, len(table), pool.left_out, rows)


def _data_of(saved: Saved, offline: bool, reporter: Reporter) -> Mapping[str, Split]:
    data = load_data(saved.recipe, offline=offline, report=reporter.say)
    record = saved.record if isinstance(saved, SavedRun) else None
    if record is not None and record.data is not None and record.data.fingerprint != data.summary.fingerprint:
        reporter.say("the data have changed since the run: its rows are looked for in the data as they are now")
    return data.splits


def _check_count(count: int, rows: int, where: str, *, because: str) -> None:
    if count <= rows:
        return
    left = f"only {rows} can be chosen ({because})" if because else f"the pool has only {rows}"
    raise DataError(f"{count} rows are wanted, and {left}", where=where, hint=f"Ask for --count {rows} or less.")


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: dates and the like as text."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
