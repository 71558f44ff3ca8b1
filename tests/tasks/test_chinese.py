"""Texts without blanks between words: metrics against references, changes of texts, and a BERT of characters."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk import word_tokenize
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from peftlab.core.metric import METRICS
from peftlab.core.perturbation import PERTURBATIONS
from peftlab.core.words import split_words
from peftlab.data.duplicates import text_key
from peftlab.models.character_tokenizer import character_tokenizer
from peftlab.statistics.texts import rouge_scores
from peftlab.tasks._text_metrics import are_short, diversity, overlap
from tests.conftest import Command

LETTERS = "好吃不送餐很快慢，。“ ab3 -"
ANSWERS = st.text(LETTERS, max_size=9)


# --- the functions below follow CMRC 2018's script, cmrc2018_evaluate.py, step by step --------------------------------

SIGNS = "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"


def segmented(text: str) -> list[str]:
    found, rest = [], ""
    for sign in text.lower().strip():
        if sign in SIGNS:
            continue
        if "\u4e00" <= sign <= "\u9fa5":
            found += word_tokenize(rest, preserve_line=True) if rest else []
            found.append(sign)
            rest = ""
        else:
            rest += sign
    return found + (word_tokenize(rest, preserve_line=True) if rest else [])


def longest(first: list[str], second: list[str]) -> int:
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            if one == other:
                lengths[i + 1][j + 1] = lengths[i][j] + 1
    return max(map(max, lengths))


def script_f1(right: str, said: str) -> float:
    own, other = segmented(right), segmented(said)
    shared = longest(own, other)
    if shared == 0:
        return 0.0
    precision, recall = shared / len(other), shared / len(own)
    return 2 * precision * recall / (precision + recall)


def script_match(right: str, said: str) -> float:
    plain = ["".join(sign for sign in text.lower().strip() if sign not in SIGNS) for text in (right, said)]
    return float(plain[0] == plain[1])


@settings(max_examples=60, deadline=None)
@given(ANSWERS.map("好".__add__), ANSWERS)
def test_cmrc_metrics_are_those_of_the_script(right: str, said: str) -> None:
    assert METRICS["cmrc_f1"].score([[right]], [said]) == pytest.approx(script_f1(right, said))
    assert METRICS["cmrc_exact_match"].score([[right]], [said]) == script_match(right, said)


def test_cmrc_metrics_are_of_chinese_answers_only() -> None:
    assert METRICS["cmrc_f1"].score([["the cat"], []], ["cat", ""]) is None
    # 北京 is shared: 2 of 3 and 2 of 4 characters.
    assert METRICS["cmrc_f1"].score([["北京市"], []], ["在北京城", ""]) == pytest.approx((4 / 7 + 1) / 2)


@settings(max_examples=60, deadline=None)
@given(st.text("好吃送餐 ab，", max_size=12), st.text("好吃送餐 ab，", max_size=12))
def test_rouge_takes_each_chinese_character_for_a_word(text: str, reference: str) -> None:
    def spelt(value: str) -> str:  # for rouge-score itself, which knows Latin letters alone
        return "".join(f" x{ord(sign)} " if "\u4e00" <= sign <= "\u9fff" else sign for sign in value)

    for kind in ("rouge1", "rouge2", "rougeL"):
        expected = RougeScorer([kind]).score(spelt(reference), spelt(text))[kind].fmeasure
        assert rouge_scores([text], [[reference]], kind=kind)[0] == pytest.approx(expected)


def test_bleu_and_distinct_of_chinese_texts() -> None:
    texts, references = ["今天的外卖很好吃", "送得很慢"], [["今天外卖很好吃"], ["送得太慢了"]]
    scores = overlap(texts, references)
    assert scores["bleu"] == corpus_bleu(texts, [[row[0] for row in references]], tokenize="zh").score > 0
    assert not are_short(references)
    assert diversity(["好吃好"]) == pytest.approx({"distinct_1": 2 / 3, "distinct_2": 1.0})


def test_words_and_equal_texts() -> None:
    assert split_words("外卖 app好吃！ ok") == ["外", "卖", "app", "好", "吃", "！", "ok"]
    assert split_words("as it is, now") == ["as", "it", "is,", "now"]
    assert text_key(["很快 好吃， app"]) == text_key(["很快好吃，app"]) != text_key(["很快好喝，app"])
    assert text_key(["a b"]) != text_key(["ab"])


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("punctuation", "很快，好吃。味道好！", "很快 好吃 味道好"),
        ("truncation", "很快，好吃极了", "很快，好吃极"),
        ("negation_added", "送餐很快", "送餐不是很快"),
        ("negation_added", "还是老板好，味道是真的好", "还是老板好，味道不是真的好"),
        ("negation_removed", "没有送水", "送水"),
        ("negation_removed", "味道不错，不会再点", "味道不错，会再点"),
    ],
)
def test_changes_of_chinese_texts(name: str, text: str, expected: str) -> None:
    assert PERTURBATIONS[name]().perturb(text, random.Random(0)) == expected


def test_random_changes_of_chinese_texts() -> None:
    text = "外卖送得很快，味道也不错，就是米饭有点硬"
    for seed in range(20):
        typo = PERTURBATIONS["typos"]().perturb(text, random.Random(seed))
        assert typo != text
        assert abs(len(typo) - len(text)) <= 1  # one pair of ten
    assert "上海" not in PERTURBATIONS["entities"]().perturb("我在上海点的", random.Random(0))
    added = PERTURBATIONS["distractor"]().perturb(text, random.Random(0))
    assert added.startswith(text + "。")
    assert added.isascii() is False
    assert " " not in added


def test_a_tokenizer_of_characters() -> None:
    tokenizer = character_tokenizer(["好吃 App！", "好 a"], 100)
    assert tokenizer.tokenize("好吃app") == ["好", "吃", "a", "##p", "##p"]
    assert tokenizer("好")["input_ids"] == [2, tokenizer.convert_tokens_to_ids("好"), 3]
    assert tokenizer.tokenize("难") == ["[UNK]"]
    assert len(character_tokenizer(["好吃 App！", "好 a"], 6)) == 6  # the most frequent one is kept
    assert character_tokenizer(["好吃", "好"], 6).tokenize("好吃") == ["好", "[UNK]"]
    japanese = "私はペンです。人々は毎日働く"
    assert "[UNK]" not in character_tokenizer([japanese], 100).tokenize(japanese)


def test_a_bert_of_characters_reads_and_is_tuned(command: Command, tmp_path: Path) -> None:
    draw = random.Random(0)
    good, bad = "好吃快香多", "慢冷硬少差"
    rows = [
        (at % 2, "".join(draw.choices(good if at % 2 else bad, k=4)) + f"，{at}" + "".join(draw.choices("餐饭送", k=4)))
        for at in range(80)
    ]
    (tmp_path / "reviews.csv").write_text("label,review\n" + "".join(f'{label},"{text}"\n' for label, text in rows))
    new = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    recipe = {
        "model": {"tokenizer": "characters", "from_config": {**new, "intermediate_size": 16}},
        "task": {"type": "masked_lm", "text": "review", "max_length": 32},
        "data": {"source": "reviews.csv", "test_fraction": 0.2, "validation_fraction": 0.2},
        "method": {"type": "full"},
        "training": {"max_steps": 2, "batch_size": 4},
    }
    tuned = {
        **recipe,
        "model": {"path": "read"},
        "task": {"type": "text_classification", "text": "review", "label": "label", "max_length": 32},
    }
    unread = {**tuned, "model": recipe["model"]}
    for name, values in (("read", recipe), ("tuned", tuned), ("unread", unread)):
        (tmp_path / f"{name}.yaml").write_text(json.dumps(values))
        done = command("run", tmp_path / f"{name}.yaml", "--output-dir", tmp_path / name)
        assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "tuned" / "record.json").read_text())
    assert record["status"] == "success"
    assert "accuracy" in record["scores"]["test"]
