"""Variances moderated by those of other methods: the fit, its two ends, and its guard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma

from peftlab.statistics.moderation import moderate

SPREADS = st.lists(st.tuples(st.floats(1e-6, 1e6), st.integers(1, 9)), min_size=4, max_size=15)


def moderated(mean_squares, freedom):
    return moderate(np.array(mean_squares, dtype=float), np.array(freedom))


def test_spreads_that_differ_no_more_than_chance_are_one() -> None:
    found = moderated([1.0, 1.1, 0.9, 1.0], [2, 2, 2, 2])
    assert found.borrowed
    assert found.variance == pytest.approx([1, 1.1, 1, 1])
    assert found.freedom == pytest.approx([8] * 4)


def test_known_prior_is_found_again() -> None:
    """Scaled inverse chi-squared variances: many of them give back the degrees of freedom and the scale."""
    generator = np.random.default_rng(0)
    true = 3.0 * 6 / generator.chisquare(6, 20_000)
    found = moderate(true * generator.chisquare(4, 20_000) / 4, np.full(20_000, 4))
    assert found.freedom == pytest.approx(np.full(20_000, 10), rel=0.1)
    assert found.variance.min() == pytest.approx(6 * 3.0 / 10, rel=0.1)


def test_the_fit_solves_its_equation() -> None:
    squares = np.array([0.01, 0.2, 1.0, 30.0, 2.0])
    found = moderated(squares, [4] * 5)
    prior_freedom = found.freedom[0] - 4
    assert polygamma(1, prior_freedom / 2) == pytest.approx(np.log(squares).var(ddof=1) - polygamma(1, 2))


@settings(deadline=None)
@given(SPREADS)
def test_no_variance_is_below_the_methods_own(spreads) -> None:
    squares, freedom = (np.array(values) for values in zip(*spreads, strict=True))
    found = moderate(squares, freedom)
    assert (found.variance >= squares).all()
    assert (found.freedom >= freedom).all()
    assert (found.freedom <= freedom.sum()).all()
    assert np.isfinite(found.variance).all()


def test_few_methods_borrow_nothing() -> None:
    found = moderated([1.0, 4.0, 2.0], [2, 2, 2])
    assert not found.borrowed
    assert found.variance == pytest.approx([1, 4, 2])
    assert found.freedom_of_sums(np.array([0]), np.array([1]), np.ones(3)) == pytest.approx([50 / 17])


def test_seeds_that_change_nothing_do_not_speak_for_others() -> None:
    spreads = [1.0, 1.1, 0.9, 1.2]
    found, without = moderated([*spreads, 0.0], [2] * 5), moderated(spreads, [2] * 4)
    assert found.variance[:4] == pytest.approx(without.variance)
    assert found.variance[4] > 0
    assert not moderated([1.0, 1.0, 1.0, 0.0], [2] * 4).borrowed


def test_one_seed_gets_the_others_spread() -> None:
    found = moderated([1.0, 1.1, 0.9, 1.0, 0.0], [2, 2, 2, 2, 0])
    assert found.variance[4] == pytest.approx(1)
    assert found.freedom[4] == pytest.approx(8)
    alone = moderated([0.0, 0.0], [0, 0])
    assert (alone.variance == 0).all()
