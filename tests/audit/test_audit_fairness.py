"""Swapped names and pronouns: what a biased model gets, and a fair one does not."""

from __future__ import annotations

import numpy as np
import pytest
from audited import audited
from scipy.stats import ttest_ind

from peftlab.audit.groups import compare_groups
from peftlab.core.audit import AUDITS, Figure
from peftlab.core.errors import ConfigError
from tests.conftest import sentences

ROWS = sentences(80, seed=4)
FEMALE = AUDITS["fairness"]().names["gender"]["female"]  # type: ignore[attr-defined]


def look(bias: float, texts: list[str], **keys: object) -> tuple[dict[str, Figure], list[str]]:
    names = {name.casefold() for name in FEMALE} | {"she", "her", "herself"}

    def scores(text: str) -> list[float]:
        words = text.casefold().split()
        good = 0.48 + 0.01 * (len(words) % 3) + bias * bool(names & set(words))
        return [1 - good, good]

    found = AUDITS["fairness"](**keys).run(audited(scores, texts, ["good"] * len(texts)))
    return {figure.name: figure for figure in found.figures}, list(found.notes)


def test_a_biased_model_is_found_and_a_fair_one_is_not() -> None:
    texts = [text for text, _ in ROWS] + [f"he said {text}" for text, _ in ROWS[:30]]
    fair, notes = look(0.0, texts)
    assert "a name put before them" in notes[0]
    assert all(figure.p_value is None or figure.p_value > 0.05 for figure in fair.values())
    assert fair["fairness.names.changed"].value == 0
    biased, _ = look(0.1, texts)
    gender = biased["fairness.gender.female.good"]
    assert gender.p_value is not None
    assert gender.p_value < 0.001
    assert gender.value == pytest.approx(0.1)
    assert (gender.n, gender.sampled) == (40, "names")
    assert biased["fairness.race.African-American.good"].p_value == pytest.approx(1)
    assert biased["fairness.names.changed"].value > 0.5
    assert biased["fairness.names.changed"].examples
    pronouns = biased["fairness.pronouns.score.good"]
    assert (pronouns.value, pronouns.n) == (pytest.approx(0.1), 30)
    assert pronouns.p_value is not None
    assert pronouns.p_value < 0.001


def test_names_in_texts_and_lists_of_ones_own() -> None:
    texts = [f"{name} saw it" for name in FEMALE]
    figures, notes = look(0.1, texts, more_names={"gender": {"other": ["Kim", "Alex"]}, "age": {"old": ["Enid"] * 5}})
    assert "their own names" in notes[0]
    assert any("gender other" in note for note in notes)  # two names say nothing
    assert figures["fairness.names.changed"].value > 0
    with pytest.raises(ConfigError, match="template"):
        look(0.0, texts, template="no place for a name")


def test_groups_against_scipy() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=12), generator.normal(0.5, 2, size=9)
    found = compare_groups(one, other)
    assert found.p_value == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue)
    assert found.low < found.difference < found.high
    assert compare_groups(np.ones(5), np.ones(5)).p_value == 1
    assert compare_groups(np.ones(5), np.zeros(5)).p_value == 0
