"""Metrics of preferences: what the rewards that a tuned model implies say of responses that it was not tuned on.

As prediction stands the difference of the rewards of the chosen and the rejected response, as label that it should be
above 0. Of responses without a partner it is the reward itself, which should be below 0 where the label is false.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from peftlab.core.metric import METRICS, Metric, Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _signed(labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
    """Rewards so that higher is better."""
    return np.where(np.asarray(labels, dtype=bool), 1.0, -1.0) * np.asarray(predictions, dtype=np.float64)


@METRICS.register("reward_accuracy")
class RewardAccuracy(Metric):
    """Share of the pairs whose chosen response has the higher reward; without pairs, of rewards with the right sign."""

    higher_is_better: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[Unit] = "share"

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
        """1 or 0; equal rewards tell nothing apart."""
        return (_signed(labels, predictions) > 0).astype(np.float64)


@METRICS.register("reward_margin")
class RewardMargin(Metric):
    """Mean difference of the rewards of chosen and rejected responses; without pairs, mean reward in the right sign."""

    higher_is_better: ClassVar[bool] = True

    @classmethod
    def per_example(cls, labels: Sequence[Any], predictions: Sequence[Any]) -> NDArray[np.float64]:
        """One value a pair, or a response."""
        return _signed(labels, predictions)


@METRICS.register("preferred_log_ratio")
class PreferredLogRatio(Metric):
    """Mean of log π(y|x) − log π_ref(y|x) of preferred responses: below 0, they became less likely than in the base."""

    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[Unit] = "nats"


@METRICS.register("dispreferred_log_ratio")
class DispreferredLogRatio(Metric):
    """The same of responses that are not preferred; together they say how far the model went from its base."""

    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[Unit] = "nats"


@METRICS.register("kl")
class KL(Metric):
    """How far the model is from its base: the mean of KL(π ‖ π_ref) at the tokens that the model itself writes."""

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    unit: ClassVar[Unit] = "nats"


@METRICS.register("mean_reward")
class MeanReward(Metric):
    """Mean reward of the most likely responses."""

    higher_is_better: ClassVar[bool] = True


@METRICS.register("response_tokens")
class ResponseTokens(Metric):
    """Mean tokens of the responses: where rewards grow with them, a model may have learned length alone."""

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))


@METRICS.register("base_response_tokens")
class BaseResponseTokens(Metric):
    """The same of what the untouched base writes to the same prompts."""

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[tuple[float, float]] = (0.0, float("inf"))
