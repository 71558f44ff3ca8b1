"""The scorers of the tasks: metrics over a stream of predictions.

Counts are kept, not examples: a confusion matrix, or the entities found. Only the rank metrics (AUROC, Spearman) need
every score, and for them four bytes per example and class are kept. The definitions are scikit-learn's, scipy's and
seqeval's.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

from peftlab.core.task import Prediction
from peftlab.tasks._tag_style import entities_of


class ClassScorer:
    """Accuracy, F1, Matthews correlation and AUROC of one label per example.

    Args:
        labels: The names of the classes.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self._positions = {label: position for position, label in enumerate(self.labels)}
        self._confusion = np.zeros((len(self.labels), len(self.labels)), dtype=np.int64)
        self._truth = array("i")
        self._scores = array("f")

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Count the predictions of a batch."""
        for item in predictions:
            truth = self._positions[item.label]
            self._confusion[truth, self._positions[item.prediction]] += 1
            self._truth.append(truth)
            self._scores.extend(item.scores)

    def compute(self) -> dict[str, float]:
        """All metrics; AUROC is left out where a class has no example."""
        from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

        # scikit-learn's own definitions, over the cells of the confusion matrix instead of over the examples.
        truth, predicted = (axis.ravel() for axis in np.indices(self._confusion.shape))
        counts = self._confusion.ravel()
        seen = counts > 0
        cells = {"y_true": truth[seen], "y_pred": predicted[seen], "sample_weight": counts[seen]}
        scores = {
            "accuracy": float(accuracy_score(**cells)),
            "macro_f1": float(f1_score(**cells, average="macro", zero_division=0.0)),
            "weighted_f1": float(f1_score(**cells, average="weighted", zero_division=0.0)),
            "matthews": float(matthews_corrcoef(**cells)),
        }
        auroc = self._auroc()
        return scores if auroc is None else {**scores, "auroc": auroc}

    def _auroc(self) -> float | None:
        from sklearn.metrics import roc_auc_score

        truth = np.asarray(self._truth)
        scores = np.asarray(self._scores, dtype=np.float32).reshape(len(truth), len(self.labels))
        if len(np.unique(truth)) < len(self.labels):
            return None
        if len(self.labels) == 2:
            return float(roc_auc_score(truth, scores[:, 1]))
        one_vs_rest = [roc_auc_score(truth == position, scores[:, position]) for position in range(len(self.labels))]
        return float(np.mean(one_vs_rest))


class OrdinalScorer(ClassScorer):
    """Metrics of classes, and how far answers are from what is right, in places of the order.

    Args:
        labels: The names of the classes, the lowest first.
    """

    def compute(self) -> dict[str, float]:
        """All metrics; the agreement is left out where it is not defined."""
        truth, predicted = np.indices(self._confusion.shape)
        share = self._confusion / self._confusion.sum()
        squares = (truth - predicted) ** 2
        by_chance = float((np.outer(share.sum(axis=1), share.sum(axis=0)) * squares).sum())
        kappa = {"quadratic_kappa": 1 - float((share * squares).sum()) / by_chance} if by_chance > 0 else {}
        return {**super().compute(), "rank_error": float((share * np.abs(truth - predicted)).sum()), **kappa}


class MultiLabelScorer:
    """Subset accuracy, F1 and AUROC of any number of labels per example.

    Args:
        labels: The names of the labels.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = list(labels)
        self._true_positives = np.zeros(len(labels), dtype=np.int64)
        self._predicted = np.zeros(len(labels), dtype=np.int64)
        self._actual = np.zeros(len(labels), dtype=np.int64)
        self._exact = 0
        self._count = 0
        self._truth = array("b")
        self._scores = array("f")

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Count the predictions of a batch."""
        for item in predictions:
            truth = np.array([label in item.label for label in self.labels])
            predicted = np.array([label in item.prediction for label in self.labels])
            self._true_positives += truth & predicted
            self._predicted += predicted
            self._actual += truth
            self._exact += int((truth == predicted).all())
            self._count += 1
            self._truth.extend(truth.astype(np.int8).tolist())
            self._scores.extend(item.scores)

    def compute(self) -> dict[str, float]:
        """All metrics; AUROC is averaged over the labels that have both positive and negative examples."""
        both = self._predicted + self._actual
        f1 = np.divide(2 * self._true_positives, both, out=np.zeros(len(self.labels)), where=both > 0)
        scores = {
            "accuracy": self._exact / self._count,
            "macro_f1": float(f1.mean()),
            "weighted_f1": float(np.average(f1, weights=self._actual)) if self._actual.sum() else 0.0,
            "micro_f1": float(2 * self._true_positives.sum() / max(1, both.sum())),
        }
        auroc = self._auroc()
        return scores if auroc is None else {**scores, "auroc": auroc}

    def _auroc(self) -> float | None:
        from sklearn.metrics import roc_auc_score

        truth = np.asarray(self._truth, dtype=bool).reshape(self._count, len(self.labels))
        scores = np.asarray(self._scores, dtype=np.float32).reshape(self._count, len(self.labels))
        mixed = [p for p in range(len(self.labels)) if 0 < truth[:, p].sum() < self._count]
        if not mixed:
            return None
        return float(np.mean([roc_auc_score(truth[:, p], scores[:, p]) for p in mixed]))


class CorrelationScorer:
    """Correlations of one number per example; left out where a side is constant."""

    def __init__(self) -> None:
        self._both = RegressionScorer()

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in the predictions of a batch."""
        self._both.add(predictions)

    def compute(self) -> dict[str, float]:
        """Both correlations."""
        return {name: value for name, value in self._both.compute().items() if name in ("spearman", "pearson")}


