"""Intervals and tests: the report's figures are those of peftlab.statistics, for many methods at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import LABELS, METHODS, FakeData, fake_record, write_predictions, write_run
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from peftlab.cli.report import summary
from peftlab.core.record import write_record
from peftlab.report.classes import Classes, _scores, class_scores
from peftlab.report.comparison_tables import class_table
from peftlab.report.disagreement import find_disagreements
from peftlab.report.document import build_report, report_json
from peftlab.report.evidence import Basis, ScoreInterval, compare_methods, score_interval
from peftlab.report.naming import short_labels
from peftlab.statistics.intervals import mean_interval, seeds_interval
from peftlab.statistics.pairs import compare_all, holm
from peftlab.statistics.proportions import wilson_interval

FULL, LORA, ADALORA, *_ = METHODS


def test_a_suite_gets_the_intervals_tests_and_groups_of_the_statistics(suite: Path) -> None:
    report = build_report([suite])
    comparison = report.comparisons[0]
    methods = comparison.methods
    assert [m.mean for m in methods] == sorted((m.mean for m in methods), reverse=True)
    for method in methods:
        found = mean_interval(np.asarray(method.per_example))
        assert method.mean == pytest.approx(np.mean(method.scores))
        assert (method.interval.low, method.interval.high) == pytest.approx((found.low, found.high))
        assert method.interval.seed_share == pytest.approx(found.seed_share)
    expected = compare_all([np.asarray(method.per_example) for method in methods])
    upper = np.triu_indices(len(methods), 1)
    assert comparison.pairs.p_value[upper] == pytest.approx(expected.p_value[upper])
    assert comparison.pairs.low == pytest.approx(expected.low)
    assert comparison.pairs.adjusted[upper] == pytest.approx(holm(expected.p_value[upper].tolist()))
    together = [set(group) for group in report_json(report)["groups"]]
    for at, method in enumerate(methods):
        for other in range(at + 1, len(methods)):
            share = any({method.name, methods[other].name} <= group for group in together)
            assert share == (comparison.pairs.adjusted[at, other] >= 0.05)


def test_what_an_interval_accounts_for_depends_on_what_there_is() -> None:
    scores = np.array([[1.0, 0, 1, 1], [1, 1, 1, 0]])
    assert score_interval([0.75, 0.75], scores, "accuracy", 4).basis is Basis.SEEDS_AND_EXAMPLES
    assert score_interval([0.75], scores[:1], "accuracy", 4).basis is Basis.EXAMPLES
    of_seeds = score_interval([0.7, 0.8], None, "auroc", 4)
    assert of_seeds.basis is Basis.SEEDS
    assert of_seeds.low == pytest.approx(seeds_interval([0.7, 0.8]).low)
    assert of_seeds.high == 1  # 0.75 + 12.7 standard errors would be beyond what an AUROC can be
    single = score_interval([0.75], None, "accuracy", 4)
    assert (single.basis, (single.low, single.high)) == (Basis.EXAMPLES, pytest.approx(wilson_interval(3, 4)))
    assert score_interval([0.7], None, "accuracy", 4).basis is Basis.NOTHING  # no share of four
    assert score_interval([0.7], None, "auroc", 4).low is None


def test_a_correlation_of_nothing_may_be_negative_elsewhere() -> None:
    """Of a run that gives one answer to all, every value is 0; that is no share of right answers."""
    found = score_interval([0.0], np.zeros((1, 200)), "matthews", 200)
    assert found.low is not None
    assert found.low == pytest.approx(-found.high)
    assert found.low < 0
    assert score_interval([0.0], np.zeros((1, 200)), "accuracy", 200).low == 0


@pytest.mark.parametrize(("examples", "is_told"), [(25, True), (300, False)])
def test_macro_f1_with_a_rare_class_is_said_to_be_too_narrow(tmp_path: Path, examples: int, is_told: bool) -> None:
    data = FakeData(examples)
    fewest = int(np.bincount(data.labels).min())
    assert (fewest < 10) == is_told
    write_run(tmp_path / "a", FULL, 0, data)
    notes = {
        metric: report_json(build_report([tmp_path], metric=metric))["comparisons"][0]["notices"]
        for metric in ("accuracy", "macro_f1")
    }
    assert not any("too narrow" in text for text in notes["accuracy"])
    (told,) = [text for text in notes["macro_f1"] if "too narrow" in text] or [""]
    assert (f"has {fewest} examples in the test split" in told) == is_told


def test_the_report_says_what_its_intervals_leave_out(tmp_path: Path) -> None:
    data = FakeData(200)
    for seed in (0, 1):
        for method in (FULL, LORA):
            write_run(tmp_path / f"{method.name}{seed}", method, seed, data, predictions=False)
    over_seeds = report_json(build_report([tmp_path]))
    assert over_seeds["methods"]["full"]["interval_over"] == "seeds only"
    assert any("over the seeds alone" in text for text in over_seeds["comparisons"][0]["notices"])
    one_seed = report_json(build_report([tmp_path / "full0", tmp_path / "lora0"]))
    assert one_seed["methods"]["full"]["interval_over"] == "examples only"
    assert any("One seed a method" in text for text in one_seed["comparisons"][0]["notices"])


def equal_methods(folder: Path, seeds: Sequence[int], spread: float, rng: np.random.Generator) -> Path:
    """Methods of equal accuracy whose runs lie apart by chance."""
    data = FakeData(400, seed=int(rng.integers(1 << 30)))
    for at, number in enumerate(seeds):
        for seed in range(number):
            accuracy = float(np.clip(0.75 + rng.normal() * spread, 0.4, 0.95))
            write_run(folder / f"m{at}-{seed}", replace(FULL, name=f"m{at}", accuracy=accuracy), seed, data)
    return folder


@pytest.mark.parametrize("seeds", [(1,) * 6, (3, 1, 3, 1, 3, 1)], ids=["one seed", "mixed"])
def test_equal_methods_with_one_seed_are_not_told_apart(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for repetition in range(8):
        found = report_json(build_report([equal_methods(tmp_path / str(repetition), seeds, 0.012, rng)]))
        letters = [set(method["letters"]) for method in found["methods"].values()]
        assert all(a & b for a in letters for b in letters), repetition
        assert [len(group) for group in found["groups"]] == [len(seeds)]


def test_one_seed_still_shows_what_is_far_apart(tmp_path: Path) -> None:
    data = FakeData(1000)
    for name, accuracy in (("good", 0.85), ("close", 0.835), ("poor", 0.55)):
        write_run(tmp_path / name, replace(FULL, name=name, accuracy=accuracy), 0, data)
    found = report_json(build_report([tmp_path]))
    assert found["groups"] == [["good", "close"], ["poor"]]
    (text,) = [text for text in found["comparisons"][0]["notices"] if "One seed a method" in text]
    assert "about a point apart" in text
    assert "30" in text
    assert "newer libraries" in text


def test_one_seed_of_a_mixed_suite_is_named(tmp_path: Path) -> None:
    data = FakeData(2000)
    for method, seeds in ((FULL, (0, 1, 2)), (LORA, (1,)), (ADALORA, (0, 1, 2))):
        for seed in seeds:
            write_run(tmp_path / f"{method.name}{seed}", method, seed, data)
    report = build_report([tmp_path])
    (text,) = [text for text in report_json(report)["comparisons"][0]["notices"] if "One seed of" in text]
    assert text.startswith("One seed of lora:")
    assert "lora has one seed: another seed may change this." in report.choices()[0].answer
    comparison = report.comparisons[0]
    at = {method.name: number for number, method in enumerate(comparison.methods)}
    width = comparison.pairs.high - comparison.pairs.low
    assert width[at["full"], at["lora"]] > 1.5 * width[at["full"], at["adalora"]]


def test_one_seed_of_a_metric_without_a_unit_is_not_tested(tmp_path: Path) -> None:
    methods = [
        MethodStub([1.0], ScoreInterval(1.0, 0.9, 1.1), np.random.default_rng(at).random((1, 50))) for at in range(2)
    ]
    assert np.isnan(compare_methods(methods, "mean_squared_error").adjusted).all()
    assert np.isfinite(compare_methods(methods, "accuracy").adjusted[0, 1])


@dataclass
class MethodStub:
    """What tests need to know of a method."""

    scores: list[float]
    interval: ScoreInterval
    per_example: np.ndarray
    entries: Sequence[Any] = ()
    seeds: list[int] = field(default_factory=lambda: [0])


def test_fewer_seeds_than_others_is_said_and_every_seed_counts(tmp_path: Path) -> None:
    data = FakeData(300)
    for method, seeds in ((FULL, (0, 1, 2)), (LORA, (0, 2)), (ADALORA, (1, 2))):
        for seed in seeds:
            write_run(tmp_path / f"{method.name}{seed}", method, seed, data)
    report = build_report([tmp_path])
    comparison = report.comparisons[0]
    at = {method.name: number for number, method in enumerate(comparison.methods)}
    expected = compare_all([np.asarray(method.per_example) for method in comparison.methods])
    assert comparison.pairs.p_value[at["full"], at["lora"]] == pytest.approx(expected.p_value[at["full"], at["lora"]])
    means = {method.name: method.mean for method in comparison.methods}
    assert comparison.pairs.difference[at["lora"], at["full"]] == pytest.approx(means["lora"] - means["full"])
    assert np.isfinite(comparison.pairs.p_value[at["lora"], at["adalora"]])
    assert any("fewer seeds" in text for text in report_json(report)["comparisons"][0]["notices"])


def test_a_run_that_gives_every_example_the_same_answer_is_named(tmp_path: Path) -> None:
    data = FakeData(300)
    for seed in (0, 1):
        write_run(tmp_path / f"full{seed}", FULL, seed, data)
    share = float((data.labels == 0).mean())
    scores = {"validation": {"accuracy": share}, "test": {"accuracy": share, "macro_f1": 0.2}}
    write_run(tmp_path / "lora0", LORA, 0, data)
    collapsed = tmp_path / "lora1"
    write_run(collapsed, LORA, 1, data, predictions=False)
    write_record(fake_record(LORA, 1, scores, rows={"train": 2500, "validation": 500, "test": 300}), collapsed)
    write_predictions(collapsed, data, np.zeros(len(data.labels), dtype=int))
    (text,) = [t for t in report_json(build_report([tmp_path]))["comparisons"][0]["notices"] if "collapsed" in t]
    assert "lora seed 1 gave" in text
    assert f"  Note: {text}" in summary(build_report([tmp_path]), tmp_path / "report.html").splitlines()
    assert "lora seed 0" not in text
    assert "full" not in text


def write_scores(folder: Path, scores: dict[str, dict[int, float]]) -> dict[str, Any]:
    """The report of runs that have a score and no predictions, by method and seed."""
    for name, of_seeds in scores.items():
        for seed, score in of_seeds.items():
            (folder / f"{name}-{seed}").mkdir(parents=True)
            write_record(fake_record(LORA, seed, {"test": {"auroc": score}}, name=name), folder / f"{name}-{seed}")
    return report_json(build_report([folder], metric="auroc"))


def test_seeds_without_examples_are_paired_or_all_of_them_count(tmp_path: Path) -> None:
    """With other seeds each, the difference that is tested is the one that is shown."""
    one, other = {0: 0.75, 1: 0.80, 2: 0.60}, {0: 0.70, 1: 0.74}
    write_scores(tmp_path / "a", {"one": one, "other": other})
    pairs = build_report([tmp_path / "a"], metric="auroc").comparisons[0].pairs
    welch = stats.ttest_ind(list(other.values()), list(one.values()), equal_var=False)
    assert pairs.p_value[0, 1] == pytest.approx(welch.pvalue)
    assert (pairs.low[0, 1], pairs.high[0, 1]) == pytest.approx(tuple(welch.confidence_interval()))
    assert pairs.low[0, 1] + pairs.high[0, 1] == pytest.approx(2 * pairs.difference[0, 1])
    write_scores(tmp_path / "b", {"one": one, "other": other | {2: 0.5}})
    pairs = build_report([tmp_path / "b"], metric="auroc").comparisons[0].pairs
    assert pairs.p_value[0, 1] == pytest.approx(stats.ttest_rel(list(one.values()), [0.70, 0.74, 0.5]).pvalue)


def test_two_seeds_that_are_equally_far_apart_prove_nothing(tmp_path: Path) -> None:
    """Shares of few examples often are: a paired t test without a spread would be certain."""
    found = write_scores(tmp_path, {"good": {0: 0.75, 1: 0.80}, "poor": {0: 0.70, 1: 0.75}})
    (comparison,) = found["comparisons"]
    assert comparison["groups"] == [["good", "poor"]]
    assert comparison["headline"].startswith("good and poor cannot be told apart")
    pairs = build_report([tmp_path], metric="auroc").comparisons[0].pairs
    assert pairs.p_value[0, 1] == pytest.approx(stats.ttest_ind([0.75, 0.8], [0.7, 0.75], equal_var=False).pvalue)


def test_seeds_that_never_lie_apart_are_not_tested(tmp_path: Path) -> None:
    found = write_scores(tmp_path, {"good": {0: 0.75, 1: 0.75}, "poor": {0: 0.70, 1: 0.70}})
    (comparison,) = found["comparisons"]
    assert comparison["headline"].endswith("No test compares them.")
    assert comparison["choice"]["answer"] == (
        "The data does not decide: good has the best mean; no test compares poor with it."
    )
    assert comparison["choice"]["methods"] == ["good", "poor"]


def test_equal_scores_have_no_interval(tmp_path: Path) -> None:
    found = write_scores(tmp_path, {"same": {0: 0.7, 1: 0.7}, "other": {0: 0.6, 1: 0.65}})
    assert found["methods"]["same"]["interval"] == [None, None]
    assert any("all seeds have the same score" in text for text in found["comparisons"][0]["notices"])


def test_texts_with_references_are_not_said_to_be_wrong(tmp_path: Path) -> None:
    """What was written is never the same as a list of references; that is no share of right answers."""
    for name, share in (("good", 0.6), ("poor", 0.5)):
        folder = tmp_path / name
        folder.mkdir()
        said = ["yes" if at < 50 * share else "no" for at in range(50)]
        table = {"split": ["test"] * 50, "index": range(50), "label": [["yes", "oh yes"]] * 50, "prediction": said}
        pq.write_table(pa.table({**table, "scores": [[0.0]] * 50}), folder / "predictions.parquet")
        record = fake_record(LORA, 0, {"test": {"exact_match": share}}, name=name, rows={"test": 50}, labels=None)
        write_record(record, folder)
    (comparison,) = build_report([tmp_path], metric="exact_match").comparisons
    assert [method.mean for method in comparison.methods] == [0.6, 0.5]
    assert find_disagreements(comparison) is None


@pytest.mark.parametrize(
    ("labels", "predictions", "reason"),
    [
        (["a", "b"] * 5, [0.5] * 10, "its labels are numbers and its predictions none"),
        (["a", "b"] * 5, ["a", None] * 5, "a label or an answer is missing"),
        ([0.5, None] * 5, [0.5] * 10, "a label or an answer is missing"),
        ([["a"]] * 10, [["a"], ["a", None]] * 5, "a label or an answer is missing"),
        ([0.5] * 10, [0.5, float("nan")] * 5, "no finite"),
    ],
)
def test_predictions_that_cannot_be_judged_are_left_out(
    tmp_path: Path, labels: list[Any], predictions: list[Any], reason: str
) -> None:
    metric = "mean_absolute_error" if isinstance(labels[0], float) else "accuracy"
    write_record(fake_record(LORA, 0, {"test": {metric: 0.5}}, rows={"test": 10}), tmp_path)
    table = {"split": ["test"] * 10, "index": range(10), "label": labels, "prediction": predictions}
    pq.write_table(pa.table({**table, "scores": [[0.0]] * 10}), tmp_path / "predictions.parquet")
    report = build_report([tmp_path], metric=metric)
    assert not report.comparisons
    assert reason in report.excluded[0].reason


@settings(max_examples=50)
@given(st.lists(st.text("ab-", min_size=1, max_size=8), min_size=1, max_size=5, unique=True))
def test_short_labels_stay_apart(names: list[str]) -> None:
    labels = short_labels(names)
    assert len(set(labels)) == len(names)
    assert all(labels)


def test_short_labels_drop_what_all_share() -> None:
    names = ["lora--llama-3B-rank32", "lora--llama-3B-rank32-dora", "ia3--llama-3B-default"]
    assert short_labels(names) == ["lora-rank32", "lora-rank32-dora", "ia3-default"]
    assert short_labels(["only-one"]) == ["only-one"]


def test_classes_and_confusions_are_those_of_the_predictions(tmp_path: Path) -> None:
    from sklearn.metrics import confusion_matrix, f1_score

    data = FakeData(300)
    for seed in (0, 1):
        write_run(tmp_path / str(seed), LORA, seed, data)
    comparison = build_report([tmp_path]).comparisons[0]
    found = class_scores(comparison)
    assert found is not None
    assert found.names == LABELS
    truth = np.concatenate([data.labels] * 2)
    predicted = np.concatenate([data.predict(LORA.accuracy, seed)[0] for seed in (0, 1)])
    assert found.methods[0].f1 == pytest.approx(f1_score(truth, predicted, average=None))
    assert found.methods[0].confusion == pytest.approx(confusion_matrix(truth, predicted, normalize="true"))


def test_a_class_that_is_neither_true_nor_predicted_has_no_f1() -> None:
    """A method that rightly never says it would look as bad as one that always says it wrongly."""
    true = np.array([6.0, 4.0, 0.0])
    says_it = _scores("says it", np.array([5.0, 0.0, 0.0]), true, np.array([7.0, 2.0, 1.0]), None)
    never = _scores("never", np.array([5.0, 0.0, 0.0]), true, np.array([8.0, 2.0, 0.0]), None)
    table = class_table(Classes(["a", "b", "c"], [6, 4, 0], [says_it, never]))
    assert [row[1:] for row in table.rows] == [["76.9", "0.0", "0.0"], ["71.4", "0.0", "–"]]

    many = [f"class {at}" for at in range(14)]
    own = _scores("own", np.ones(14), np.ones(14), np.ones(14) + (np.arange(14) == 3), None)
    other = _scores("other", *(np.arange(14) > 0.0 for _ in range(3)), None)
    columns = class_table(Classes(many, [1] * 14, [own, other])).columns
    assert len(columns) == 13
    assert "class 3 (1)" in columns  # on which they differ most


def test_examples_on_which_methods_disagree(tmp_path: Path) -> None:
    data = FakeData(50)
    wrong = (data.labels + 1) % 3
    said = {"full": data.labels.copy(), "lora": data.labels.copy(), "adalora": data.labels.copy()}
    said["lora"][7] = said["adalora"][7] = wrong[7]
    for name in said:
        said[name][9] = wrong[9]
    for method in (FULL, LORA, ADALORA):
        folder = write_run(tmp_path / method.name, method, 0, data)
        write_predictions(folder, data, said[method.name])
        record = (folder / "record.json").read_text()
        accuracy = float((data.predict(method.accuracy, 0)[0] == data.labels).mean())
        right = float((said[method.name] == data.labels).mean())
        (folder / "record.json").write_text(record.replace(f'"accuracy": {accuracy},', f'"accuracy": {right},'))
    found = find_disagreements(build_report([tmp_path]).comparisons[0])
    assert found is not None
    assert (found.differing, found.none_right) == (1, 1 / 50)
    assert found.examples[0].index == data.index[7]
    assert found.examples[0].right_methods == 1
    assert found.examples[0].label == LABELS[data.labels[7]]
