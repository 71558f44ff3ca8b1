"""Tags and spans in every form: converted there and back, read in windows, and refused where they contradict."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import peftlab
from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.tasks._entities import spans_of
from peftlab.tasks._tag_style import entities_of, in_style, style_of
from peftlab.tasks._tags import Scheme, out_of_order, recognise, to_bio
from peftlab.tasks.spans.labelled import read_spans, tags_of_spans
from peftlab.tasks.token_classification import TokenClassification
from peftlab.tasks.windows import Windows
from tests.conftest import sentences
from tests.tasks.test_task_plugin import WORDS

FORMS = {
    "BIOES": ("B-{}", "I-{}", "E-{}", "S-{}", "O"),
    "BILOU": ("B-{}", "I-{}", "L-{}", "U-{}", "O"),
    "BMES": ("B_{}", "M_{}", "E_{}", "S_{}", "O"),
    "suffixes": ("{}-B", "{}-I", "{}-I", "{}-B", "O"),
    "lower case": ("b-{}", "i-{}", "i-{}", "b-{}", "o"),
    "IO": ("I-{}", "I-{}", "I-{}", "I-{}", "O"),
    "types": ("{}", "{}", "{}", "{}", "O"),
}


def texts_of(form: str, seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Texts whose entities have one to four words: tags in a form, and as B-, I- and O."""
    begin, inside, end, single, outside = FORMS[form]
    draw = random.Random(seed)
    written: list[list[str]] = []
    bio: list[list[str]] = []
    for _ in range(30):
        own, plain = [outside], ["O"]
        for _ in range(draw.randrange(1, 5)):
            kind, length = draw.choice(["PER", "LOC", "MISC"]), draw.randrange(1, 5)
            letters = [single] if length == 1 else [begin, *[inside] * (length - 2), end]
            gap = draw.randrange(form in ("IO", "types"), 4) if own[-1] != outside else 0
            own += [*[outside] * gap, *(letter.format(kind) for letter in letters)]
            plain += [*["O"] * gap, f"B-{kind}", *[f"I-{kind}"] * (length - 1)]
        written.append([*own, outside, outside, outside])
        bio.append([*plain, "O", "O", "O"])
    return written, bio


@pytest.mark.parametrize("form", FORMS)
def test_tags_go_to_bio_and_back(form: str) -> None:
    for seed in range(20):
        written, bio = texts_of(form, seed)
        counts = Counter(tag for own in written for tag in own)
        scheme: Scheme = "io" if form == "IO" else recognise(counts, where="rows")
        assert [to_bio(own, scheme) for own in written] == bio
        style = json.loads(json.dumps(style_of(counts, scheme)))
        assert [in_style(own, style) for own in bio] == written
        has_ends = bool(style["end"])
        if scheme == "bioes":
            assert all(out_of_order(own, has_ends=has_ends) is None for own in written)


def test_entities_are_seqevals() -> None:
    known = json.loads(Path(__file__).with_name("seqeval.json").read_text())["entities"]
    assert len(known) == 60
    for tags, entities in known:
        found = entities_of(tags.split())
        assert " ".join(f"{kind}:{first}:{behind}" for kind, first, behind in found) == entities


def spoken(seed: int) -> tuple[str, list[dict[str, Any]]]:
    """A text with marks, Chinese and blanks, and spans of whole words."""
    draw = random.Random(seed)
    text, spans = "", []
    for _ in range(draw.randrange(1, 8)):
        text += draw.choice(["we saw ", "in ", "(", "好", " -- ", ", "])
        start = len(text)
        text += draw.choice(["Anna", "New York", "U.S.", "北京", "3 km"])
        spans.append({"start": start, "end": len(text), "label": draw.choice(["X", "Y"])})
        text += draw.choice([" ", ", ", ". "])
    return text, spans


def test_spans_go_to_tags_and_back() -> None:
    for seed in range(200):
        text, given = spoken(seed)
        spans = read_spans(given[::-1], text, "row 1")  # in any order
        tags, widened = tags_of_spans(spans, text, "row 1")
        assert not widened
        found = spans_of(text, tags, [0.5] * len(tags))
        assert [{key: each[key] for key in ("start", "end", "label")} for each in found] == given
        assert all(text[each["start"] : each["end"]] == each["text"] for each in found)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([{"start": 0, "end": 4, "label": "X"}, {"start": 3, "end": 6, "label": "Y"}], "overlap"),
        ([{"start": 7, "end": 40, "label": "X"}], "outside the text, or is empty: the text has 12 characters"),
        ([{"start": 3, "end": 3, "label": "X"}], "is empty"),
        ([{"start": -1, "end": 3, "label": "X"}], "outside the text"),
        ([{"start": 4, "end": 5, "label": "X"}], "holds blanks alone"),
        ([{"start": 0, "end": 4, "label": " "}], "has no label"),
        ([{"start": "0", "end": 4, "label": "X"}], "no whole numbers"),
        ([{"start": 0, "end": 4}], "lacks start, end or label"),
        ("Anna", "no list"),
        ([{"start": 5, "end": 6, "label": "X"}, {"start": 6, "end": 8, "label": "Y"}], "both of the word 'saw'"),
    ],
)
def test_wrong_spans_are_named(spans: Any, message: str) -> None:
    split = Split("train", [6], {"tokens": ["Anna saw Ulm"], "spans": [spans]}, "rows.jsonl")
    with pytest.raises(DataError, match=message) as caught:
        TokenClassification(spans="spans").check_split(split, ("O", "B-X", "I-X", "B-Y", "I-Y"))
    assert "rows.jsonl, row 7" in str(caught.value)