class RegressionScorer:
    """Correlations and errors of one number per example. Correlations are left out where a side is constant."""

    def __init__(self) -> None:
        self._targets = array("d")
        self._predictions = array("d")

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in the predictions of a batch."""
        self._targets.extend(item.label for item in predictions)
        self._predictions.extend(item.prediction for item in predictions)

    def compute(self) -> dict[str, float]:
        """All metrics; squares that no float can hold are left out."""
        from scipy.stats import pearsonr, spearmanr

        targets = np.asarray(self._targets, dtype=np.float64)
        predictions = np.asarray(self._predictions, dtype=np.float64)
        errors = predictions - targets
        # Divided by a power of two, which changes no digit, so that no square is infinite or zero on the way.
        size = math.ldexp(1.0, math.frexp(float(np.abs(errors).max()))[1] - 1)
        scores = {
            "mean_squared_error": float(np.mean((errors / size) ** 2)) * size * size,
            "mean_absolute_error": float(np.mean(np.abs(errors / size))) * size,
        }
        scores = {name: value for name, value in scores.items() if np.isfinite(value)}
        if len(targets) > 1 and np.ptp(targets) > 0 and np.ptp(predictions) > 0:
            scores["spearman"] = float(spearmanr(targets, predictions).statistic)
            scores["pearson"] = float(pearsonr(targets, predictions).statistic)
        return scores


class EntityScorer:
    """Precision, recall and F1 of entities by seqeval's definition, and the accuracy of tags.

    Args:
        has_entities: Whether the tags name entities; else their accuracy is all that there is.
    """

    def __init__(self, *, has_entities: bool = True) -> None:
        self._has_entities = has_entities
        self._right: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()
        self._actual: Counter[str] = Counter()
        self._right_tags = 0
        self._tags = 0

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Count the entities of a batch."""
        for item in predictions:
            if self._has_entities:
                truth = set(entities_of(item.label))
                predicted = set(entities_of(item.prediction))
                self._right.update(kind for kind, _, _ in truth & predicted)
                self._predicted.update(kind for kind, _, _ in predicted)
                self._actual.update(kind for kind, _, _ in truth)
            self._right_tags += sum(a == b for a, b in zip(item.label, item.prediction, strict=True))
            self._tags += len(item.label)

    def compute(self) -> dict[str, float]:
        """All metrics, over the entities of every type together (micro average)."""
        accuracy = {"accuracy": self._right_tags / max(1, self._tags)}
        if not self._has_entities:
            return accuracy
        right, predicted, actual = self._right.total(), self._predicted.total(), self._actual.total()
        return {
            "f1": 2 * right / (predicted + actual) if predicted + actual else 0.0,
            "precision": right / predicted if predicted else 0.0,
            "recall": right / actual if actual else 0.0,
            **accuracy,
        }
