"""Attributions make up the whole decision, and point at the word that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from peftlab.errors import UnsupportedError, UserError
from peftlab.explanation.attributions import explain
from peftlab.explanation.page import coloured_text, write_page
from peftlab.prediction.load import load_tuned


@pytest.mark.parametrize("method", ["{type: lora, rank: 4}", "{type: prompt_tuning}"])
def test_attributions_are_complete(method: str, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    tuned = load_tuned(tiny_run(method), offline=True)
    found = explain(tuned, "we saw the lovely film <b>", steps=300)
    assert found.tokens[1:6] == ["we", "saw", "the", "lovely", "film"]
    difference = found.logit - found.baseline_logit
    assert abs(found.completeness_gap) < 0.05 * max(1.0, abs(difference))
    assert found.target == found.prediction
    write_page(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "lovely" in page
    assert "<b>" not in page.partition("<body>")[2].replace("<body>", "")
    assert "lovely" in coloured_text(found).plain
    other = next(label for label in tuned.labels if label != found.target)
    assert explain(tuned, "we saw the lovely film", target=other).target == other
    with pytest.raises(UserError, match="no class"):
        explain(tuned, "a film", target="goood")


@pytest.mark.parametrize("base", ["bert", "gpt2"])
def test_a_base_in_half_precision_is_explained(base: str, tiny_run: Callable[..., Path]) -> None:
    """The adapter is float32 and the base is not: only under autocast do they meet."""
    tuned, text = load_tuned(tiny_run(base=base, dtype="bfloat16"), offline=True), "we saw the lovely film"
    half = explain(tuned, text)
    assert tuned.model is not None
    assert tuned.asking is not None
    tuned.model.float()
    whole = explain(replace(tuned, asking=replace(tuned.asking, autocast_dtype=None)), text)
    scale = max(1.0, max(map(abs, whole.attributions)))
    assert abs(half.completeness_gap) < 0.1 * max(scale, abs(half.logit - half.baseline_logit))
    assert half.attributions == pytest.approx(whole.attributions, abs=0.1 * scale)


def test_words_apart_have_no_one_decision(tiny_run: Callable[..., Path], entities: Path) -> None:
    run = tiny_run(task="{type: token_classification, max_length: 32}", data=entities)
    with pytest.raises(UnsupportedError, match="every word"):
        explain(load_tuned(run, offline=True), "a good film")
