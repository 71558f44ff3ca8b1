"""Metrics of text against figures worked out by hand, and against the libraries on several references."""

from __future__ import annotations

import pytest

from peftlab.core.task import Prediction
from peftlab.tasks._text_metrics import TextScorer, diversity, overlap


def test_equal_text_has_the_best_scores() -> None:
    texts = ["the film was good and kind", "we saw it in town then"]
    scores = overlap(texts, [[text] for text in texts])
    assert scores == pytest.approx(
        {"exact_match": 1, "bleu": 100, "chrf": 100, "rouge_1": 1, "rouge_2": 1, "rouge_l": 1}
    )


def test_the_nearest_of_several_references_counts() -> None:
    scores = overlap(["a b c d", "x"], [["e f", "a b c d"], ["y"]])
    assert scores["exact_match"] == 0.5
    assert scores["rouge_1"] == pytest.approx(0.5)
    assert overlap(["a b c d"], [["a b c d", "e"]])["bleu"] == pytest.approx(100)


def test_rouge_by_hand() -> None:
    # 3 of 4 words shared each way; pairs: "a b" is shared, of 3; longest common subsequence: a b d.
    scores = overlap(["a b c d"], [["a b d e"]])
    assert scores["rouge_1"] == pytest.approx(0.75)
    assert scores["rouge_2"] == pytest.approx(1 / 3)
    assert scores["rouge_l"] == pytest.approx(0.75)


def test_distinct_by_hand() -> None:
    assert diversity(["a b a", "a b"]) == pytest.approx({"distinct_1": 2 / 5, "distinct_2": 2 / 3})
    assert diversity(["", "a"])["distinct_2"] == 0.0


def test_loss_is_weighted_by_tokens() -> None:
    scorer = TextScorer()
    scorer.add([Prediction(["a"], None, [2.0, 1.0]), Prediction(["b"], None, [1.0, 3.0])])
    assert scorer.compute()["loss"] == pytest.approx(0.75)
