"""What is told of predicted classes: of one model's, and of several models' together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar

from peftlab.core.task import Prediction, Task
from peftlab.tasks._several_labels import label_confidences

THRESHOLDS = "thresholds"
"""Of what a task learns: above which probability each of several labels is given."""


class ClassAnswers(Task):
    """A task whose scores are a probability for each class, or for each of several labels."""

    pools_answers: ClassVar[bool] = True

    @property
    def is_multi_label(self) -> bool:
        """Whether an example can carry any number of labels."""
        return False

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The class with its probability, or the labels; and the probability of each."""
        scores = dict(zip(labels, prediction.scores, strict=True))
        score = {} if self.is_multi_label else {"score": scores[prediction.prediction]}
        return {"prediction": prediction.prediction, **score, "scores": scores}

    def confidences(self, prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
        """Of the chosen class; or of the decision on every label."""
        if self.is_multi_label:
            return label_confidences(prediction, labels)
        return [(max(prediction.scores), prediction.prediction == prediction.label)]

    def pool(self, said: Sequence[Prediction], labels: tuple[str, ...]) -> Prediction:
        """The mean of the probabilities: the likeliest class, or the labels above their thresholds."""
        scores = [fmean(own) for own in zip(*(item.scores for item in said), strict=True)]
        return Prediction(said[0].label, self.decide(scores, labels), scores)

    def decide(self, scores: Sequence[float], labels: tuple[str, ...]) -> Any:
        """What follows from probabilities, one a class: the class, or the labels."""
        if self.is_multi_label:
            limits = self.learned.get(THRESHOLDS, {})
            return [name for name, score in zip(labels, scores, strict=True) if score > limits.get(name, 0.5)]
        return labels[max(range(len(scores)), key=scores.__getitem__)]