def test_tags_that_contradict_each_other_are_named() -> None:
    rows = [["B-X", "E-X", "S-X"], ["O", "B-X", "O"], ["O", "E-X", "O"]]
    split = Split("train", range(3), {"tokens": [["a", "b", "c"]] * 3, "tags": rows}, "rows.jsonl")
    task: Any = TokenClassification()
    task = task.fitted(task.learn(split))
    with pytest.raises(DataError, match=r"row 2: the tag 'O' of word 3 is out of order"):
        task.check_split(split, task.learn_labels(split))
    loose = Split("train", [0], {"tokens": [["a", "b", "c"]], "tags": [["O", "I-X", "B-X"]]}, "rows.jsonl")
    told = TokenClassification().notices({"train": loose}, ("O", "B-X", "I-X"))
    assert "the first is rows.jsonl, row 1" in told["tags_out_of_order"]


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2"])
def test_each_word_is_tagged_once_where_there_is_most_text_around_it(
    model: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(request.getfixturevalue(model))
    words = " ".join(text for text, _ in sentences(6)).replace("good", "goodness").split()
    split = Split("train", [0], {"tokens": [words], "tags": [["B-X" if at % 3 else "O" for at in range(len(words))]]})
    labels = ("O", "B-X")
    (whole,) = TokenClassification(max_length=500).encode(split, tokenizer, labels).examples
    for stride in (0, 3, 6):
        task = TokenClassification(max_length=12, windows=Windows(stride=stride, most=100))
        encoded = task.encode(split, tokenizer, labels)
        (example,) = encoded.examples
        rows, numbers, places = example["windows"], example["windows_of_words"], example["places"]
        found = [rows[row]["input_ids"][place] for row, place in zip(numbers, places, strict=True)]
        assert found == [whole["input_ids"][place] for place in whole["places"]]
        assert numbers == sorted(numbers)
        assert sum(tag != -100 for row in rows for tag in row["label"]) == len(words)
        assert encoded.notes["words_without_tokens"] == encoded.notes["windows_cut"] == 0
        room = [min(place, len(rows[row]["input_ids"]) - 1 - place) for row, place in zip(numbers, places, strict=True)]
        inner = room[20:-20]
        assert min(inner) >= stride // 2
        batch = task.collate(encoded.examples, 0)
        assert task.loss_terms(batch) == len(words)
    few = TokenClassification(max_length=12, windows=Windows(stride=3, most=2)).encode(split, tokenizer, labels)
    assert few.examples[0]["truncated"]
    assert few.notes["texts_cut_behind_windows"] == 1
    assert few.notes["words_without_tokens"] == few.examples[0]["places"].count(-1) > 0


@pytest.fixture(scope="module")
def run_on_spans(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    folder = tmp_path_factory.mktemp("spans")
    rows = []
    for at, (text, label) in enumerate(sentences(80)):
        text = f"{'the town of a day ' * (at % 4)}{text}."
        word = next(word for word in text.rstrip(".").split() if word in WORDS)
        start = text.index(word)
        spans = [{"start": start, "end": start + len(word), "label": label}]
        rows.append({"text": text, "entities": spans if at % 9 else None})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"tokens": "text", "spans": "entities", "max_length": 12, "windows": {"stride": 4, "most": 6}}
    recipe = peftlab.Recipe(
        measure=False,
        model={"path": str(tiny_bert)},
        task={"type": "token_classification", **task},
        data={"source": str(folder / "rows.jsonl"), "validation_fraction": 0.2, "test_fraction": 0.2},
        method={"type": "lora"},
        training={"max_steps": 30, "batch_size": 8, "learning_rate": 3e-2},
    )
    result = peftlab.run_recipe(recipe, output_dir=folder / "run")
    assert result.record.status == "success", result.record.error
    return folder / "run"


@pytest.mark.slow
def test_spans_come_back_as_spans(run_on_spans: Path) -> None:
    record = json.loads((run_on_spans / "record.json").read_text())
    assert "answers are characters again" in record["data"]["notes"]["tag_scheme"]
    assert record["data"]["notes"]["train"]["texts_in_windows"] > 10
    assert record["labels"] == ["O", "B-bad", "B-good", "I-bad", "I-good"]
    run = peftlab.load(run_on_spans)
    text = "the town of a day " * 3 + "a good film, and an awful town."
    (answer,) = run.predict([text])
    assert answer["prediction"]
    for span in answer["prediction"]:
        assert text[span["start"] : span["end"]] == span["text"]
        assert span["label"] in ("good", "bad")
    assert "entities" not in answer
