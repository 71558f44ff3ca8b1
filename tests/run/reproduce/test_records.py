"""Whether a record holds: identical on the same machine; elsewhere judged on the same examples, metric by metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from peftlab.core.record import DataSummary, RunRecord
from peftlab.core.task import TASKS, Prediction, Scorer
from peftlab.run.reproduce.records import Reproduction, compare_records

pytestmark = pytest.mark.slow

HERE = {"python": "3.11", "versions": {"torch": "2.13.0"}, "threads": 2, "commit": "abc", "uncommitted_changes": False}
ELSEWHERE = {**HERE, "versions": {"torch": "2.14.0"}}
CLASSES = ("negative", "neutral", "positive")
Rows = list[Prediction]
MakeScorer = Callable[[], Scorer]


def scorer_of(task: str, labels: Sequence[str] = (), **keys: Any) -> MakeScorer:
    built = TASKS.get(task)(**keys)
    return lambda: built.scorer(tuple(labels))


CLASSIFICATION = scorer_of("text_classification", CLASSES, text="text", label="label")
ENTITIES = scorer_of("token_classification", ("O", "B-PER", "I-PER"))
WRITING = scorer_of("instruction_tuning")


def table_of(rows: Rows, index: Sequence[int] | None = None, split: str = "test") -> pa.Table:
    return pa.table(
        {
            "split": [split] * len(rows),
            "index": list(range(len(rows)) if index is None else index),
            "label": [row.label for row in rows],
            "prediction": [row.prediction for row in rows],
            "scores": pa.array([list(row.scores) for row in rows], pa.list_(pa.float32())),
        }
    )


def record_of(scores: dict[str, float], environment: dict[str, object] = HERE, **changes: object) -> RunRecord:
    values = {
        "name": "tiny",
        "status": "success",
        "recipe": {},
        "scores": {"test": scores},
        "data": DataSummary(fingerprint="f", rows={"test": 100}),
        "environment": environment,
        "started_at": "2026-01-01T00:00:00+00:00",
        "seconds": 10.0,
    }
    return RunRecord.model_validate({**values, **changes})


def scores_of(rows: Rows, make_scorer: MakeScorer) -> dict[str, float]:
    scorer = make_scorer()
    scorer.add(rows)
    return scorer.compute()


def compare(
    before: Rows, now: Rows, make_scorer: MakeScorer = CLASSIFICATION, *, environment: dict[str, object] = ELSEWHERE
) -> Reproduction:
    """As of two runs whose records are of their predictions."""
    return compare_records(
        record_of(scores_of(before, make_scorer)),
        record_of(scores_of(now, make_scorer), environment),
        predictions=(table_of(before), table_of(now)),
        make_scorer=make_scorer,
        folder=Path(),
    )


def verdicts(result: Reproduction) -> dict[str, str]:
    return {figure.name.removeprefix("test "): figure.verdict for figure in result.figures[3:]}


def classified(right: float, seed: int = 0, count: int = 600) -> Rows:
    """Answers of which a share is right, with probabilities."""
    random = np.random.default_rng(seed)
    truth = random.choice(3, size=count, p=[0.5, 0.3, 0.2])
    said = np.where(random.random(count) < right, truth, (truth + 1 + random.integers(0, 2, count)) % 3)
    scores = np.full((count, 3), 0.1) + 0.001 * random.random((count, 3))
    scores[np.arange(count), said] = 0.8
    return [
        Prediction(CLASSES[a], CLASSES[b], row.astype(np.float32).tolist())
        for a, b, row in zip(truth, said, scores, strict=True)
    ]


def changed(rows: Rows, places: Sequence[int], say: Callable[[Prediction], Any]) -> Rows:
    """Other predictions at some places, with probabilities that fit."""
    rows = list(rows)
    for at in places:
        said = say(rows[at])
        rows[at] = Prediction(rows[at].label, said, [0.8 if name == said else 0.1 for name in CLASSES])
    return rows


def flipped(rows: Rows, count: int, seed: int = 1) -> Rows:
    """As many right answers get wrong as wrong ones get right: what rounding does."""
    random = np.random.default_rng(seed)
    right = [at for at, row in enumerate(rows) if row.prediction == row.label]
    wrong = [at for at, row in enumerate(rows) if row.prediction != row.label]
    rows = changed(rows, random.choice(right, count, replace=False), lambda row: other_than(row.label))
    return changed(rows, random.choice(wrong, count, replace=False), lambda row: row.label)


def other_than(label: str) -> str:
    return CLASSES[(CLASSES.index(label) + 1) % 3]


def test_the_same_run_on_the_same_machine() -> None:
    rows = classified(0.8)
    result = compare(rows, rows, environment=HERE)
    assert result.verdict == "agrees"
    assert result.agrees
    assert result.same_environment
    assert set(verdicts(result).values()) == {"identical"}
    assert result.predictions == {"test": {"examples": 600, "same": 600}}


def test_a_run_that_was_free_to_differ_is_judged_by_chance() -> None:
    """On a GPU with kernels that do not repeat themselves; and where products were rounded in another way."""
    rows = classified(0.8)
    free = {**HERE, "determinism": False, "tf32": {"products": False, "convolutions": True}}
    result = compare(rows, flipped(rows, 1), environment=free)
    assert result.agrees
    assert "training.deterministic is false" in result.differences
    assert not compare(rows, flipped(rows, 1), environment={**HERE, "determinism": True, "tf32": None}).agrees


def test_on_the_same_machine_nothing_but_identity_agrees() -> None:
    rows = classified(0.8)
    result = compare(rows, flipped(rows, 1), environment=HERE)
    assert (result.verdict, verdicts(result)["predictions"]) == ("differs", "differs")
    # The same classes, and a probability that is another in its last bits.
    nudged = [
        Prediction(row.label, row.prediction, [np.nextafter(np.float32(x), 1) for x in row.scores]) for row in rows
    ]
    result = compare(rows, nudged, environment=HERE)
    assert verdicts(result)["accuracy"] == "identical"
    assert verdicts(result)["predictions"] == "differs"
    assert result.verdict == "differs"
    assert compare(rows, nudged).verdict == "agrees"


def test_identical_predictions_agree_anywhere() -> None:
    rows = classified(0.8)
    shuffled = [rows[at] for at in np.random.default_rng(0).permutation(len(rows))]
    order = np.random.default_rng(0).permutation(len(rows))
    result = compare_records(
        record_of(scores_of(rows, CLASSIFICATION)),
        record_of(scores_of(rows, CLASSIFICATION), ELSEWHERE),
        predictions=(table_of(rows), table_of(shuffled, order.tolist())),
        make_scorer=CLASSIFICATION,
        folder=Path(),
    )
    assert result.verdict == "agrees"
    assert verdicts(result)["predictions"] == "identical"


@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_differs_within_noise_agrees(seed: int) -> None:
    rows = classified(0.8, seed)
    now = changed(flipped(rows, 12, seed), range(3), lambda row: row.label)
    result = compare(rows, now)
    assert result.verdict == "agrees"
    assert "inside" in verdicts(result).values()
    (auroc,) = [figure for figure in result.figures if figure.name == "test auroc"]
    assert auroc.interval is not None
    assert auroc.difference is not None
    assert auroc.interval[0] <= auroc.difference <= auroc.interval[1]


def test_a_shift_of_one_class_is_found() -> None:
    """One in ten of the frequent class goes to another: five points, within the interval over *other* examples."""
    rows = classified(0.8)
    frequent = [at for at, row in enumerate(rows) if row.label == row.prediction == "negative"]
    result = compare(rows, changed(rows, frequent[::10], lambda _: "positive"))
    assert result.verdict == "differs"
    assert verdicts(result)["accuracy"] == "outside"
    assert verdicts(result)["macro_f1"] == "outside"


def test_answers_by_chance_are_found() -> None:
    result = compare(classified(0.91), classified(0.33))
    assert result.verdict == "differs"
    assert set(verdicts(result).values()) == {"differs"} or "outside" in verdicts(result).values()


def tagged(missed: Callable[[int], bool], count: int = 60) -> Rows:
    rows = []
    for at in range(count):
        label = ["B-PER", "I-PER", "O", "O", "B-PER"][: 3 + at % 3]
        said = ["O"] * len(label) if missed(at) else label
        rows.append(Prediction(label, said, [0.9] * len(label)))
    return rows


def test_f1_of_entities_that_collapses_is_found() -> None:
    before, now = tagged(lambda at: at % 7 == 0), tagged(lambda at: at != 5)
    result = compare(before, now, ENTITIES)
    scores = {figure.name: (figure.before, figure.now) for figure in result.figures}
    assert scores["test f1"][0] > 0.9
    assert scores["test f1"][1] < 0.05
    assert verdicts(result)["f1"] == verdicts(result)["recall"] == "outside"
    assert result.verdict == "differs"


def test_f1_of_entities_within_noise_agrees() -> None:
    before, now = tagged(lambda at: at % 7 == 0), tagged(lambda at: (at % 7 == 0 and at != 14) or at == 3)
    result = compare(before, now, ENTITIES)
    assert result.verdict == "agrees"
    assert verdicts(result)["f1"] in ("inside", "identical")


def written(wrong: Callable[[int], bool], count: int = 40) -> Rows:
    words = [
        "the",
        "old",
        "house",
        "by",
        "the",
        "river",
        "stands",
        "empty",
        "since",
        "the",
        "flood",
        "of",
        "last",
        "spring",
    ]
    rows = []
    for at in range(count):
        text = " ".join(words[at % 5 : at % 5 + 7])
        said = " ".join(reversed(text.split()))[:20] if wrong(at) else text
        rows.append(Prediction([text], said, [2.0 + (3.0 if wrong(at) else 0.01 * (at % 3)), 7.0]))
    return rows


@pytest.mark.parametrize(
    ("now", "verdict"), [(lambda at: at % 9 in (0, 1, 2, 3, 4), "outside"), (lambda at: at % 9 == 1, "inside")]
)
def test_metrics_of_written_text(now: Callable[[int], bool], verdict: str) -> None:
    result = compare(written(lambda at: at % 9 == 0), written(now), WRITING)
    found = verdicts(result)
    for metric in ("bleu", "chrf", "exact_match", "rouge_l", "loss", "perplexity"):
        assert found[metric] in (verdict, "identical"), (metric, result.figures)
    assert result.verdict == ("agrees" if verdict == "inside" else "differs")


@pytest.mark.parametrize(("shift", "outcome"), [(0.0, "agrees"), (1e-7, "agrees"), (0.3, "differs")])
def test_numbers(shift: float, outcome: str) -> None:
    """Rounding shifts all predictions alike: significant on thousands of examples, and of no weight."""
    random = np.random.default_rng(0)
    truth = random.normal(5, 2, 400)
    said = truth + 0.3 + random.normal(0, 0.5, 400)
    before, now = (
        [Prediction(float(a), float(b), []) for a, b in zip(truth, at, strict=True)] for at in (said, said + shift)
    )
    result = compare(before, now, scorer_of("text_regression", text="text", label="label"))
    assert result.verdict == outcome, result.figures


def test_several_labels_an_example() -> None:
    random = np.random.default_rng(0)
    make = scorer_of("text_classification", CLASSES, text="text", label=list(CLASSES))

    def rows(miss: float) -> Rows:
        found = []
        for at in range(200):
            label = [name for place, name in enumerate(CLASSES) if (at >> place) & 1]
            said = [name for name in label if random.random() >= miss]
            found.append(Prediction(label, said, [float(name in said) for name in CLASSES]))
        return found

    before = rows(0.1)
    result = compare(before, rows(0.5), make)
    assert verdicts(result)["micro_f1"] == "outside"
    assert compare(before, before, make).verdict == "agrees"


def test_runs_of_machines_are_left_out_as_a_whole() -> None:
    """Several rows of the table are steps of one run, which has one index."""

    def rows(wrong: Callable[[int, int], bool]) -> tuple[Rows, list[int]]:
        found, index = [], []
        for run in range(30):
            for first in (0, 2, 4):
                right = [float(not wrong(run, first + step)) for step in range(2)]
                found.append(Prediction("1 0", "1 0", [run, first, 5, *right]))
                index.append(run)
        return found, index

    make = scorer_of("turing_machine")
    (before, index), (now, _) = rows(lambda run, step: run % 4 == 0 and step == 3), rows(lambda run, step: step == 2)
    result = compare_records(
        record_of(scores_of(before, make)),
        record_of(scores_of(now, make), ELSEWHERE),
        predictions=(table_of(before, index), table_of(now, index)),
        make_scorer=make,
        folder=Path(),
    )
    assert set(verdicts(result).values()) == {"outside"}


def test_without_predictions_a_score_is_not_judged() -> None:
    before, now = classified(0.80), classified(0.79)
    for tables, which in (((None, table_of(now)), "record"), ((table_of(before), None), "new run")):
        result = compare_records(
            record_of(scores_of(before, CLASSIFICATION)),
            record_of(scores_of(now, CLASSIFICATION), ELSEWHERE),
            predictions=tables,
            make_scorer=CLASSIFICATION,
            folder=Path(),
        )
        assert result.verdict == "cannot be judged"
        assert not result.agrees
        assert verdicts(result)["accuracy"] == "unjudged"
        reason = next(figure.reason for figure in result.figures if figure.verdict == "unjudged")
        assert f"the {which} has no predictions of the test split" in str(reason)
    # What is the same needs no judgement.
    result = compare_records(
        record_of(scores_of(before, CLASSIFICATION)),
        record_of(scores_of(before, CLASSIFICATION), ELSEWHERE),
        predictions=(None, None),
        make_scorer=CLASSIFICATION,
        folder=Path(),
    )
    assert result.verdict == "agrees"


def other_rows(rows: Rows) -> pa.Table:
    return table_of(rows[:-10])


def other_index(rows: Rows) -> pa.Table:
    return table_of(rows, [*range(len(rows) - 1), 5000])


def other_labels(rows: Rows) -> pa.Table:
    return table_of([Prediction("neutral", rows[0].prediction, rows[0].scores), *rows[1:]])


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (other_rows, "the record holds 590 predictions, the new run 600"),
        (other_index, "predictions are of other rows"),
        (other_labels, "examples have another label"),
    ],
)
@pytest.mark.parametrize("environment", [HERE, ELSEWHERE])
def test_predictions_of_other_examples_are_not_agreement(
    stored: Callable[[Rows], pa.Table], told: str, environment: dict[str, object]
) -> None:
    before = classified(0.8)
    before[0] = Prediction("negative", "negative", [0.8, 0.1, 0.1])
    now = flipped(before, 5)
    result = compare_records(
        record_of(scores_of(before, CLASSIFICATION)),
        record_of(scores_of(now, CLASSIFICATION), environment),
        predictions=(stored(before), table_of(now)),
        make_scorer=CLASSIFICATION,
        folder=Path(),
    )
    assert result.verdict == "differs"
    assert any(told in str(figure.reason) for figure in result.figures)


def test_a_score_that_its_own_predictions_do_not_have() -> None:
    rows = classified(0.33)
    scores = scores_of(rows, CLASSIFICATION)
    result = compare_records(
        record_of({**scores, "macro_f1": 0.91}),
        record_of(scores, ELSEWHERE),
        predictions=(table_of(rows), table_of(rows)),
        make_scorer=CLASSIFICATION,
        folder=Path(),
    )
    assert result.verdict == "differs"
    (figure,) = [figure for figure in result.figures if figure.name == "test macro_f1"]
    assert "the record says 0.91, and its own predictions say 0.3" in str(figure.reason)


def test_metrics_that_cannot_be_computed_from_the_predictions() -> None:
    rows = [Prediction("unheard of", "negative", [0.8, 0.1, 0.1]) for _ in range(20)]
    result = compare_records(
        record_of({"accuracy": 0.5}),
        record_of({"accuracy": 0.4}, ELSEWHERE),
        predictions=(table_of(rows), table_of([*rows[:19], Prediction("unheard of", "neutral", [0.1, 0.8, 0.1])])),
        make_scorer=CLASSIFICATION,
        folder=Path(),
    )
    assert result.verdict == "cannot be judged"
    assert any("unheard of" in str(figure.reason) for figure in result.figures)


def test_one_example_is_too_few() -> None:
    one = [Prediction("negative", "negative", [0.8, 0.1, 0.1])]
    other = [Prediction("negative", "neutral", [0.1, 0.8, 0.1])]
    assert compare(one, other).verdict == "cannot be judged"
    assert compare(one, one).verdict == "agrees"


def test_a_score_that_is_gone_or_other_data_never_agree() -> None:
    rows = classified(0.8)
    scores = scores_of(rows, CLASSIFICATION)
    same = {"predictions": (table_of(rows), table_of(rows)), "make_scorer": CLASSIFICATION, "folder": Path()}
    gone = {name: value for name, value in scores.items() if name != "auroc"}
    assert compare_records(record_of(scores), record_of(gone, ELSEWHERE), **same).verdict == "differs"
    data = DataSummary(fingerprint="g", rows={"test": 100})
    assert compare_records(record_of(scores), record_of(scores, ELSEWHERE, data=data), **same).verdict == "differs"
    failed = record_of({}, ELSEWHERE, status="diverged")
    assert compare_records(record_of(scores), failed, **same).verdict == "differs"


def test_uncommitted_changes_are_another_environment() -> None:
    rows = classified(0.8)
    result = compare(rows, flipped(rows, 3), environment={**HERE, "uncommitted_changes": True})
    assert result.differences == ["uncommitted changes"]
    assert result.verdict == "agrees"


def test_another_number_of_processes_is_another_environment() -> None:
    rows = classified(0.8)
    result = compare(rows, flipped(rows, 3), environment={**HERE, "processes": 2})
    assert result.differences == ["processes"]
    assert result.verdict == "agrees"
    assert compare(rows, rows, environment={**HERE, "processes": 1}).same_environment
