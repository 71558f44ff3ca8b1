"""The examples on which methods disagree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftlab.report import wording
from peftlab.report.comparison import MOST_METHODS, Comparison

MOST_EXAMPLES = 30


@dataclass(frozen=True)
class Disagreement:
    """One example: its row in the source table, its label, and what each method says (of the seeds, the majority)."""

    index: int
    label: str
    predictions: list[str]
    right: list[bool]
    right_methods: int


@dataclass(frozen=True)
class Disagreements:
    """How methods agree over the examples.

    Args:
        methods: Whose predictions the examples show.
        compared: How many methods were looked at.
        all_right: Share of examples that every method has right.
        none_right: Share that no method has right.
        examples: Those on which methods disagree most.
        differing: How many examples there are on which methods disagree.
    """

    methods: list[str]
    compared: int
    all_right: float
    none_right: float
    examples: list[Disagreement]
    differing: int

    @property
    def in_words(self) -> str:
        """How far they agree, in a sentence."""
        every = "both methods" if self.compared == 2 else f"all {self.compared} methods"
        return (
            f"{wording.share(self.all_right)} of the examples are right with {every}, {wording.share(self.none_right)} "
            f"with none; on {self.differing:,} the answers differ."
        )


def find_disagreements(comparison: Comparison) -> Disagreements | None:
    """The examples on which the methods of a comparison disagree most: as nearly as can be half of them right.

    Returns:
        None where labels are numbers, or fewer than two methods have predictions. Also where no method has a single
        example right: then answers are not judged by being the same as the label, as texts with several references.
    """
    table = comparison.examples
    methods = [method for method in comparison.methods if method.predicted is not None]
    if table.truth is None or table.index is None or table.numeric or len(methods) < 2:
        return None
    said = np.array([_majority(np.asarray(method.predicted)) for method in methods])
    right = said == table.truth
    if not right.any():
        return None
    share = right.mean(axis=0)
    differing = (said != said[0]).any(axis=0)
    order = np.lexsort((table.index, np.abs(share - 0.5)))
    shown = methods[:MOST_METHODS]
    values = table.values
    examples = [
        Disagreement(
            index=int(table.index[at]),
            label=as_text(values[table.truth[at]]),
            predictions=[as_text(values[code]) for code in said[: len(shown), at]],
            right=[bool(value) for value in right[: len(shown), at]],
            right_methods=int(right[:, at].sum()),
        )
        for at in order[differing[order]][:MOST_EXAMPLES]
    ]
    return Disagreements(
        methods=[method.label for method in shown],
        compared=len(methods),
        all_right=float((share == 1).mean()),
        none_right=float((share == 0).mean()),
        examples=examples,
        differing=int(differing.sum()),
    )


def _majority(predicted: NDArray[Any]) -> NDArray[Any]:
    """The prediction of most seeds; of equally many, that of the first seed among them."""
    votes = (predicted[:, None, :] == predicted[None, :, :]).sum(axis=1)
    return np.asarray(predicted[votes.argmax(axis=0), np.arange(predicted.shape[1])])


def as_text(value: Any) -> str:
    """A label for people; several labels, or ranks, with commas."""
    if isinstance(value, tuple):
        return ", ".join(map(as_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
