"""Drift: whether the texts and the answers of another table, such as live texts, are like those that are audited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.audit.groups import Comparison, compare_groups
from peftlab.audit.two_samples import told_apart
from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Unit, errors_of, texts_of
from peftlab.core.errors import ConfigError, DataError
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.core.words import WORD, word_set
from peftlab.data.columns import take
from peftlab.statistics.means import exceeds, mean_with_interval
from peftlab.statistics.pairs import holm
from peftlab.statistics.proportions import DifferenceOfProportions, difference_of_proportions
from peftlab.statistics.shift import counts_differ, distributions_differ, shifted_words

EXAMPLES = 5
FEWEST_ROWS = 40
WORDS = 10


@AUDITS.register("shift")
class Shift(Audit):
    """Drift: whether texts and answers of another table, such as live texts, are like those of the audited rows."""

    title = "Another table, such as live texts"
    order = 70

    data: str | None = Field(None, min_length=1, description="The other table; its texts are enough.")
    labeled: bool = Field(False, description="Whether it also says what is right: then the errors are compared too.")
    texts: int = Field(2000, ge=FEWEST_ROWS, description="Rows of each table at most that are compared.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs another table."""
        return None if self.data else "give another table, such as live texts: --set shift.data=FILE"

    def tables(self) -> tuple[str, ...]:
        """The other table."""
        return (self.data,) if self.data else ()

    def texts_read(self, audited: Audited) -> int:
        """Vectors of both tables, and answers to the other; how long that is, is not known yet."""
        return 3 * min(self.texts, len(audited))

    def run(self, audited: Audited) -> Findings:
        """Compare.

        Raises:
            UserError: The other table cannot be used.
        """
        if self.data is None:
            raise ConfigError("a table is needed", where="shift.data")
        new = audited.table(Path(self.data), need="labels" if self.labeled else "texts")
        if min(len(new), len(audited)) < FEWEST_ROWS:
            raise DataError(
                f"{len(new)} and {len(audited)} rows are too few: each table needs {FEWEST_ROWS}", where=self.data
            )
        if len(new) > self.texts:
            chosen = audited.random("shift rows").choice(len(new), self.texts, replace=False)
            new = take(new, np.sort(chosen).tolist())
        kept = audited.sample("shift", self.texts)
        old, texts = take(audited.rows, kept), texts_of(new, audited.task)
        before = [audited.texts[at] for at in kept]
        figures = _told_apart(audited, old, new, before, texts)
        if not audited.has_images:
            figures += [_length(before, texts), *_new_words(audited, before, texts), _words(before, texts)]
        said = [audited.predictions[at] for at in kept]
        if any(audited.task.decisions(each) for each in said):
            answers = audited.model.predict(new)
            figures += _answers(audited, said, answers)
            figures += [_errors(audited, said, answers)] if self.labeled else []
        corrected = holm([float(figure.p_value or 0.0) for figure in figures])
        every = [replace(figure, p_value=p_value) for figure, p_value in zip(figures, corrected, strict=True)]
        return Findings(every, [f"{len(texts):,} texts of {self.data} against {len(before):,} audited ones."])


def _told_apart(audited: Audited, old: Split, new: Split, before: Sequence[str], after: Sequence[str]) -> list[Figure]:
    """None where a table says the same thing in every row: then there is no other text to ask about."""
    # The same text in both halves would be known by heart, and would be told apart without a shift.
    first, second = ({text: at for at, text in enumerate(texts)} for texts in (before, after))
    if min(len(first), len(second)) < 2:
        return []
    old, new = take(old, list(first.values())), take(new, list(second.values()))
    columns = {name: [*old.columns[name], *new.columns[name]] for name in audited.task.text_columns()}
    vectors = audited.model.embed(Split("both", range(len(old) + len(new)), columns))
    right, sure = told_apart(vectors[: len(old)], vectors[len(old) :], audited.random("shift classifier"))
    mean = mean_with_interval(right)
    places = [at for at in np.argsort(-sure, kind="stable").tolist() if not np.isnan(sure[at])][:EXAMPLES]
    texts = list(second)
    return [
        mean.figure(
            "shift.told_apart",
            f"A classifier tells in {mean.value:.1%} of the texts which table they are from; if both were alike, it "
            "would be 50 %. The examples look most like the other table.",
            p_value=exceeds(right, 0.5),
            examples=[{"text": texts[at], "probability": round(float(sure[at]), 3)} for at in places],
        )
    ]


def _length(before: Sequence[str], after: Sequence[str]) -> Figure:
    counts = [np.array([len(WORD.findall(text)) for text in texts], dtype=np.float64) for texts in (before, after)]
    sentence = "The texts of the other table have {:.1f} words on average, those of the audited rows {:.1f}."
    return _difference("shift.length", sentence, *counts, unit="number")


