"""What runs of machines contribute to their metrics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftlab.tasks.turing_machine.runs import OF_RUNS, machine_runs, scores_of_runs

RUNS = st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1, max_size=20)


@given(rights=RUNS, whole=st.booleans())
def test_runs_are_put_together_from_steps_or_from_whole_runs(rights: list[list[bool]], whole: bool) -> None:
    rows: list[list[float]] = []
    for number, right in enumerate(rights):
        if whole:
            rows.append([number, 0, 5, *map(float, right)])
        else:
            rows += [[number, step, 5, float(value)] for step, value in enumerate(right)]
    found = machine_runs(rows[::-1])
    assert [(run.number, list(run.right), run.tape_length) for run in found] == [
        (number, right, 5) for number, right in enumerate(rights)
    ]
    assert [run.survived for run in found] == [([*right, False]).index(False) for right in rights]


@given(rights=RUNS)
def test_the_mean_over_runs_is_the_metric(rights: list[list[bool]]) -> None:
    runs = machine_runs([[number, 0, 3, *map(float, right)] for number, right in enumerate(rights)])
    steps = [value for right in rights for value in right]
    survived = [([*right, False]).index(False) for right in rights]
    expected = {
        "step_exact_match": np.mean(steps),
        "run_exact_match": np.mean([all(right) for right in rights]),
        "steps_survived": np.mean(survived),
        "survived_fraction": np.mean([one / len(right) for one, right in zip(survived, rights, strict=True)]),
    }
    assert set(expected) == set(OF_RUNS)
    for metric, value in expected.items():
        scores = scores_of_runs(metric, runs)
        assert scores is not None
        assert scores.shape == (len(runs),)
        assert scores.mean() == pytest.approx(value)
    assert scores_of_runs("accuracy", runs) is None


def test_the_error_of_the_share_of_steps_is_that_of_whole_runs() -> None:
    """Ten runs that are right or wrong as a whole say as much as ten steps, however many steps they have."""
    generator = np.random.default_rng(0)
    of_many = []
    for _ in range(400):
        rights = [[bool(generator.random() < 0.5)] * int(generator.integers(1, 20)) for _ in range(60)]
        runs = machine_runs([[number, 0, 3, *map(float, right)] for number, right in enumerate(rights)])
        scores = scores_of_runs("step_exact_match", runs)
        assert scores is not None
        of_many.append((scores.mean(), scores.std(ddof=1) / np.sqrt(len(scores))))
    means, errors = np.array(of_many).T
    assert errors.mean() == pytest.approx(means.std(ddof=1), rel=0.1)
