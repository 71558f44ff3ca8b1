"""Answers in passages: SQuAD's metrics, windows, what is refused, and what a run says."""

from __future__ import annotations

import collections
import json
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
import torch

import peftlab
from peftlab.core.errors import DataError
from peftlab.core.metric import METRICS
from peftlab.recipe.schema import Recipe
from peftlab.tasks.question_answering import QuestionAnswering
from peftlab.tasks.spans.answers import Answer, read_answers
from peftlab.tasks.spans.choice import best_span
from peftlab.tasks.spans.windows import windows_of

PIECES = [
    "the",
    "The",
    "a",
    "an",
    "Oxygen",
    "oxygen,",
    "1,000",
    "U.S.",
    "re-use",
    "",
    "  ",
    "Ärger",
    "'s",
    "cat",
    "cat",
    "-",
]


# --- the functions below are those of SQuAD 2.0's official evaluation script, word for word ---------------------------


def normalize_answer(s):
    def remove_articles(text):
        regex = re.compile(r"\b(a|an|the)\b", re.UNICODE)
        return re.sub(regex, " ", text)

    def white_space_fix(text):
        return " ".join(text.split())

    def remove_punc(text):
        exclude = set(string.punctuation)
        return "".join(ch for ch in text if ch not in exclude)

    def lower(text):
        return text.lower()

    return white_space_fix(remove_articles(remove_punc(lower(s))))


def get_tokens(s):
    if not s:
        return []
    return normalize_answer(s).split()


def compute_exact(a_gold, a_pred):
    return int(normalize_answer(a_gold) == normalize_answer(a_pred))


def compute_f1(a_gold, a_pred):
    gold_toks = get_tokens(a_gold)
    pred_toks = get_tokens(a_pred)
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision = 1.0 * num_same / len(pred_toks)
    recall = 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


def official(labels: list[list[str]], predictions: list[str]) -> tuple[float, float]:
    exact, f1 = [], []
    for answers, said in zip(labels, predictions, strict=True):
        gold = [answer for answer in answers if normalize_answer(answer)] or [""]
        exact.append(max(compute_exact(a, said) for a in gold))
        f1.append(max(compute_f1(a, said) for a in gold))
    return sum(exact) / len(exact), sum(f1) / len(f1)


def test_metrics_are_those_of_the_official_script() -> None:
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(PIECES, k=draw.randint(0, 4)))

    for _ in range(50):
        labels = [[text() for _ in range(draw.randint(0, 3))] for _ in range(20)]
        predictions = [draw.choice(own) if own and draw.random() < 0.5 else text() for own in labels]
        ours = [METRICS[name].score(labels, predictions) for name in ("squad_exact_match", "squad_f1")]
        assert ours == pytest.approx(official(labels, predictions))


# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["tiny_bert", "tiny_gpt2"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(request.getfixturevalue(request.param))


PASSAGE = "the film was good but the actor was bad and the plot was a bore for all of us"


def test_windows_hold_the_whole_passage_and_every_short_answer(tokenizer: Any) -> None:
    windows, is_cut = windows_of("was it good", PASSAGE, tokenizer, max_length=32, stride=8)
    assert not is_cut
    assert len(windows) > 1
    assert all(len(window.input_ids) <= 32 for window in windows)
    seen = {at for window in windows for own in window.offsets if own for at in range(*own)}
    assert {at for at, letter in enumerate(PASSAGE) if letter != " "} <= seen
    for start, end in (match.span() for match in re.finditer(r"good|actor|us$", PASSAGE)):
        answer = Answer(PASSAGE[start:end], start)
        found = []
        for window in windows:
            first, last = window.target(answer)
            if first != window.nowhere:
                offsets = window.offsets[first], window.offsets[last]
                found.append(PASSAGE[offsets[0][0] : offsets[1][1]].strip())
        assert found
        assert set(found) == {answer.text}
    # The best span of all windows is the answer, wherever it lies, and nothing where every window says so.
    logits = torch.zeros(len(windows), 32, 2)
    at = len(windows) - 1
    first, last = windows[at].target(Answer("us", PASSAGE.index("us")))
    logits[at, first, 0] = logits[at, last, 1] = 5
    span = best_span(windows, logits, 10)
    assert PASSAGE[span.start : span.end].strip() == "us"
    assert span.margin == 10
    for row, window in enumerate(windows):
        logits[row, window.nowhere] = 7.0
    assert best_span(windows, logits, 10).margin == -4


