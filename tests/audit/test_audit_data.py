"""Faults that are planted in data, and found by an audit."""

from __future__ import annotations

import numpy as np

from peftlab.core.audit import AUDITS, Figure
from peftlab.statistics.label_errors import suspected_labels
from peftlab.testing.audited_rows import audited, split
from tests.conftest import GOOD, sentences

ROWS = sentences(400, seed=5)
TRAIN = sentences(1200, seed=77)


def scores(text: str) -> list[float]:
    """Nine in ten for the right class; a little else by length, so that rows differ."""
    good = 0.9 if set(text.split()) & set(GOOD) else 0.1
    return [1 - good - 0.001 * len(text), good + 0.001 * len(text)] if good < 0.5 else [1 - good, good]


def figures_of(texts: list[str], labels: list[str], train: list[tuple[str, str]]) -> dict[str, Figure]:
    rows = audited(scores, texts, labels, train=split("train", *zip(*train, strict=True)))
    return {figure.name: figure for figure in AUDITS["data"](examples=400).run(rows).figures}


def test_planted_faults_are_found() -> None:
    texts, labels = map(list, zip(*ROWS, strict=True))
    flipped = set(np.random.default_rng(0).choice(400, 20, replace=False).tolist())
    labels = [("good" if label == "bad" else "bad") if at in flipped else label for at, label in enumerate(labels)]
    leaked = [(text.upper(), label) for text, label in ROWS[:50]]
    near = [(f"{text} !", label) for text, label in ROWS[50:70]]
    known = {text for text, _ in ROWS}
    clean = [(text, label) for text, label in TRAIN if text not in known]
    figures = figures_of(texts, labels, [*clean, *leaked, *near])
    assert figures["data.leaks"].value == 50 / 400
    assert figures["data.leaks"].is_fault
    assert not figures["data.near_leaks"].is_fault
    listed = {example["row"] - 1 for example in figures["data.near_leaks"].examples}
    assert {at for at in range(50, 70) if len(texts[at].split()) >= 5} <= listed
    assert not {at for at in listed if len(texts[at].split()) < 5}
    found = [example["row"] - 1 for example in figures["data.label_errors"].examples]
    assert set(found) == flipped  # 5 % of the labels, all in the first 5 % of the list
    assert figures["data.conflicts"].value >= sum(at < 50 for at in flipped)
    assert figures["data.classes_not_trained"].value == 0


def test_clean_data_have_no_fault() -> None:
    texts, labels = map(list, zip(*ROWS, strict=True))
    known = {text for text, _ in ROWS}
    figures = figures_of(texts, labels, [(text, label) for text, label in TRAIN if text not in known])
    assert not any(figure.is_fault for figure in figures.values())
    assert figures["data.label_errors"].value == 0
    assert figures["data.conflicts"].value == 0
    only = figures_of(texts, labels, [(text, label) for text, label in TRAIN if label == "good"])
    assert only["data.classes_not_trained"].is_fault
    assert "bad" in only["data.classes_not_trained"].sentence


def test_suspected_labels_against_the_definition() -> None:
    generator = np.random.default_rng(2)
    probabilities = generator.dirichlet(np.ones(4) * 0.5, size=300)
    labels = np.array([generator.choice(4, p=row) for row in probabilities])
    usual = [np.mean([p[c] for p, y in zip(probabilities, labels, strict=True) if y == c]) for c in range(4)]
    expected = {}
    for at, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
        reached = [c for c in range(4) if row[c] >= usual[c]]
        if reached and max(reached, key=lambda c: row[c]) != label != row.argmax():
            expected[at] = row[label] - max(row[c] for c in range(4) if c != label)
    assert expected
    assert suspected_labels(labels, probabilities).tolist() == sorted(expected, key=lambda at: expected[at])
