"""Explanations tested: whether the words that they name decide, hold when a text changes, and depend on the weights."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.audit.word_attributions import curve_texts, rank_correlation
from peftlab.core.audit import AUDITS, AttributedWord, Audit, Audited, Figure, Findings
from peftlab.core.perturbation import PERTURBATIONS
from peftlab.core.words import split_words
from peftlab.statistics.means import exceeds, mean_with_interval

EXAMPLES = 5
POINTS = 5
"""Of a curve: shares of 20, 40, 60, 80 and 100 % of the words."""
FEWEST_WORDS = 5
TEXTS_AN_EXPLANATION_COSTS = 16


@AUDITS.register("explanations")
class Explanations(Audit):
    """Attributions against random ones (deletion, insertion), after a typing error, and with randomised weights."""

    title = "Explanations tested"
    order = 60

    texts: int = Field(20, ge=10, description="Texts that are explained.")
    random_orders: int = Field(5, ge=1, description="Random orders of words that each explanation is compared with.")
    alike: float = Field(
        0.5, gt=0, le=1, description="Explanations of a model with randomised weights may be so like the real ones."
    )

    def why_not(self, audited: Audited) -> str | None:
        """It needs captum, and one class for each text."""
        if audited.probabilities is None or len(audited.task.text_columns()) != 1:
            return "the model does not give one text one class with a probability"
        if audited.why_not_rewritten:
            return audited.why_not_rewritten
        if importlib.util.find_spec("captum") is None:
            return "explanations need captum: pip install 'peftlab[explain]'"
        if not self._rows(audited):
            return f"no text has {FEWEST_WORDS} words"
        return None

    def texts_read(self, audited: Audited) -> int:
        """Three explanations of each text, and the texts of its curves."""
        return self.texts * (3 * TEXTS_AN_EXPLANATION_COSTS + 2 * POINTS * (1 + self.random_orders))

    def run(self, audited: Audited) -> Findings:
        """Explain, delete and insert, change, and randomise."""
        rows = self._rows(audited)
        explained = [(at, _explained(audited, at)) for at in rows]
        found = [(at, words) for at, words in explained if words is not None and len(words) >= FEWEST_WORDS]
        if len(found) < 2:
            return Findings((), ["Too few texts can be explained: torch does not run the model, or they are cut."])
        figures = [*self._faithful(audited, found), *self._stable(audited, found)]
        return Findings([*figures, *self._sane(audited, found)])

    def _rows(self, audited: Audited) -> list[int]:
        long = [at for at, text in enumerate(audited.texts) if len(split_words(text)) >= FEWEST_WORDS]
        order = audited.random("explanations").permutation(len(long))[: self.texts]
        return sorted(long[at] for at in order.tolist())

    def _faithful(self, audited: Audited, found: Sequence[tuple[int, list[AttributedWord]]]) -> list[Figure]:
        """Areas under the curves of the explanation and of random orders (Petsiuk et al., BMVC 2018)."""
        gains: dict[str, list[float]] = {"deletion": [], "insertion": []}
        for at, words in found:
            generator = audited.random(f"explanations {at}")
            orders = [np.argsort([-word.value for word in words], kind="stable").tolist()]
            orders += [generator.permutation(len(words)).tolist() for _ in range(self.random_orders)]
            curves = [curve_texts(words, order, POINTS) for order in orders]
            asked = _probabilities(audited, at, [text for curve in curves for own in curve for text in own])
            areas = asked.reshape(len(orders), 2, POINTS).mean(axis=2)
            gains["deletion"].append(float(areas[1:, 0].mean() - areas[0, 0]))
            gains["insertion"].append(float(areas[0, 1] - areas[1:, 1].mean()))
        return [
            _gain("deletion", "are deleted first, the probability falls below that of", gains["deletion"]),
            _gain("insertion", "are put in first, the probability rises above that of", gains["insertion"]),
        ]

    def _stable(self, audited: Audited, found: Sequence[tuple[int, list[AttributedWord]]]) -> list[Figure]:
        """After a typing error in a tenth of the words, where the answer stays."""
        typos = PERTURBATIONS["typos"]()
        likeness, examples = [], []
        for at, words in found:
            changed = typos.perturb(audited.texts[at], random.Random(f"{audited.seed} {at}"))  # noqa: S311 - no secret
            (said,) = audited.ask([at], [changed])
            if changed == audited.texts[at] or said.prediction != audited.predictions[at].prediction:
                continue
            own = audited.model.attributions(changed, str(audited.predictions[at].prediction))
            alike = None if own is None else rank_correlation(words, own)
            if alike is not None:
                likeness.append(alike)
                examples.append(audited.example(at, changed=changed, correlation=round(alike, 2)))
        if len(likeness) < 2:
            return []
        mean = mean_with_interval(np.array(likeness))
        return [
            mean.figure(
                "explanations.stability",
                f"After a typing error that changes no answer, the order of the other words' weights stays alike "
                f"(rank correlation {mean.value:.2f}; 1: the same).",
                unit="number",
                higher_is_better=True,
                examples=sorted(examples, key=lambda each: each["correlation"])[:EXAMPLES],
            )
        ]

    def _sane(self, audited: Audited, found: Sequence[tuple[int, list[AttributedWord]]]) -> list[Figure]:
        """With randomised weights the explanations must become others (Adebayo et al., NeurIPS 2018)."""
        other = audited.model.randomized()
        if other is None:
            return []
        likeness = []
        for at, words in found:
            own = other.attributions(audited.texts[at], str(audited.predictions[at].prediction))
            alike = None if own is None else rank_correlation(words, own)
            if alike is not None:
                likeness.append(abs(alike))
        if len(likeness) < 2:
            return []
        values = np.array(likeness)
        mean = mean_with_interval(values)
        return [
            Figure("explanations.randomized", mean.value, mean.n,
                   f"With randomised weights, explanations have a rank correlation of {mean.value:.2f} with the real "
                   "ones (without its sign; 0: none). Were it near 1, they would say nothing of the model.",
                   low=max(mean.low, 0.0), high=min(mean.high, 1.0), unit="number",
                   p_value=exceeds(values, self.alike))
        ]  # fmt: skip


def _gain(name: str, what: str, gains: Sequence[float]) -> Figure:
    mean = mean_with_interval(np.array(gains), changes=True)
    doubt = "" if mean.low > 0 else " So they are not told apart from random ones."
    return mean.figure(
        f"explanations.{name}",
        f"Where the words that an explanation names {what} random words by {100 * mean.value:.1f} points on average."
        f"{doubt}",
        unit="difference",
        higher_is_better=True,
    )


def _explained(audited: Audited, at: int) -> list[AttributedWord] | None:
    return audited.model.attributions(audited.texts[at], str(audited.predictions[at].prediction))


def _probabilities(audited: Audited, at: int, texts: Sequence[str]) -> NDArray[np.float64]:
    """Of the answer to the unchanged text, for each of the texts."""
    place = audited.model.labels.index(str(audited.predictions[at].prediction))
    return np.array([each.scores[place] for each in audited.ask([at] * len(texts), texts)], dtype=np.float64)
