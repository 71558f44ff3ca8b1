"""Perplexity, with an interval: how surprised a model is by text that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from peftlab.core.splits import Example
from peftlab.core.task import Inference, Prediction
from peftlab.tasks.language.decoder import pad_language
from peftlab.tasks.language.vocabulary_head import score_labels
from peftlab.tasks.text_inputs import IGNORED

if TYPE_CHECKING:
    from torch import nn


def token_losses(
    model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
) -> list[list[float]]:
    """For each example, minus the log-probability (natural) of each token that it labels."""
    losses = inference.compute(score_labels, model, pad_language(examples, pad_token_id))[0].tolist()
    split, start = [], 0
    for example in examples:
        count = sum(token != IGNORED for token in example["labels"])
        split.append(losses[start : start + count])
        start += count
    return split


def predict_losses(
    model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
) -> list[Prediction]:
    """Label: how many tokens were scored; prediction: their mean loss; scores: the sum of the losses."""
    return [
        Prediction(label=len(each), prediction=sum(each) / max(1, len(each)), scores=[sum(each)])
        for each in token_losses(model, examples, pad_token_id, inference)
    ]


class PerplexityScorer:
    """Mean loss per token and its exponential, with a 95 % interval.

    The interval is that of a ratio of two means over blocks (tokens of one block are no independent draws), by the
    delta method: with block losses Lᵢ, block tokens nᵢ and r = ΣL/Σn, the variance of r is
    B/(B−1) · Σ (Lᵢ − r nᵢ)² / (Σn)², and its quantile Student's with B − 1 degrees of freedom: a short text has few
    blocks. It speaks of other text of the same kind, not of other seeds.
    """

    def __init__(self) -> None:
        self._losses: list[float] = []
        self._tokens: list[int] = []

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in blocks."""
        for item in predictions:
            if item.label:
                self._losses.append(float(item.prediction) * int(item.label))
                self._tokens.append(int(item.label))

    def compute(self) -> dict[str, float]:
        """All metrics; the interval is left out where there is only one block."""
        losses, tokens = np.asarray(self._losses), np.asarray(self._tokens)
        mean = float(losses.sum() / tokens.sum())
        scores = {"perplexity": math.exp(min(mean, 700)), "loss": mean}
        blocks = len(losses)
        if blocks > 1:
            from scipy.special import stdtrit

            spread = blocks / (blocks - 1) * ((losses - mean * tokens) ** 2).sum()
            error = float(np.sqrt(spread) / tokens.sum())
            half = float(stdtrit(blocks - 1, 0.975)) * error
            scores["perplexity_low"] = math.exp(min(max(mean - half, 0.0), 700))  # a perplexity is 1 at least
            scores["perplexity_high"] = math.exp(min(mean + half, 700))
        return scores
