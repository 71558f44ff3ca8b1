"""What a run predicted, example by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.core.errors import UserError, first_line
from peftlab.packs.runs import read_run_predictions

COLUMNS = ["split", "index", "label", "prediction"]


@dataclass(frozen=True)
class Coded:
    """A column of classes, or of lists of them.

    Args:
        codes: Position in ``values`` of each example's value.
        values: Strings, or tuples of strings.
    """

    codes: NDArray[np.int64]
    values: Sequence[Any]

    def recode(self, codes: dict[Any, int]) -> NDArray[np.int64]:
        """The column in codes that other columns share; new values are added to them."""
        return np.array([codes.setdefault(value, len(codes)) for value in self.values], dtype=np.int64)[self.codes]


Column = Coded | NDArray[np.float64]
"""Classes, or numbers."""


@dataclass(frozen=True)
class Predictions:
    """One split's predictions, in the order of the source table.

    Args:
        index: Row of each example in the source table.
        labels: What is true.
        predictions: What was predicted.
    """

    index: NDArray[np.int64]
    labels: Column
    predictions: Column


def read_predictions(folder: Path, split: str) -> Predictions | None:
    """Read a run's predictions of a split.

    Returns:
        None where the run left no predictions, or none of the split.

    Raises:
        UserError: The file is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = read_run_predictions(folder, COLUMNS)
    if found is None:
        return None
    try:
        table = found.combine_chunks()
        index = table["index"].to_numpy()
        rows = np.flatnonzero(pc.equal(table["split"], split).to_numpy())
        if not len(rows):
            return None
        rows = rows[np.argsort(index[rows], kind="stable")]
        labels, predictions = (table[name].take(pa.array(rows)) for name in ("label", "prediction"))
        if any(column.null_count or _has_holes(column.type, column) for column in (labels, predictions)):
            raise UserError("the predictions are damaged: a label or an answer is missing", where=str(folder))
        if pa.types.is_boolean(labels.type) and pa.types.is_floating(predictions.type):
            labels = pc.cast(labels, pa.float64())  # whether a reward should be above 0 is no class
        return Predictions(index[rows], _column(labels), _column(predictions))
    except (pa.ArrowException, KeyError, TypeError) as error:
        raise UserError(f"the predictions are damaged: {first_line(error)}", where=str(folder)) from None


def _has_holes(kind: Any, values: Any) -> bool:
    """Whether a list misses one of its items."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return bool(pa.types.is_list(kind) and pc.list_flatten(values).null_count)


def _column(values: Any) -> Column:
    import pyarrow as pa

    if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
        return np.asarray(values.to_numpy(), dtype=np.float64)
    if pa.types.is_list(values.type):
        codes: dict[Any, int] = {}
        coded = [codes.setdefault(tuple(value), len(codes)) for value in values.to_pylist()]
        return Coded(np.array(coded, dtype=np.int64), list(codes))
    encoded = values.combine_chunks().dictionary_encode()
    return Coded(encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist())
