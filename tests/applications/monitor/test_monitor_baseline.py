"""The mathematics of surges: against scipy, and by simulation from a known process."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.applications.monitor_rate import known_course, simulate, stated_ratio
from peftlab.applications.monitor.baseline import (
    DAY,
    WEEK,
    Baseline,
    fit_baseline,
    fit_excess,
    predict,
    tail,
)
from peftlab.applications.monitor.building import history
from peftlab.applications.monitor.evaluation import _classes, watched_hours
from peftlab.applications.monitor.posts import Labelled
from peftlab.applications.monitor.settings import Watch
from peftlab.applications.monitor.surges import QUIET, begins, counts_of, draw, score
from peftlab.applications.monitor.trial import Watched, try_on

pytestmark = pytest.mark.slow
WATCH = Watch.model_validate({})
ONE = np.array([0])


def process(level: float, excess: float) -> Baseline:
    return Baseline(known_course(), np.array([excess]), np.array([level]), 0.95)


def test_the_tail_is_scipys() -> None:
    counts, means = np.array([[0.0, 3.0, 17.0]]), np.array([[0.4, 5.0, 6.0]])
    phi = np.array([[0.3, 0.05, 1.0]])
    reference = stats.nbinom(1 / phi, 1 / (1 + phi * means))
    for uniform in (0.0, 0.5, 1.0):
        wanted = reference.sf(counts) + uniform * reference.pmf(counts)
        np.testing.assert_allclose(tail(counts, means, phi, np.full(counts.shape, uniform)), wanted, rtol=1e-8)


def test_tails_of_the_right_process_are_uniform() -> None:
    random = np.random.default_rng(0)
    means = random.uniform(0.2, 20, (1, 20_000))
    counts = random.poisson(random.gamma(1 / 0.2, 0.2 * means)).astype(float)
    found = tail(counts, means, np.full(means.shape, 0.2), random.random(means.shape))
    assert stats.kstest(found[0], "uniform").pvalue > 0.01


def test_course_level_and_excess_of_a_known_process_are_found() -> None:
    counts = np.concatenate(
        [draw(process(level, 2.0), ONE, 8 * WEEK, 0, np.random.default_rng(1)) for level in (3, 20)]
    )
    found = fit_baseline(counts, 0, discount=0.97)
    np.testing.assert_allclose(found.level, [3, 20], rtol=0.35)
    assert ((found.excess > 1.2) & (found.excess < 3.2)).all()
    for row in found.profile:
        assert np.corrcoef(row, known_course()[0])[0, 1] > 0.8
    weekend = found.profile[:, 5 * DAY :].mean(1) / found.profile[:, : 5 * DAY].mean(1)
    np.testing.assert_allclose(weekend, 0.7, atol=0.12)
    means = np.broadcast_to(20 * known_course()[:, np.arange(8 * WEEK) % WEEK], (1, 8 * WEEK))
    np.testing.assert_allclose(fit_excess(counts[1:], means), 2.0, rtol=0.2)


def test_what_comes_later_does_not_change_what_was_expected() -> None:
    counts = draw(process(10, 1.0), ONE, 2 * DAY, 0, np.random.default_rng(2))
    other = counts.copy()
    other[0, 30:] = 99
    before, after = (predict(each, 0, process(10, 1.0)) for each in (counts, other))
    np.testing.assert_array_equal(before.mean[:, :31], after.mean[:, :31])
    assert after.mean[0, 40] > before.mean[0, 40]  # a lasting change becomes the usual


def test_alarms_go_on_until_it_is_quiet() -> None:
    surges = np.zeros((1, 30), bool)
    surges[0, [3, 5, 5 + QUIET, 5 + 2 * QUIET + 1]] = True
    assert np.flatnonzero(begins(surges)[0]).tolist() == [3, 5 + 2 * QUIET + 1]


def test_the_stated_rate_holds_on_a_known_process() -> None:
    """A small run of benchmarks/applications/monitor_rate.py, which watches 1,000 weeks and more."""
    trial = simulate(level=8, excess=1.5, history=WEEK, alarms_a_month=8.0, weeks=16, watch=WATCH, seed=3)
    stated = 8.0 * trial.hours / (365.25 / 12 * 24)
    assert len(trial.alarms) == pytest.approx(stated, abs=3.5 * np.sqrt(stated))
    assert stated_ratio([trial], 8.0) == pytest.approx(len(trial.alarms) / stated)


def test_planted_surges_are_found_and_a_flat_series_raises_none() -> None:
    counts = draw(process(20, 1.0), ONE, 11 * DAY, 0, np.random.default_rng(4))
    trial = try_on({"all": Watched(4 * DAY, 9 * DAY, counts)}, WATCH, 0)  # 1970-01-05 is a Monday
    assert np.mean(trial.within_one) > 0.8
    assert np.mean(trial.within_two) > 0.9
    assert len(trial.alarms) <= 2
    scores = score(np.full((1, DAY), 20.0), 0, process(20, 1.0), np.full((1, DAY), 0.5))
    assert scores.min() > 1e-4


def test_surges_are_planted_only_where_no_alarm_goes_on() -> None:
    quiet = np.full((1, 5 * DAY), 20.0)
    loud = quiet.copy()
    loud[0, 4 * DAY + 8 : 4 * DAY + 10] = 200
    trials = [try_on({"a": Watched(0, 4 * DAY, counts)}, WATCH, 0) for counts in (quiet, loud)]
    assert [trial.alarms for trial in trials] == [[], [("a", 4 * DAY + 8, 200)]]
    assert [len(trial.within_one) for trial in trials] == [
        DAY - 1,
        DAY - 1 - (1 + 3 + QUIET),
    ]  # the two hours after it are one too


def test_voices_are_counted_as_the_watcher_counts_them() -> None:
    def post(hour: float, text: str, stream: str, sentiment: str = "negative") -> Labelled:
        return Labelled(text, hour * 3600, stream, sentiment, "late")

    learned = [post(30 + at, f"late again number {at}", "old") for at in range(100)]
    learned.append(post(40.5, "RT @b: late again number 10", "old"))
    learned += [post(120, "new here", "new"), post(50, "so good", "old", "positive")]
    hours, until = history(learned, "negative")
    assert until == 130
    assert sum(count for stream, topic, _, count in hours if (stream, topic) == ("old", "*")) == 100
    # Who says the same again after days is heard again, as the watcher looks back no farther.
    again, _ = history([post(24 * day + 3, "rude as ever", "often") for day in (2, 5, 6, 7, 10)], "negative")
    assert [hour // 24 for _, topic, hour, _ in again if topic == "*"] == [2, 5, 10]
    held_out = [post(150 + at, f"waiting for {at} hours", "old") for at in range(4)]
    found = watched_hours(learned, held_out, [True] * 4, "negative")
    assert list(found) == ["old"]  # the other stream is too young to be judged
    assert (found["old"].start, found["old"].known) == (2 * DAY, 4 * DAY)
    assert found["old"].counts.sum() == 100 - 18 + 3  # from its first midnight on, without the last hour


def test_one_labelled_text_has_no_interval_of_f1() -> None:
    accuracy, f1 = _classes("topic", [("a", "a")]).figures
    assert (accuracy.value, accuracy.high) == (1, 1)
    assert (f1.value, f1.low, f1.high) == (1, None, None)
    *_, f1 = _classes("topic", [("a", "a"), ("b", "b")] * 20 + [("a", "b")]).figures
    assert f1.low is not None
    assert f1.low < f1.value < 1 == f1.high  # an F1 goes no higher


def test_busy_and_quiet_hours_are_judged_alike() -> None:
    """One dispersion for both let threefold hours by day pass, and was too strict by night."""
    counts = draw(process(12, 2.0), ONE, 60 * WEEK, 0, np.random.default_rng(5))
    usual = Baseline(known_course(), np.array([2.0]), np.array([12.0]), 0.9995)
    ties = np.random.default_rng(6).random(counts.shape)
    forecast = predict(counts, 0, usual)
    tails = tail(counts, forecast.mean, forecast.dispersion, ties)[0]
    busy = known_course()[0, np.arange(60 * WEEK) % WEEK] > 1.4
    quiet = known_course()[0, np.arange(60 * WEEK) % WEEK] < 0.6
    for hours in (busy, quiet):
        assert stats.kstest(tails[hours], "uniform").pvalue > 0.001
        assert np.mean(tails[hours] < 0.01) == pytest.approx(0.01, abs=0.004)
    two = counts[:, 1:] + counts[:, :-1]
    both = tail(two, forecast.mean_of_two[:, 1:], forecast.dispersion_of_two[:, 1:], ties[:, 1:])[0]
    assert np.mean(both < 0.01) == pytest.approx(0.01, abs=0.004)


def test_counts_have_the_mean_and_the_variance_that_was_asked_for() -> None:
    counts = counts_of(np.repeat([[2.0], [20.0]], 200_000, axis=1), np.array([[0.5], [3.0]]), np.random.default_rng(7))
    np.testing.assert_allclose(counts.mean(1), [2, 20], rtol=0.02)
    np.testing.assert_allclose(counts.var(1), [3, 80], rtol=0.03)
