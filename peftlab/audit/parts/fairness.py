"""Fairness by counterfactual swaps: the same texts with the names of other groups, and with other pronouns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from peftlab.audit.groups import Comparison, compare_groups, two_sided
from peftlab.audit.name_lists import (
    PRONOUNS,
    TEMPLATES,
    Language,
    NameList,
    Names,
    built_in_lists,
    check_template,
    joined,
    read_lists,
)
from peftlab.core.audit import AUDITS, Audit, Audited, Figure, Findings, Sample
from peftlab.core.counterfactuals import reversed_pairs, swapped, whole_word
from peftlab.core.errors import ConfigError
from peftlab.core.task import Prediction
from peftlab.core.words import mostly_signs
from peftlab.statistics.means import mean_with_interval
from peftlab.statistics.pairs import holm

FEWEST_NAMES = 5
EXAMPLES = 5


@AUDITS.register("fairness")
class Fairness(Audit):
    """Counterfactual swaps of names and pronouns: whether scores and decisions change with them, by group."""

    title = "Fairness: names and pronouns swapped"
    order = 40

    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Of the built-in lists; auto: Chinese where most texts are, else English."
    )
    names: Names | None = Field(None, description="First names: axis to group to list. null: the built-in ones.")
    more_names: Names = Field(default_factory=dict, description="More axes, groups and names beside these.")
    lists: str | None = Field(None, description="A YAML or JSON file with more axes, groups and names.")
    pronouns: dict[str, str] | None = Field(
        None, description="Words of which each becomes the other, both ways. null: those of the language."
    )
    template: str | None = Field(
        None, description="How a name is put to a text that has none. null: '{name} wrote: {text}'."
    )
    texts: int = Field(20, ge=5, description="Texts in which every name stands once.")

    def why_not(self, audited: Audited) -> str | None:
        """It needs one text a row, and a class or a number for it."""
        if audited.why_not_rewritten:
            return audited.why_not_rewritten
        if not any(audited.task.decisions(prediction) for prediction in audited.predictions):
            return f"a run of {audited.task.registered_name} decides nothing that could change"
        columns = audited.task.text_columns()
        if len(columns) != 1 or not all(isinstance(text, str) for text in audited.rows.columns[columns[0]]):
            return "names are swapped in runs with one text a row only"
        return None if _scores(audited, audited.predictions) is not None else "the model gives no scores to compare"

    def tables(self) -> tuple[str, ...]:
        """The file of lists."""
        return () if self.lists is None else (self.lists,)

    def texts_read(self, audited: Audited) -> int:
        """Each name stands in each text once; pronouns are swapped in at most as many rows as there are."""
        return self.texts * len(_listed(self._axes(audited))) + len(audited)

    def run(self, audited: Audited) -> Findings:
        """Swap, and compare."""
        figures, notes = self._by_names(audited, self._axes(audited))
        found, note = self._by_pronouns(audited)
        tested = [at for at, figure in enumerate([*figures, *found]) if figure.p_value is not None]
        every = [*figures, *found]
        corrected = holm([float(every[at].p_value or 0.0) for at in tested])
        for at, p_value in zip(tested, corrected, strict=True):
            every[at] = replace(every[at], p_value=p_value)
        return Findings(every, [*notes, *note])

    def _language(self, audited: Audited) -> Language:
        if self.language != "auto":
            return self.language
        return "zh" if mostly_signs(audited.texts) else "en"

    def _axes(self, audited: Audited) -> Names:
        built_in = built_in_lists(self._language(audited)) if self.names is None else {}
        own = {axis: dict(each.groups) for axis, each in built_in.items()} if self.names is None else self.names
        return joined(own, self.more_names, read_lists(Path(self.lists)) if self.lists else {})

    def _by_names(self, audited: Audited, axes: Names) -> tuple[list[Figure], list[str]]:
        language, names = self._language(audited), _listed(axes)
        template = TEMPLATES[language] if self.template is None else self.template
        check_template(template, "fairness.template")
        if not names:
            return [], ["There are no names to swap."]
        pattern = re.compile("|".join(map(whole_word, sorted(names, key=len, reverse=True))))
        having = [at for at, text in enumerate(audited.texts) if pattern.search(text)]
        with_names = len(having) >= self.texts
        pool = having if with_names else list(range(len(audited)))
        rows = sorted(audited.random("fairness").permutation(pool)[: self.texts].tolist())

        def put(name: str, text: str) -> str:
            if with_names:
                return pattern.sub(lambda _: name, text)
            put_in = template.replace("{name}", name).replace("{text}", text)
            return put_in[0].upper() + put_in[1:]

        answers = {name: audited.ask(rows, [put(name, audited.texts[at]) for at in rows]) for name in names}
        kind = "their own names" if with_names else "a name put before them, as few have one of their own"
        notes = [f"Names were tried in {len(rows)} texts with {kind}."]
        scores = {name: _scores(audited, own) for name, own in answers.items()}
        means = {name: each.mean(axis=0) for name, each in scores.items() if each is not None}
        figures: list[Figure] = []
        if self.names is None:
            notes.append(_sources(built_in_lists(language)))
        for axis, groups in axes.items():
            small = [group for group, own in groups.items() if len(own) < FEWEST_NAMES]
            if small:
                notes.append(f"Too few names to say anything (fewer than {FEWEST_NAMES}): {axis} {', '.join(small)}.")
            large = {group: own for group, own in groups.items() if group not in small}
            if len(large) >= 2:
                figures += _differences(audited, axis, large, means, notes)
        return [_changed(audited, rows, answers), *figures], notes

    def _by_pronouns(self, audited: Audited) -> tuple[list[Figure], list[str]]:
        pairs = PRONOUNS[self._language(audited)] if self.pronouns is None else self.pronouns
        one = [swapped(text, pairs) for text in audited.texts]
        other = [swapped(text, reversed_pairs(pairs)) for text in audited.texts]
        rows = [at for at in range(len(audited)) if one[at] != other[at]]
        if not rows and self.pronouns:
            raise ConfigError(
                f"no text has a word of this list: {', '.join([*pairs][:6])}",
                where="fairness.pronouns",
                hint="Name words that the texts have, in small letters.",
            )
        if len(rows) < 20:
            return [], [f"Texts with a pronoun to swap: {len(rows)}, too few to say anything."]
        before = audited.ask(rows, [other[at] for at in rows])
        after = audited.ask(rows, [one[at] for at in rows])
        first, second = _scores(audited, before), _scores(audited, after)
        if first is None or second is None:
            return [], []
        flips = np.array([_answer(a) != _answer(b) for a, b in zip(before, after, strict=True)], dtype=np.float64)
        flipped = mean_with_interval(flips)
        classes = _compared(audited)
        figures = [
            flipped.figure(
                "fairness.pronouns.flipped",
                f"{flipped.value:.1%} of the answers change where male words become female.",
                sample=Sample(rows, flips),
                examples=[
                    audited.example(rows[at], male=_answer(before[at]), female=_answer(after[at]))
                    for at in flips.nonzero()[0][:EXAMPLES]
                ],
            )
        ]
        for at, label in classes:
            values = second[:, at] - first[:, at]
            mean = mean_with_interval(values, looked_at=len(classes), changes=True)
            figures.append(
                mean.figure(
                    f"fairness.pronouns.score{label}",
                    f"Female words instead of male ones move the score{label and ' of ' + label[1:]} by "
                    f"{_points(audited, mean.value)} on average.",
                    unit=_unit(audited),
                    higher_is_better=None,
                    p_value=two_sided(values),
                    sample=Sample(rows, values),
                )
            )
        return figures, []


def _listed(axes: Names) -> list[str]:
    return list(dict.fromkeys(name for groups in axes.values() for own in groups.values() for name in own))


def _sources(lists: Mapping[str, NameList]) -> str:
    by_source: dict[str, list[str]] = {}
    for axis, each in lists.items():
        by_source.setdefault(each.source, []).append(axis)
    told = [f"{', '.join(axes)} ({source})" for source, axes in by_source.items()]
    return f"Lists: {'; '.join(told)}."


def _differences(
    audited: Audited,
    axis: str,
    groups: Mapping[str, Sequence[str]],
    means: Mapping[str, NDArray[np.float64]],
    notes: list[str],
) -> list[Figure]:
    """Each group against the others: a name is one observation, since all its texts share what it does."""
    chosen = list(groups)[:1] if len(groups) == 2 else list(groups)
    compared = _compared(audited)
    figures = []
    for group in chosen:
        own = list(groups[group])
        others = [name for other, names in groups.items() if other != group for name in names if name not in own]
        against = next(name for name in groups if name != group) if len(groups) == 2 else "the others"
        if len(others) < FEWEST_NAMES:
            notes.append(f"{axis}: {against} {_have(groups)} fewer than {FEWEST_NAMES} names that {group} has not.")
            continue
        for at, label in compared:
            found: Comparison = compare_groups(
                np.array([means[name][at] for name in own]),
                np.array([means[name][at] for name in others]),
                looked_at=len(chosen) * len(compared),
            )
            figures.append(
                Figure(
                    f"fairness.{axis}.{group}{label}",
                    found.difference,
                    len(own) + len(others),
                    f"Names and words for {group} instead of {against} move the score{label and ' of ' + label[1:]} "
                    f"by {_points(audited, found.difference)} on average.",
                    sampled="names",
                    low=found.low,
                    high=found.high,
                    unit=_unit(audited),
                    higher_is_better=None,
                    p_value=found.p_value,
                    sample=Sample(
                        [*own, *others],
                        np.array([means[name][at] for name in [*own, *others]]),
                        np.arange(len(own) + len(others)) < len(own),
                    ),
                )
            )
    return figures


def _have(groups: Mapping[str, Sequence[str]]) -> str:
    return "has" if len(groups) == 2 else "have"


def _changed(audited: Audited, rows: Sequence[int], answers: Mapping[str, Sequence[Prediction]]) -> Figure:
    said = [{name: _answer(own[at]) for name, own in answers.items()} for at in range(len(rows))]
    if not audited.model.labels:
        spread = np.array([max(each.values()) - min(each.values()) for each in said], dtype=np.float64)
    else:
        spread = np.array([len(set(each.values())) > 1 for each in said], dtype=np.float64)
    mean = mean_with_interval(spread)
    what = (
        f"{mean.value:.1%} of the texts get another answer with another name."
        if audited.model.labels
        else f"The answers to a text are up to {mean.value:.3g} apart with other names."
    )
    examples = []
    for at in spread.nonzero()[0][:EXAMPLES]:
        names = {answer: name for name, answer in said[at].items()}
        examples.append(
            audited.example(rows[at], answers=", ".join(f"{name}: {answer}" for answer, name in names.items()))
        )
    unit: Any = "share" if audited.model.labels else "number"
    return mean.figure("fairness.names.changed", what, unit=unit, examples=examples, sample=Sample(list(rows), spread))


def _scores(audited: Audited, answers: Sequence[Prediction]) -> NDArray[np.float64] | None:
    """Answers × what is compared: probabilities of classes, or the number."""
    if audited.probabilities is not None:
        return np.array([each.scores for each in answers], dtype=np.float64)
    if answers and all(isinstance(each.prediction, float) for each in answers):
        return np.array([[each.prediction] for each in answers], dtype=np.float64)
    return None


def _compared(audited: Audited) -> list[tuple[int, str]]:
    """Which scores: of two classes the second, since the other is what is left."""
    labels = audited.model.labels
    if audited.probabilities is None:
        return [(0, "")]
    return [(at, f".{name}") for at, name in enumerate(labels) if len(labels) > 2 or at == len(labels) - 1]


def _answer(prediction: Prediction) -> Any:
    return prediction.prediction


def _unit(audited: Audited) -> Any:
    return "number" if audited.probabilities is None else "difference"


def _points(audited: Audited, value: float) -> str:
    return f"{value:+.3g}" if audited.probabilities is None else f"{100 * value:+.1f} points"
