"""Metrics of written text that are means over texts: one value for each text, against its references.

ROUGE is rouge-score's F1 with stemming off, the best over the references.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from peftlab.statistics.crossed import Floats

OfTexts = Callable[[Sequence[str], Sequence[Sequence[str]]], Floats]


def exact_matches(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """1 for each text that is one of its references, blanks around both left out; 0 for others."""
    pairs = zip(texts, references, strict=True)
    return np.array([text.strip() in [each.strip() for each in row] for text, row in pairs], np.float64)


def rouge_scores(texts: Sequence[str], references: Sequence[Sequence[str]], *, kind: str) -> Floats:
    """ROUGE of each text, 0 to 1.

    Args:
        texts: What was written.
        references: One or several for each text.
        kind: ``rouge1``, ``rouge2`` or ``rougeL``.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([kind])
    pairs = zip(texts, references, strict=True)
    return np.array([scorer.score_multi(list(row), text)[kind].fmeasure for text, row in pairs], np.float64)


OF_TEXTS: dict[str, OfTexts] = {
    "exact_match": exact_matches,
    "rouge_1": partial(rouge_scores, kind="rouge1"),
    "rouge_2": partial(rouge_scores, kind="rouge2"),
    "rouge_l": partial(rouge_scores, kind="rougeL"),
}
