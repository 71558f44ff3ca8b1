"""Metrics of written text against one or several references.

BLEU and chrF are sacrebleu's (Post 2018), BLEU with its tokenizer `zh` where most references are Chinese; ROUGE and
exact match are means over texts (``peftlab.statistics.texts``).
Distinct-n is Li et al. 2016 (https://arxiv.org/abs/1510.03055).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from peftlab.core.task import Prediction
from peftlab.core.words import mostly_signs, split_words
from peftlab.statistics.texts import OF_TEXTS

TEXT_METRICS = (
    "exact_match",
    "bleu",
    "chrf",
    "rouge_1",
    "rouge_2",
    "rouge_l",
    "distinct_1",
    "distinct_2",
)
LOSS_METRICS = ("loss", "perplexity")
BLEU_WORDS = 4
"""Of the longest n-gram."""
ENOUGH_TEXTS = 200
"""Texts that are looked at first."""


class TextScorer:
    """Metrics of generated text, and the loss of the true responses.

    A prediction's label is the list of references, its prediction the text or None where none was generated; its
    scores are the summed loss of the true response and how many tokens that has.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._references: list[list[str]] = []
        self._loss, self._tokens = 0.0, 0.0

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in texts."""
        for item in predictions:
            loss, tokens = item.scores
            self._loss, self._tokens = self._loss + loss, self._tokens + tokens
            if item.prediction is not None:
                self._texts.append(item.prediction.strip())
                self._references.append([reference.strip() for reference in item.label])

    def compute(self) -> dict[str, float]:
        """All metrics for which something was added; left out are those that are 0 for the references themselves."""
        scores = {}
        if self._tokens:
            mean = self._loss / self._tokens
            scores = {"loss": mean, "perplexity": math.exp(min(mean, 700))}
        if not self._texts:
            return scores
        found = {**overlap(self._texts, self._references), **diversity(self._texts)}
        told = {name: value for name, value in found.items() if value or reachable(name, self._references) > 0}
        return {**scores, **told}


def reachable(metric: str, references: Sequence[Sequence[str]]) -> float:
    """What a metric says of texts that are the references themselves; of the loss it is not asked."""
    texts = [row[0].strip() for row in references]
    # A metric that says something of some texts says something of all of them.
    for count in (ENOUGH_TEXTS, len(texts)):
        some, of_some = texts[:count], references[:count]
        if metric == "bleu":
            value = _bleu(some, of_some)
        elif metric == "chrf":
            value = _chrf(some, of_some)
        elif metric in OF_TEXTS:
            value = float(OF_TEXTS[metric](some, of_some).mean())
        else:
            value = diversity(some)[metric]
        if value > 0 or count >= len(texts):
            break
    return value


def are_short(references: Sequence[Sequence[str]]) -> bool:
    """Whether more than half of the texts have less words than BLEU's longest n-gram; they say nothing to BLEU."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

    tokenize: Any = TokenizerZh() if _are_chinese(references) else Tokenizer13a()  # type: ignore[no-untyped-call]
    short = sum(len(tokenize(row[0]).split()) < BLEU_WORDS for row in references)
    return 2 * short > len(references)


def overlap(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match as a share, ROUGE as F1 from 0 to 1, BLEU and chrF from 0 to 100, as they are usually written."""
    found = {
        "bleu": _bleu(texts, references),
        "chrf": _chrf(texts, references),
        **{name: float(values(texts, references).mean()) for name, values in OF_TEXTS.items()},
    }
    return {name: found[name] for name in TEXT_METRICS if name in found}


def _bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    from sacrebleu import corpus_bleu

    tokenize = "zh" if _are_chinese(references) else None
    # `force` leaves out a warning of full stops that stand apart, which are the data's own.
    return float(corpus_bleu(list(texts), _columns(references), tokenize=tokenize, force=True).score)


def _are_chinese(references: Sequence[Sequence[str]]) -> bool:
    """Whether sacrebleu's tokenizer for Chinese is the right one: it makes a word of each character."""
    return mostly_signs(row[0] for row in references)


def _chrf(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    from sacrebleu import corpus_chrf

    return float(corpus_chrf(list(texts), _columns(references)).score)


def _columns(references: Sequence[Sequence[str]]) -> list[Any]:
    """The first references of all texts, then the second ones, and so on; None where a text has no more."""
    most = max(map(len, references))
    return [[row[place] if place < len(row) else None for row in references] for place in range(most)]


def diversity(texts: Sequence[str]) -> dict[str, float]:
    """Different n-grams of words, or Chinese characters, as a share of all n-grams; 0 where there are none."""
    scores = {}
    for size in (1, 2):
        grams = [
            tuple(words[start : start + size])
            for words in map(split_words, texts)
            for start in range(len(words) - size + 1)
        ]
        scores[f"distinct_{size}"] = len(set(grams)) / len(grams) if grams else 0.0
    return scores
