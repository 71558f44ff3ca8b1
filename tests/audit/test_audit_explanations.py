"""Explanations tested: faithful ones beat random orders, others do not, and the verb on a tiny run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from peftlab.audit.audited_run import AuditedRun
from peftlab.audit.word_attributions import curve_texts, rank_correlation, text_of, words_of
from peftlab.core.audit import AUDITS, AttributedWord, Figure
from peftlab.inference.explanation.attributions import Explanation
from peftlab.inference.load_tuned import load_tuned
from peftlab.testing.audited_rows import FunctionModel, audited
from tests.conftest import Command, sentences


def words(text: str, values: Sequence[float]) -> list[AttributedWord]:
    return [AttributedWord(word, True, value) for word, value in zip(text.split(), values, strict=True)]


def test_tokens_become_words() -> None:
    tokens = ["[CLS]", "un", "happy", "film", "!", "电", "影", "[SEP]"]
    blanks = [True, True, False, True, False, True, False, True]
    explanation = Explanation("run", "bad", "bad", tokens, blanks, [9, 1, 2, 4, 8, 16, 32, 9], 1, 0, 16)
    found = words_of(explanation, {"[CLS]", "[SEP]"})
    assert [(word.text, word.value) for word in found] == [("unhappy", 3), ("film!", 12), ("电", 16), ("影", 32)]
    assert text_of(found, {0, 1, 2, 3}) == "unhappy film! 电影"
    assert text_of(found, {1, 3}) == "film!影"


def test_curves() -> None:
    deleted, inserted = curve_texts(words("a b c d", [1, 2, 3, 4]), [3, 1, 0, 2], 4)
    assert deleted == ["a b c", "a c", "c", ""]
    assert inserted == ["d", "b d", "a b d", "a b c d"]


def test_likeness() -> None:
    one = words("a b c d e", [1, 2, 3, 4, 5])
    assert rank_correlation(one, words("e d c b x", [50, 40, 30, 20, 7])) == pytest.approx(1)
    assert rank_correlation(one, words("a b c d", [4, 3, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(one, words("a b c", [1, 2, 3])) is None
    assert rank_correlation(one, words("a b c d", [1, 1, 1, 1])) is None


def said(text: str) -> list[float]:
    score = 0.5 + 0.45 * (text.count("great") > 0) - 0.45 * (text.count("awful") > 0)
    return [1 - score, score]


def run_part(monkeypatch: pytest.MonkeyPatch, explain: Callable[..., Any] | None = None) -> dict[str, Figure]:
    if explain is not None:
        monkeypatch.setattr(FunctionModel, "attributions", explain)
    texts = [f"the {'great' if at % 2 else 'awful'} film of {at} people in a town by the sea" for at in range(40)]
    rows = audited(said, texts, ["good" if at % 2 else "bad" for at in range(40)])
    part = AUDITS["explanations"]()
    assert part.why_not(rows) is None
    return {figure.name: figure for figure in part.run(rows).figures}


def test_faithful_explanations_beat_random_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_part(monkeypatch)
    assert found["explanations.deletion"].low > 0.1  # type: ignore[operator]
    assert found["explanations.insertion"].low > 0.1  # type: ignore[operator]
    assert found["explanations.deletion"].n == 20
    wrong = run_part(
        monkeypatch, lambda self, text, target: words(text, [-float(w in ("great", "awful")) for w in text.split()])
    )
    assert wrong["explanations.deletion"].high < 0  # type: ignore[operator]
    assert "not told apart" in wrong["explanations.insertion"].sentence


def test_explanations_that_the_weights_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the length of words alone, so of whatever model: the sanity check raises an alarm."""
    monkeypatch.setattr(FunctionModel, "randomized", lambda self: self)
    found = run_part(monkeypatch, lambda self, text, target: words(text, [len(word) for word in text.split()]))
    assert found["explanations.randomized"].value == pytest.approx(1)
    assert found["explanations.randomized"].p_value < 0.001  # type: ignore[operator]


def test_the_verb(command: Command, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("captum")
    rows = "".join(f"{text},{label}\n" for text, label in sentences(30, seed=9))
    (tmp_path / "new.csv").write_text("text,label\n" + rows)
    settings = ("--set", "explanations.texts=10", "--set", "explanations.random_orders=1")
    done = command("audit", tiny_run(), "--data", "new.csv", "--parts", "explanations", *settings, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert {"explanations.deletion", "explanations.insertion", "explanations.randomized"} <= figures.keys()
    assert figures["explanations.randomized"]["value"] < 0.6
    model = AuditedRun(load_tuned(tiny_run()))
    text = sentences(1, seed=9)[0][0]
    found = model.attributions(text, model.labels[0])
    assert found is not None
    assert text_of(found, set(range(len(found)))) == text


def test_a_text_in_several_windows_is_left_out(tiny_run: Callable[..., Path]) -> None:
    """It is read in pieces, of which an explanation has one; the rest of the audit goes on."""
    run = tiny_run(task="{type: text_classification, max_length: 8, windows: {stride: 2, most: 4}}", steps=2)
    model = AuditedRun(load_tuned(run))
    assert model.attributions("one two three four five six seven eight nine ten", model.labels[0]) is None
