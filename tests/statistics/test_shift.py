"""Tests of two tables: how often they alarm where nothing differs, and whether they see what does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from peftlab.statistics.shift import counts_differ, distributions_differ, shifted_words


def test_answers() -> None:
    generator = np.random.default_rng(0)
    before, after = ["a"] * 60 + ["b"] * 30 + ["c"] * 10, ["a"] * 80 + ["b"] * 90 + ["d"] * 10
    distance, p_value = counts_differ(before, after, generator)
    assert distance == pytest.approx((abs(0.6 - 80 / 180) + abs(0.3 - 0.5) + 0.1 + 10 / 180) / 2)
    assert p_value < 0.001
    mild = [["x"] * 55 + ["y"] * 45, ["x"] * 48 + ["y"] * 52]
    expected = chi2_contingency([[55, 45], [48, 52]], correction=False).pvalue
    assert counts_differ(*mild, generator)[1] == pytest.approx(expected, abs=0.12)  # exact, so some greater
    alarms = sum(
        counts_differ(
            list(generator.choice(20, 50, p=rare())), list(generator.choice(20, 80, p=rare())), generator, 199
        )[1]
        <= 0.05
        for _ in range(300)
    )
    assert alarms <= 27  # 15 are expected; binomial, p < 0.003 beyond
    assert counts_differ([], ["a"], generator) == (0, 1)


def rare() -> np.ndarray:
    shares = 0.6 ** np.arange(20)
    return np.asarray(shares / shares.sum())


def test_numbers() -> None:
    generator = np.random.default_rng(1)
    assert distributions_differ(generator.normal(size=200), generator.normal(0.5, size=200)) < 0.01
    same = sum(distributions_differ(generator.poisson(5, 60), generator.poisson(5, 90)) <= 0.05 for _ in range(300))
    assert same <= 27
    assert distributions_differ(np.array([]), np.array([1.0])) == 1


def test_words() -> None:
    generator = np.random.default_rng(2)
    words = [f"word{at}" for at in range(60)]

    def texts(count: int, likelier: float = 0.1) -> list[set[str]]:
        drawn = generator.random((count, 60)) < np.where(np.arange(60) == 7, likelier, 0.1)
        return [{words[at] for at in np.flatnonzero(row)} for row in drawn]

    found = shifted_words(texts(300), texts(200, 0.4))
    assert found[0].word == "word7"
    assert found[0].p_value < 0.001
    assert found[0].before < 0.2 < found[0].after
    assert [each.p_value for each in found] == sorted(each.p_value for each in found)
    assert sum(shifted_words(texts(100), texts(100))[0].p_value <= 0.05 for _ in range(20)) <= 4
    assert shifted_words([{"once"}], [{"once"}]) == []
