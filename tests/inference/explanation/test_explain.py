"""Attributions make up the whole decision, and point at the word that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peftlab.core.errors import UnsupportedError, UserError
from peftlab.inference.explanation.attributions import Explanation, explain
from peftlab.inference.explanation.page import coloured_text, completeness, decision, write_page
from peftlab.inference.load_tuned import load_tuned
from tests.conftest import Command

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["{type: lora, rank: 4}", "{type: prompt_tuning}"])
def test_attributions_are_complete(
    method: str, command: Command, tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
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
    told = completeness(replace(found, logit=1.0, baseline_logit=0.0, attributions=[1.00001]))
    assert "(gap +0.0000," in told
    assert "more --steps" not in told
    assert "more --steps" in completeness(replace(found, logit=1.0, baseline_logit=0.0, attributions=[0.7]))
    done = command("explain", tuned.folder, "we saw the lovely film", "--output", "why.html", "--offline")
    assert done.returncode == 0, done.stderr
    assert "why.html" in done.stdout
    assert Path("why.html").is_file()
    refused = command("explain", tuned.folder, " ", "--offline")
    assert (refused.returncode, "the text is empty" in refused.stderr) == (2, True)
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
    assert tuned.inference is not None
    tuned.model.float()
    whole = explain(replace(tuned, inference=replace(tuned.inference, autocast_dtype=None)), text)
    scale = max(1.0, max(map(abs, whole.attributions)))
    assert abs(half.completeness_gap) < 0.1 * max(scale, abs(half.logit - half.baseline_logit))
    assert half.attributions == pytest.approx(whole.attributions, abs=0.1 * scale)


def test_words_apart_have_no_one_decision(tiny_run: Callable[..., Path], entities: Path) -> None:
    run = tiny_run(task="{type: token_classification, max_length: 32}", data=entities)
    with pytest.raises(UnsupportedError, match="every word"):
        explain(load_tuned(run, offline=True), "a good film")


def test_a_page_shows_what_the_user_wrote(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    """No ``[UNK]`` for an emoji or a foreign word, and the attributions still make up the whole."""
    tuned = load_tuned(tiny_run("{type: lora, rank: 4}"), offline=True)
    found = explain(tuned, "We SAW \U0001f44d\U0001f3fd the 日本 film", steps=100)
    assert found.tokens == ["[CLS]", "We", "SAW", "\U0001f44d\U0001f3fd", "the", "日", "本", "film", "[SEP]"]
    assert len(found.attributions) == len(found.after_blank) == len(found.tokens)
    assert not found.after_blank[found.tokens.index("本")]
    assert abs(found.completeness_gap) < 0.05 * max(1.0, abs(found.logit - found.baseline_logit))
    write_page(found, tmp_path / "page.html")
    assert "[UNK]" not in (tmp_path / "page.html").read_text()
    assert "SAW \U0001f44d\U0001f3fd the 日本 film" in coloured_text(found).plain


def test_byte_level_pieces_of_one_character_are_whole(tiny_run: Callable[..., Path]) -> None:
    tuned = load_tuned(tiny_run(base="gpt2", task="{type: text_classification, max_length: 64}"), offline=True)
    found = explain(
        tuned, "good \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301t\u00e9 \U0001f1e9\U0001f1ea", steps=10
    )
    text = "".join(" " * blank + token for token, blank in zip(found.tokens, found.after_blank, strict=True))
    assert text.strip() == "good \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301t\u00e9 \U0001f1e9\U0001f1ea"
    assert "\U0001f468\u200d\U0001f469\u200d\U0001f467" in found.tokens
    assert "\U0001f1e9\U0001f1ea" in found.tokens
    assert not any("Ġ" in token or "ð" in token for token in found.tokens)


def test_the_texts_of_a_pair_are_each_as_written(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    rows = [f"good film {at},{'good' if at % 2 else 'bad'} film,{at % 2}" for at in range(60)]
    pairs.write_text("\n".join(["text_1,text_2,label", *(f"{row}" for row in rows)]))
    tuned = load_tuned(tiny_run(task="{type: text_pair_classification, max_length: 32}", data=pairs), offline=True)
    found = explain(tuned, "Good \U0001f600 film\tbad \U0001f61e film", steps=10)
    assert found.tokens == ["[CLS]", "Good", "\U0001f600", "film", "[SEP]", "bad", "\U0001f61e", "film", "[SEP]"]


def test_a_cut_text_and_typed_special_tokens_are_as_written(tiny_run: Callable[..., Path]) -> None:
    tuned = load_tuned(tiny_run("{type: lora, rank: 4}"), offline=True)
    found = explain(tuned, "[SEP] Good " * 40, steps=10)
    assert (found.tokens[0], found.tokens[-1]) == ("[CLS]", "[SEP]")
    assert "".join(found.tokens[1:-1]).startswith("[SEP]Good[SEP]Good")
    assert "[UNK]" not in found.tokens


@pytest.mark.parametrize(
    ("prediction", "shown"), [(3.141592653589793, "3.141593"), (["a", "b"], "a, b"), ([], "no label"), ("a", "a")]
)
def test_a_decision_is_shown_as_people_write_it(prediction: Any, shown: str, tmp_path: Path) -> None:
    found = Explanation("run", prediction, "a", ["good"], [True], [1.0], logit=1.0, baseline_logit=0.0, steps=4)
    assert decision(found) == shown
    write_page(found, tmp_path / "page.html")
    assert f"Prediction: <strong>{shown}</strong>" in (tmp_path / "page.html").read_text()


SCREENS = {"desktop": {"width": 1280}, "phone": {"width": 390, "height": 844, "phone": True}}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_fits_the_screen_and_can_be_read(tab: Any, tmp_path: Path, screen: str, dark: bool) -> None:
    long = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
    tokens = ["[CLS]", "fine", long, "\U0001f44d", "[SEP]"]
    found = Explanation(
        long, "good", "good", tokens, [True] * 5, [0.0, 1.0, -1.0, 0.5, -0.5], logit=1.0, baseline_logit=1.0, steps=4
    )
    write_page(found, tmp_path / "page.html")
    tab.open(tmp_path / "page.html", dark=dark, **SCREENS[screen])
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert tab.evaluate(CONTRAST) >= 4.5
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(21, 23, 26)" if dark else "rgb(253, 253, 252)")
    assert tab.errors == []


# The least contrast (WCAG 2) between a token's text and its colour over the page's.
CONTRAST = """
(() => {
  const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return v.length > 3 ? v : [...v, 1]; };
  const light = (c) => {
    const [r, g, b] = c.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = parse(getComputedStyle(document.body).backgroundColor);
  return Math.min(...[...document.querySelectorAll(".tokens span")].map((span) => {
    const style = getComputedStyle(span), tone = parse(style.backgroundColor), text = parse(style.color).slice(0, 3);
    const over = [0, 1, 2].map((at) => tone[3] * tone[at] + (1 - tone[3]) * page[at]);
    const [a, b] = [light(text), light(over)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
})()
"""