def _new_words(audited: Audited, before: Sequence[str], after: Sequence[str]) -> list[Figure]:
    if audited.train is None:
        return []
    known = set().union(*map(word_set, texts_of(audited.train, audited.task)))
    shares = []
    for texts in (before, after):
        words = [word_set(text) for text in texts]
        shares.append(np.array([len(each - known) / max(len(each), 1) for each in words], dtype=np.float64))
    return [
        _difference("shift.unknown_words", "Of a text's words, training did not have {:.1%} in the other table, and "
                    "{:.1%} in the audited rows.", *shares)
    ]  # fmt: skip


def _words(before: Sequence[str], after: Sequence[str]) -> Figure:
    found = shifted_words([word_set(text) for text in before], [word_set(text) for text in after])
    shown = [word for word in found if word.p_value <= 0.05]
    listed = ", ".join(f"{each.word} ({each.before:.1%} → {each.after:.1%})" for each in shown[:WORDS])
    return Figure(
        "shift.words",
        float(len(shown)),
        len(found),
        f"{len(shown)} of {len(found)} words are in more or fewer texts of the other table than chance explains"
        f"{': ' + listed if listed else ''}.",
        sampled="words",
        unit="count",
        p_value=found[0].p_value if found else 1.0,
    )


def _answers(audited: Audited, before: Sequence[Prediction], after: Sequence[Prediction]) -> list[Figure]:
    """Of rows with one answer: several of one text are no independent ones."""
    figures = []
    first, second = ([audited.task.decisions(each) for each in said] for said in (before, after))
    if any(len(each) != 1 for each in (*first, *second)):
        return []
    answers, others = [each[0][1] for each in first], [each[0][1] for each in second]
    if isinstance(answers[0], float):
        sentence = "The mean answer is {:.3g} in the other table, and {:.3g} in the audited rows."
        return [_difference("shift.answers", sentence, np.array(answers), np.array(others), unit="number")]
    distance, p_value = counts_differ(answers, others, audited.random("shift answers"))
    figures.append(
        Figure(
            "shift.answers",
            distance,
            len(answers) + len(others),
            f"{distance:.1%} of the answers would have to be others for both tables to have the same shares of them"
            f"{_largest(answers, others)}.",
            p_value=p_value,
        )
    )
    if audited.probabilities is not None:
        sureness = [np.array([max(each.scores) for each in said], dtype=np.float64) for said in (before, after)]
        figures.append(_difference("shift.confidence", "The answers have a probability of {:.1%} on average in the "
                                   "other table, and {:.1%} in the audited rows.", *sureness))  # fmt: skip
    return figures


def _errors(audited: Audited, before: Sequence[Prediction], after: Sequence[Prediction]) -> Figure:
    first, second = errors_of(audited.task, before), errors_of(audited.task, after)
    found: Comparison | DifferenceOfProportions
    if audited.counts_errors and np.isin((*first, *second), (0, 1)).all():
        # Of few errors, or none, variances tell too little.
        found = difference_of_proportions(int(second.sum()), len(second), int(first.sum()), len(first))
    else:
        found = compare_groups(second, first)
    shown = ".1%" if audited.counts_errors else ".3g"
    return Figure(
        "shift.error",
        found.difference,
        len(first) + len(second),
        f"The error is {second.mean():{shown}} in the other table and {first.mean():{shown}} in the audited rows.",
        low=found.low,
        high=found.high,
        unit="difference" if audited.counts_errors else "number",
        p_value=found.p_value,
    )


def _largest(before: Sequence[object], after: Sequence[object]) -> str:
    """The answer whose share differs most, in words."""
    kinds = dict.fromkeys([*before, *after])
    shares = {kind: (before.count(kind) / len(before), after.count(kind) / len(after)) for kind in kinds}
    kind = max(shares, key=lambda each: abs(shares[each][1] - shares[each][0]))
    return f", most of all {kind} ({shares[kind][0]:.1%} → {shares[kind][1]:.1%})"


def _difference(
    name: str, sentence: str, before: NDArray[np.float64], after: NDArray[np.float64], *, unit: Unit = "difference"
) -> Figure:
    """The difference of two means, with Welch's interval; any difference of the distributions is what is tested."""
    found = compare_groups(after, before)
    return Figure(
        name,
        found.difference,
        len(before) + len(after),
        sentence.format(after.mean(), before.mean()),
        low=found.low,
        high=found.high,
        unit=unit,
        higher_is_better=None,
        p_value=distributions_differ(before, after),
    )