def test_a_long_question_leaves_half_of_the_window(tokenizer: Any) -> None:
    windows, is_cut = windows_of("was it good " * 20, PASSAGE, tokenizer, max_length=32, stride=8)
    assert is_cut
    assert sum(own is not None for own in windows[0].offsets) >= 12


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"text": ["good"], "answer_start": [12]}, "row 3: the answer 'good' is not at offset 12.*\n.*It is at 13"),
        ({"text": ["great"], "answer_start": [0]}, "row 3: the answer 'great' is not at offset 0.*\n.*nowhere"),
        ({"text": ["good"], "answer_start": [9000]}, "ends at"),
        ({"text": ["great"]}, "row 3: the answer 'great' is not in its passage"),
        ({"text": ["good", "bad"], "answer_start": [13]}, "2 answers, but 1 values"),
        ({"text": [" "], "answer_start": [3]}, "an answer is empty"),
        (7, "holds no answers"),
    ],
)
def test_an_answer_that_is_not_in_its_passage_is_refused(value: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_answers(value, PASSAGE, "rows.json, row 3")


@pytest.mark.parametrize(
    "value",
    [
        {"text": ["good"], "answer_start": [13]},
        [{"text": "good", "answer_start": 13}],
        '{"text": ["good"], "answer_start": [13]}',
        ["good"],
        "good",
    ],
)
def test_answers_are_read_from_every_layout(value: Any) -> None:
    assert read_answers(value, PASSAGE, "row") == [Answer("good", 13)]
    assert [read_answers(nothing, PASSAGE, "row") for nothing in (None, [], {"text": [], "answer_start": []})] == [
        []
    ] * 3


def test_a_stride_that_leaves_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="no step forward"):
        QuestionAnswering(max_length=64, stride=40)


def test_a_run_on_squads_nested_file_answers_with_a_place(tiny_bert: Path, tmp_path: Path) -> None:
    questions = [
        {"id": str(at), "question": word, "is_impossible": at % 5 == 0,
         "answers": [] if at % 5 == 0 else [{"text": word, "answer_start": PASSAGE.index(word)}]}
        for at, word in enumerate(("film", "good", "actor", "bad", "plot", "us", "but", "bore") * 4)
    ]  # fmt: skip
    articles = [
        {"title": str(at), "paragraphs": [{"context": f"{PASSAGE} {'x' * at}", "qas": questions[at : at + 4]}]}
        for at in range(0, 32, 4)
    ]
    (tmp_path / "squad.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    values = {
        "name": "squad",
        "model": {"path": str(tiny_bert)},
        "task": {"type": "question_answering", "max_length": 24, "stride": 6},
        "data": {"source": str(tmp_path / "squad.json"), "validation_fraction": 0.2},
        "method": {"type": "lora"},
        "training": {"max_steps": 3, "batch_size": 8, "learning_rate": 1e-2},
        "waive_guards": ["answers_vary"],
    }
    record = peftlab.run_recipe(Recipe.from_dict(values), output_dir=tmp_path / "run").record
    assert record.status == "success", record.error
    assert set(record.scores["validation"]) >= {"squad_f1", "squad_exact_match"}
    assert record.learned == {"has_unanswerable": True}
    assert record.data.notes["validation"]["passages_in_windows"] > 0
    (answer,) = peftlab.load(tmp_path / "run").predict([{"question": "good", "context": PASSAGE}])
    if answer["prediction"]:
        assert PASSAGE[answer["start"] : answer["end"]] == answer["prediction"]
    else:
        assert (answer["start"], answer["end"]) == (None, None)
    articles[0]["paragraphs"][0]["qas"][1]["answers"][0]["answer_start"] = 2
    (tmp_path / "squad.json").write_text(json.dumps({"data": articles}))
    with pytest.raises(DataError, match=r"squad.json, row 2: the answer 'good' is not at offset 2"):
        peftlab.run_recipe(Recipe.from_dict(values), output_dir=tmp_path / "again")
