"""Calibration and abstention: whether probabilities can be taken at their word, and what is won by abstaining."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Sample
from peftlab.statistics.abstention import (
    NORMAL,
    area_under_risk,
    bins_of_equal_size,
    bootstrap_error,
    brier_scores,
    calibration_error,
    conformal_sets,
    judge_calibration,
    unseen,
)
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.proportions import wilson_interval

EXAMPLES = 5


@AUDITS.register("calibration")
class Calibration(Audit):
    """Whether probabilities hold: reliability, conformal sets, and the error that is left where the model abstains."""

    title = "Calibration and abstention"
    order = 30

    coverage: float = Field(0.9, gt=0, lt=1, description="How often a conformal set shall hold the right class.")
    tolerance: float = Field(0.02, ge=0, description="Calibration error beyond chance that is no fault yet.")
    fewest_rows: int = Field(20, ge=5, description="Bands of probability and classes with fewer rows are not shown.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs one class for each row, and probabilities."""
        return None if audited.probabilities is not None else "the model gives no probabilities of single classes"

    def run(self, audited: Audited) -> Findings:
        """Compare what the model states with what is right."""
        probabilities, classes = audited.probabilities, audited.classes
        if probabilities is None or classes is None:
            return Findings(())  # why_not has said so
        right, said = classes
        confidences = probabilities[np.arange(len(said)), said]
        is_right = (right == said).astype(np.float64)
        figures = [
            self._calibration(audited, confidences, is_right),
            self._adaptive(audited, confidences, is_right),
            _brier(probabilities, right),
            _overconfidence(confidences, is_right),
            *self._bands(confidences, is_right),
            *_abstention(audited, confidences, 1 - is_right),
            *self._conformal(audited, probabilities, right),
        ]
        return Findings(figures)

    def _calibration(self, audited: Audited, confidences: NDArray[np.float64], is_right: NDArray[np.float64]) -> Figure:
        value = calibration_error(confidences, is_right)
        judged = judge_calibration(confidences, is_right, self.tolerance, audited.random("calibration"))
        wrong = [at for at in np.argsort(-confidences, kind="stable").tolist() if not is_right[at]][:EXAMPLES]
        return Figure(
            "calibration.error",
            value,
            len(is_right),
            f"Stated probability and share of right answers are {100 * value:.1f} points apart on average.",
            low=judged.low,
            high=judged.high,
            p_value=judged.p_value,
            examples=[audited.example(at, probability=round(float(confidences[at]), 4)) for at in wrong],
        )

    def _adaptive(self, audited: Audited, confidences: NDArray[np.float64], is_right: NDArray[np.float64]) -> Figure:
        value, generator = calibration_error(confidences, is_right, bins_of_equal_size), audited.random("adaptive")
        judged = judge_calibration(confidences, is_right, self.tolerance, generator, binned=bins_of_equal_size)
        return Figure(
            "calibration.error_adaptive",
            value,
            len(is_right),
            f"The same is {100 * value:.1f} points where each band of probability has about as many answers.",
            low=judged.low,
            high=judged.high,
        )

    def _bands(self, confidences: NDArray[np.float64], is_right: NDArray[np.float64]) -> list[Figure]:
        bands = np.minimum((confidences * 10 + 1e-9).astype(int), 9)
        shown = [band for band in range(10) if (bands == band).sum() >= self.fewest_rows]
        figures = []
        for band in shown:
            inside = bands == band
            mean = mean_with_interval(is_right[inside], looked_at=len(shown))
            figures.append(
                mean.figure(
                    f"calibration.right.at_{10 * band}",
                    f"Of answers with a probability of {10 * band} to {10 * band + 10} % (mean "
                    f"{confidences[inside].mean():.1%}), {mean.value:.1%} are right.",
                    higher_is_better=True,
                )
            )
        return figures

    def _conformal(
        self, audited: Audited, probabilities: NDArray[np.float64], right: NDArray[np.int64]
    ) -> list[Figure]:
        order = audited.random("conformal").permutation(len(right))
        setting, new = order[: len(right) // 2], order[len(right) // 2 :]
        sets = conformal_sets(probabilities[setting], right[setting], probabilities[new], self.coverage)
        holds = sets[np.arange(len(new)), right[new]].astype(np.float64)
        names = {
            f"coverage.class.{name}": (f"of the class {name} ", right[new] == at)
            for at, name in enumerate(audited.model.labels)
            if (right[new] == at).sum() >= self.fewest_rows
        }
        figures = [_coverage("coverage", "", holds, self.coverage, 1)]
        size, low, high = _mean_size(sets)
        figures.append(
            Figure(
                "calibration.set_size",
                size,
                len(sets),
                f"Such a set has {size:.2f} classes on average.",
                low=low,
                high=high,
                unit="number",
            )
        )
        for name, (of, members) in names.items():
            figures.append(_coverage(name, of, holds[members], self.coverage, len(names)))
        return figures


def _brier(probabilities: NDArray[np.float64], right: NDArray[np.int64]) -> Figure:
    scores = brier_scores(probabilities, right)
    mean, most = mean_with_interval(scores), 1 if probabilities.shape[1] == 2 else 2
    usual = brier_scores(
        np.tile(np.bincount(right, minlength=probabilities.shape[1]) / len(right), (len(right), 1)), right
    )
    return Figure(
        "calibration.brier",
        mean.value,
        mean.n,
        f"The Brier score, the squared distance of the probabilities from what is right, is {mean.value:.3g} (0: best, "
        f"{most}: worst). The shares of the classes alone would give {usual.mean():.3g}.",
        low=max(mean.low, 0.0),
        high=min(mean.high, float(most)),
        unit="number",
        sample=Sample(range(len(right)), scores),
    )


def _mean_size(sets: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Mean number of classes of sets (rows × classes), with its interval.

    A size is no share, also where none of a sample is above 1. Where all have the same, so many rows at most have
    another: of no class, or of all.
    """
    sizes = sets.sum(axis=1).astype(np.float64)
    mean = mean_with_interval(sizes, changes=True)
    if sizes.std():
        return mean.value, mean.low, mean.high
    others = wilson_interval(0, len(sizes))[1]
    return mean.value, mean.value * (1 - others), mean.value + others * (sets.shape[1] - mean.value)


def _coverage(name: str, of: str, holds: NDArray[np.float64], aim: float, looked_at: int) -> Figure:
    mean = mean_with_interval(holds, looked_at=looked_at)
    return mean.figure(
        f"calibration.{name}",
        f"Conformal sets that one half of the rows has set hold the right class of {mean.value:.1%} of the texts {of}"
        f"in the other half; {aim:.0%} was aimed at over all classes.",
        higher_is_better=True,
    )


def _overconfidence(confidences: NDArray[np.float64], is_right: NDArray[np.float64]) -> Figure:
    """Where no answer is wrong, or none right, some of further ones may be."""
    mean = mean_with_interval(confidences - is_right, changes=True)
    others, is_sure = unseen(is_right), bool(is_right.all())
    way = "too sure" if mean.value > 0 else "not sure enough"
    return Figure(
        "calibration.overconfidence",
        mean.value,
        mean.n,
        f"The model is {way}: it states {confidences.mean():.1%} on average, and is right in {is_right.mean():.1%}.",
        low=mean.low - (0.0 if is_sure else others),
        high=mean.high + (others if is_sure else 0.0),
        unit="difference",
        higher_is_better=None,
    )


def _abstention(audited: Audited, confidences: NDArray[np.float64], errors: NDArray[np.float64]) -> list[Figure]:
    area, others, generator = area_under_risk(confidences, errors), unseen(errors), audited.random("abstention")
    half = NORMAL * bootstrap_error(area_under_risk, confidences, errors, generator) + others
    figures = [
        Figure(
            "calibration.aurc",
            area,
            len(errors),
            f"The error over all shares of answers that are kept, the surest first, is {area:.1%} on average (AURC).",
            low=max(area - half, 0.0),
            high=min(area + half, 1.0),
        )
    ]
    # Of equally sure answers any may be kept: a table that is sorted by its classes decides nothing.
    shuffled = generator.permutation(len(errors))
    order = shuffled[np.argsort(-confidences[shuffled], kind="stable")]
    for kept in (50, 80):
        mean = mean_with_interval(errors[order[: max(len(order) * kept // 100, 1)]], looked_at=2)
        figures.append(
            mean.figure(
                f"calibration.error.kept_{kept}",
                f"Where the model answers only the {kept} % of the texts of which it is surest, {mean.value:.1%} of "
                f"the answers are wrong; of all texts {errors.mean():.1%}.",
            )
        )
    return figures
