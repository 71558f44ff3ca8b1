"""Label curves: each method says which rows it wants labels for next, and learns again from all that it has.

The rows come from the recipe's own training split. Their labels are there all along; a run is shown only those that
were asked for. The first rows are drawn by the seed, the same for all methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from peftlab.core.config import read_yaml
from peftlab.core.errors import UserError
from peftlab.core.record import RECIPE_NAME
from peftlab.core.selection import STRATEGIES, Candidates, Strategy, choose

ChooseRows = Callable[[Path, Strategy, int, int], Sequence[int]]
"""From a run's folder, a strategy, a number and a seed to the numbers of the rows to label next."""


def first_rows(train: Sequence[int], count: int, seed: int) -> list[int]:
    """The rows that every method begins with.

    Args:
        train: Numbers of all training rows.
        count: How many are drawn.
        seed: Of the run.
    """
    chosen = choose(STRATEGIES["random"](), Candidates(len(train)), count, seed=seed)
    return [train[choice.position] for choice in chosen]


def rows_of(folder: Path, before: Sequence[int], labels: int) -> list[int] | None:
    """The rows that a run in a folder was given, the run before's first; None where there is no such run.

    Args:
        folder: Of the run.
        before: Rows of the run before.
        labels: How many rows it has.
    """
    try:
        rows = read_yaml(folder / RECIPE_NAME).values["data"]["train_rows"]
    except (UserError, KeyError, TypeError):
        return None
    if not isinstance(rows, list) or len(rows) != labels or rows[: len(before)] != list(before):
        return None
    return rows
