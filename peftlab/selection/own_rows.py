"""Which training rows that a run was not shown it wants to learn next: a label curve's step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.config import replace_config
from peftlab.core.errors import DataError
from peftlab.core.reporter import Silent
from peftlab.core.selection import Candidates, Strategy, check_strategy, choose
from peftlab.data.columns import take
from peftlab.inference.load_tuned import load_tuned
from peftlab.preparation.load_data import load_data
from peftlab.selection.evidence import gather

if TYPE_CHECKING:
    import torch


def choose_own_rows(
    folder: Path, strategy: Strategy, count: int, *, seed: int, offline: bool, device: torch.device
) -> list[int]:
    """Rows of a run's training split that ``data.train_rows`` has left out, to learn next.

    Args:
        folder: Of the run.
        strategy: How to choose. Labels of these rows are not looked at.
        count: How many.
        seed: For the strategy's chance.
        offline: Allow no network.
        device: Where the model computes.

    Returns:
        Their numbers in the source, the best first.

    Raises:
        UserError: The run or its data cannot be loaded, or fewer rows are left.
    """
    saved = SavedRun.open(folder)
    recipe = saved.recipe
    if recipe.data is None or recipe.data.train_rows is None:
        raise DataError("the run has learned all of its training rows", where=str(folder))
    check_strategy(strategy, recipe.task, where=str(folder))
    everything = replace_config(recipe, data=replace_config(recipe.data, train_rows=None, max_train_examples=None))
    train, shown = (
        load_data(everything, offline=offline, report=Silent().say).splits["train"],
        set(recipe.data.train_rows),
    )
    pool = take(train, [at for at, row in enumerate(train.index) if row not in shown])
    if len(pool) < count:
        raise DataError(f"{count} rows are wanted, and {len(pool)} are left", where=str(folder))
    candidates = Candidates(len(pool))
    if strategy.uses:
        tuned = load_tuned(saved, offline=offline, device=device, report=Silent().say)
        known = take(train, [at for at, row in enumerate(train.index) if row in shown])
        candidates = gather(strategy, tuned, pool, known, Silent())
    return [pool.index[choice.position] for choice in choose(strategy, candidates, count, seed=seed)]
