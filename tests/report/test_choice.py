"""Which one for me?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeData, FakeMethod, fake_record, write_run

from peftlab.core.errors import UserError
from peftlab.core.record import write_record
from peftlab.report import wording
from peftlab.report.choice import Limits, choose, parse_size, size_for_input
from peftlab.report.comparison import Comparison
from peftlab.report.comparison_tables import group_table
from peftlab.report.document import build_report
from peftlab.report.notices import comparison_notices

BEST = FakeMethod("best", 0.90, 20_000_000, 900_000_000, 1000)
CLOSE = FakeMethod("close", 0.8995, 300_000, 400_000_000, 1500)
POOR = FakeMethod("poor", 0.60, 1_000, 50_000_000, 6000)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("choice")
    data = FakeData(2000)
    for method in (BEST, CLOSE, POOR):
        for seed in range(5):
            write_run(folder / f"{method.name}{seed}", method, seed, data)
    return build_report([folder]).comparisons[0]


def test_without_limits_the_best_and_what_cannot_be_told_apart(comparison: Comparison) -> None:
    choice = choose(comparison, Limits())
    assert (choice.decided, choice.methods) == (False, ["best", "close"])
    assert choice.answer.startswith("The data does not decide: best has the best mean; close cannot be told apart")
    assert "close takes the least memory (496 MB) and the least time" in choice.answer


def test_memory_that_was_not_measured_is_not_told(comparison: Comparison) -> None:
    methods = [replace(method, costs=replace(method.costs, peak_memory_bytes=None)) for method in comparison.methods]
    told = choose(replace(comparison, methods=methods), Limits()).evidence
    assert told
    assert not any("memory" in line for line in told)
    assert all(line.endswith("of training") for line in told)


def test_limits_rule_methods_out(comparison: Comparison) -> None:
    small = choose(comparison, Limits(memory_bytes=600e6))
    assert (small.decided, small.methods) == (True, ["close"])
    assert "every other one is worse" in small.answer
    assert "496 MB peak memory" in small.evidence[0]
    fast = choose(comparison, Limits(seconds=100))
    assert (fast.decided, fast.methods) == (True, ["poor"])
    assert "the only method that fits" in fast.answer
    none = choose(comparison, Limits(memory_bytes=1e6))
    assert (none.decided, none.methods) == (True, [])
    assert none.answer == "No method fits these limits."


def test_a_loss_is_within_beyond_or_undecided(comparison: Comparison) -> None:
    at = [method.name for method in comparison.methods].index("close")
    low, high = (100 * float(table[0, at]) for table in (comparison.pairs.low, comparison.pairs.high))
    assert low < high
    generous = choose(comparison, Limits(memory_bytes=600e6, loss_points=high + 0.01))
    assert (generous.decided, generous.methods) == (True, ["close"])
    assert "fits, and loses at most" in generous.answer
    undecided = choose(comparison, Limits(memory_bytes=600e6, loss_points=max(0.0, high - 0.01)))
    assert (undecided.decided, undecided.methods) == (False, ["close"])
    assert undecided.answer.startswith("The data does not decide: close fits")
    beyond = choose(comparison, Limits(memory_bytes=200e6, loss_points=1))
    assert beyond.methods == []
    assert "all that fit otherwise lose more than 1 point." in beyond.answer


def test_what_was_not_measured_is_not_said_to_fit(comparison: Comparison) -> None:
    methods = [
        replace(method, costs=replace(method.costs, peak_memory_bytes=None)) if method.name == "close" else method
        for method in comparison.methods
    ]
    unknown = replace(comparison, methods=methods)
    choice = choose(unknown, Limits(memory_bytes=600e6))
    assert choice.methods == ["poor"]
    assert "Not measured, so left out: close." in choice.answer
    assert not choose(unknown, Limits(memory_bytes=1e6)).decided


def test_one_seed_is_never_the_last_word(tmp_path: Path) -> None:
    data = FakeData(500)
    for method in (BEST, POOR):
        write_run(tmp_path / method.name, method, 0, data)
    assert "another seed may change this" in choose(build_report([tmp_path]).comparisons[0], Limits()).answer


def tied(tmp_path: Path, spreads: dict[str, tuple[float, float]], cheapest: str) -> Comparison:
    """Methods whose seeds lie so far apart that nothing is told apart; one is cheaper than all others."""
    data = FakeData(2000)
    for name, (mean, spread) in spreads.items():
        cost = 50_000_000 if name == cheapest else 900_000_000
        for seed, step in enumerate((-1, 0, 1)):
            method = FakeMethod(name, mean + step * spread, 1_000_000, cost, 6000 if name == cheapest else 1000)
            write_run(tmp_path / f"{name}{seed}", method, seed, data)
    return build_report([tmp_path]).comparisons[0]


def test_what_lies_far_behind_is_not_pointed_at(tmp_path: Path) -> None:
    comparison = tied(tmp_path, {"first": (0.80, 0.05), "second": (0.799, 0.05), "far": (0.75, 0.05)}, "far")
    choice = choose(comparison, Limits())
    assert set(choice.methods) == {"first", "second", "far"}
    assert "nor can far, which lies more than 1 point behind." in choice.answer
    assert "far takes" not in choice.answer
    assert "Of those within 1 point, " in choice.answer


def test_only_a_far_one_is_tied(tmp_path: Path) -> None:
    answer = choose(tied(tmp_path, {"first": (0.80, 0.05), "far": (0.75, 0.05)}, "far"), Limits()).answer
    assert answer == (
        "The data does not decide: first has the best mean; far cannot be told apart from it, but lies more than "
        "1 point behind."
    )


def with_untested(folder: Path, accuracies: dict[str, float]) -> Comparison:
    """Methods with two seeds, and one called ``single`` with one, which no test compares: none has predictions."""
    data = FakeData(2000)
    for name, accuracy in accuracies.items():
        for seed in (0,) if name == "single" else (0, 1):
            spread = 0.03 * seed * len(name)
            method = FakeMethod(name, accuracy + spread, 1_000_000, 900_000_000, 1000)
            write_run(folder / f"{name}{seed}", method, seed, data, predictions=False)
    return build_report([folder]).comparisons[0]


def test_what_no_test_compares_is_not_said_to_be_alike(tmp_path: Path) -> None:
    comparison = with_untested(tmp_path / "a", {"first": 0.7, "second": 0.65, "single": 0.6})
    choice = choose(comparison, Limits())
    assert "No test compares single with first." in choice.answer
    assert "single cannot" not in choice.answer
    assert "and single" not in choice.answer
    assert choice.methods == ["first", "second", "single"]
    (group,) = group_table(comparison).rows
    assert group == ["a", "first, second"]
    (text,) = [notice.text for notice in comparison_notices(comparison) if "One seed of single" in notice.text]
    assert "no test compares such methods" in text
    alone = choose(with_untested(tmp_path / "b", {"first": 0.7, "single": 0.6}), Limits())
    assert (alone.decided, alone.methods) == (False, ["first", "single"])
    assert "first has the best mean; no test compares single with it." in alone.answer


def test_a_metric_without_a_greatest_value_has_its_own_nearness() -> None:
    assert wording.near("perplexity", 20.0) == pytest.approx(0.2)
    assert wording.near("mean_squared_error", 5e8) == pytest.approx(5e6)
    assert wording.near("bleu", 40.0) == 1.0
    assert wording.near("matthews", 0.5) == wording.near("accuracy", 0.5) == 0.01


def test_differences_of_small_numbers_are_not_rounded_away(tmp_path: Path) -> None:
    """Errors are in the unit of their targets, which may be thousandths."""
    assert wording.points(0.00123456, "mean_squared_error") == "+0.00123"
    assert wording.points(-1234.5, "mean_squared_error") == "−1.23e+03"
    assert wording.points(-0.012345, "accuracy") == "−1.23"
    for name, errors in {"good": [0.0011, 0.0012, 0.0013], "poor": [0.0031, 0.0034, 0.0033]}.items():
        for seed, error in enumerate(errors):
            (tmp_path / f"{name}{seed}").mkdir()
            record = fake_record(BEST, seed, {"test": {"mean_squared_error": error}}, name=name)
            write_record(record, tmp_path / f"{name}{seed}")
    comparison = build_report([tmp_path], metric="mean_squared_error").comparisons[0]
    (evidence,) = choose(comparison, Limits(loss_points=0.002)).evidence[1:]
    assert "0.00207 points behind good (95 % interval 0.00" in evidence


def test_an_interval_that_leaves_out_zero_has_its_reason_beside_it(tmp_path: Path) -> None:
    """A pair that alone would be told apart, and among all pairs is not."""
    data = FakeData(2000)
    for at, accuracy in enumerate((0.80, 0.786, 0.799, 0.798, 0.797, 0.796, 0.795, 0.794)):
        for seed in range(3):
            method = FakeMethod(f"method{at}", accuracy, 1_000_000, 100_000_000, 1000)
            write_run(tmp_path / f"{at}-{seed}", method, seed, data)
    comparison = build_report([tmp_path]).comparisons[0]
    evidence = choose(comparison, Limits()).evidence
    pairs, reasons = comparison.pairs, 0
    for at in range(1, len(comparison.methods)):
        alone, together = pairs.p_value[0, at] < 0.05, pairs.adjusted[0, at] < 0.05
        line = next((line for line in evidence if line.startswith(comparison.methods[at].label)), "")
        assert ("for this pair alone; among 28 pairs" in line) == (alone and not together)
        reasons += alone and not together
    assert reasons


@pytest.mark.parametrize(
    ("text", "value"), [("400MB", 4e8), ("8 gb", 8e9), ("1.5GiB", 1.5 * 2**30), ("123B", 123), ("2kB", 2000)]
)
def test_sizes(text: str, value: float) -> None:
    assert parse_size(text) == value
    assert parse_size(size_for_input(value)) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "MB", "4 apples", "-1GB", "0", "1e3MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="is no size"):
        parse_size(text)


def test_a_size_without_a_unit_is_refused() -> None:
    with pytest.raises(UserError, match="has no unit") as caught:
        parse_size("8")
    assert "--max-memory" in str(caught.value)
    assert "8GB" in str(caught.value)
