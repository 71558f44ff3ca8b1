"""The sentence above a comparison: what it came to, and what to do where nothing is decided."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import FakeData, FakeMethod, fake_record, write_predictions, write_run

from peftlab.core.record import write_record
from peftlab.report.document import build_report
from peftlab.report.headlines import headline

ALIKE = FakeMethod("a", 0.75, 1000, 10**8, 1000)


def write_alike(folder: Path, seeds: int, names: str = "abc", examples: int = 300) -> str:
    """Methods that no test tells apart."""
    data = FakeData(examples)
    for at, name in enumerate(names):
        for seed in range(seeds):
            method = replace(ALIKE, name=name, accuracy=0.75 + 0.001 * at)
            write_run(folder / f"{name}{seed}", method, seed, data)
    (comparison,) = build_report([folder]).comparisons
    return headline(comparison)


def test_without_a_winner_it_says_so_and_what_to_do(tmp_path: Path) -> None:
    told = write_alike(tmp_path, 1, examples=2000)
    assert told.startswith("No winner among 3 methods: the best mean accuracy is ")
    assert told.endswith("no test shows that another method is worse. Choose by cost; more seeds may tell them apart.")


def test_of_seeds_that_say_the_same_more_examples_would_tell(tmp_path: Path) -> None:
    data = FakeData(60)
    for at, name in enumerate("abc"):
        predicted, _ = data.predict(0.75, at)
        scores = {"test": {"accuracy": float((predicted == data.labels).mean())}}
        for seed in range(3):
            method = replace(ALIKE, name=name)
            folder = write_run(tmp_path / f"{name}{seed}", method, seed, data, scores=scores, predictions=False)
            write_predictions(folder, data, predicted)
    (comparison,) = build_report([tmp_path]).comparisons
    assert headline(comparison).endswith("Choose by cost; more test examples may tell them apart.")


def test_two_methods_are_both_named(tmp_path: Path) -> None:
    told = write_alike(tmp_path, 1, "ab")
    assert "cannot be told apart. The best mean accuracy is" in told
    assert "methods" not in told


@pytest.mark.parametrize("number", [3, 18])
def test_without_predictions_more_seeds_would_tell(tmp_path: Path, number: int) -> None:
    for at in range(number):
        for seed in range(2):
            folder = tmp_path / f"{at}-{seed}"
            folder.mkdir()
            write_record(
                fake_record(ALIKE, seed, {"test": {"auroc": 0.7 + 0.01 * seed + 0.001 * at * seed}}, name=f"m{at}"),
                folder,
            )
    (comparison,) = build_report([tmp_path], metric="auroc").comparisons
    assert headline(comparison).startswith(f"No winner among {number} methods")
    assert "more seeds may tell them apart" in headline(comparison)
