"""Metrics of written text that are means over texts: one value for each text, against its references.

ROUGE is rouge-score's F1 with stemming off, the best over the references. Of Chinese and Japanese each character is a
word, as Hu et al. 2015 (LCSTS, https://arxiv.org/abs/1506.05865) have it: rouge-score itself sees nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from peftlab.core.words import WITHOUT_BLANKS, has_signs, split_words
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

    scorer = RougeScorer([kind], tokenizer=_Words())
    pairs = zip(texts, references, strict=True)
    return np.array([scorer.score_multi(list(row), text)[kind].fmeasure for text, row in pairs], np.float64)


class _Words:
    """What rouge-score takes for words, and each Chinese or Japanese character."""

    def tokenize(self, text: str) -> list[str]:
        """The words in their order."""
        from rouge_score.tokenize import tokenize

        if not has_signs(text):
            return list(tokenize(text, None))
        return [
            word
            for piece in split_words(text)
            for word in ([piece] if WITHOUT_BLANKS.match(piece) else tokenize(piece, None))
        ]


OF_TEXTS: dict[str, OfTexts] = {
    "exact_match": exact_matches,
    "rouge_1": partial(rouge_scores, kind="rouge1"),
    "rouge_2": partial(rouge_scores, kind="rouge2"),
    "rouge_l": partial(rouge_scores, kind="rougeL"),
}
