"""Every scheme of tags becomes B-, I- and O; what cannot be read is refused, or not scored as entities."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from peftlab.core.errors import DataError
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.tasks._entities import find_entities
from peftlab.tasks._scorers import EntityScorer
from peftlab.tasks._tags import recognise, to_bio
from peftlab.tasks.token_classification import TokenClassification

BIO = ["O", "B-PER", "I-PER", "I-PER", "B-PER", "B-LOC", "O", "B-LOC", "I-LOC"]
SCHEMES = {
    "bio": BIO,
    "BIOES": ["O", "B-PER", "I-PER", "E-PER", "S-PER", "S-LOC", "O", "B-LOC", "E-LOC"],
    "BILOU": ["O", "B-PER", "I-PER", "L-PER", "U-PER", "U-LOC", "O", "B-LOC", "L-LOC"],
    "BMES": ["O", "B-PER", "M-PER", "E-PER", "S-PER", "S-LOC", "O", "B-LOC", "E-LOC"],
    "BMEWO": ["O", "B_PER", "M_PER", "E_PER", "W_PER", "W_LOC", "O", "B_LOC", "E_LOC"],
    "lower case": ["o", "b-PER", "i-PER", "i-PER", "b-PER", "b-LOC", "o", "b-LOC", "i-LOC"],
    "suffixes": ["O", "PER-B", "PER-I", "PER-I", "PER-B", "LOC-B", "O", "LOC-B", "LOC-I"],
    "colons": ["O", "B:PER", "I:PER", "I:PER", "B:PER", "B:LOC", "O", "B:LOC", "I:LOC"],
}


def split(*tags: list[Any], name: str = "train") -> Split:
    words = [[f"w{at}" for at in range(len(row))] for row in tags]
    return Split(name, range(len(tags)), {"tokens": words, "tags": list(tags)}, "rows.jsonl")


def fitted(task: TokenClassification, train: Split) -> TokenClassification:
    learned = task.fitted(task.learn(train))
    assert isinstance(learned, TokenClassification)
    return learned


@pytest.mark.parametrize("tags", SCHEMES.values(), ids=SCHEMES)
def test_a_scheme_is_recognised_and_written_as_bio(tags: list[str]) -> None:
    task = fitted(TokenClassification(), split(tags))
    assert task._tags(split(tags), 0) == BIO
    labels = task.learn_labels(split(tags))
    assert labels == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
    task.check_split(split(tags, name="test"), labels)
    assert bool(task.notices({}, labels)) is (tags != BIO)


def test_types_alone_make_one_entity_of_neighbours() -> None:
    tags = ["O", "PER", "PER", "LOC", "O", "O", "PER"]
    task = fitted(TokenClassification(), split(tags))
    assert task._tags(split(tags), 0) == ["O", "B-PER", "I-PER", "B-LOC", "O", "O", "B-PER"]
    assert task.learn_labels(split(tags)) == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")


@pytest.mark.parametrize("types", [["e-mail", "phone"], ["e-mail"], ["Misc", "I_am"], ["WORK_OF_ART", "S3"]])
def test_names_of_types_may_look_a_little_like_prefixes(types: list[str]) -> None:
    assert recognise(Counter({"O": 50, **dict.fromkeys(types, 3)}), where="x") == "types"


def test_older_bio_and_io_are_read_as_they_are() -> None:
    for tags in (["I-PER", "B-PER", "O", "I-LOC", "I-LOC"], ["I-PER", "O", "I-PER"], ["B", "I", "O"]):
        assert recognise(Counter(tags), where="x") == "bio"
        assert to_bio(tags, "bio") == tags


@pytest.mark.parametrize(
    "tags",
    [["NOUN", "VERB", "DET"], ["N", "V", "O", "E", "S", "B"], ["PRP$", "NN", "-LRB-"], ["N", "N", "V", "O"]],
)
def test_tags_of_words_are_no_entities(tags: list[str]) -> None:
    task = fitted(TokenClassification(), split(tags))
    labels = task.learn_labels(split(tags))
    assert set(labels) == set(tags)
    scorer = task.scorer(labels)
    scorer.add([Prediction(tags, tags, [1.0] * len(tags))])
    assert scorer.compute() == {"accuracy": 1.0}
    assert "entities" not in task.answer(Prediction(None, tags, [1.0] * len(tags)), {"tokens": tags}, labels)


@pytest.mark.parametrize("tags", [[0, 1, 2], ["0", "3", "10"], [0.0, 1.0], [-100, 0, 1]])
def test_numbers_need_names(tags: list[Any]) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl, column `tags`: the tags are numbers.*\n.*task\.tag_names"):
        TokenClassification().learn(split(tags))
    plain = fitted(TokenClassification(tag_scheme="plain"), split(tags))
    assert len(plain.learn_labels(split(tags))) == len(tags)


def test_named_numbers_are_entities() -> None:
    task = TokenClassification(tag_names=["O", "B-PER", "I-PER", "S-LOC"])
    task = fitted(task, split([0, 1, 2, 3]))
    assert task._tags(split([0, 1, 2, 3]), 0) == ["O", "B-PER", "I-PER", "B-LOC"]
    with pytest.raises(DataError, match=r"rows\.jsonl, row 1: the tag 4 has no name"):
        task.check_split(split([4], name="test"), ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))


@pytest.mark.parametrize("tags", [["B-PER", "I-PER", "PER", "O"], ["B-PER", "X", "O"], ["B-PER", "O", "[CLS]"]])
def test_mixed_schemes_are_refused_unless_the_recipe_says_which(tags: list[str]) -> None:
    with pytest.raises(DataError, match=r"some tags have a prefix.*\n.*task\.tag_scheme"):
        TokenClassification().learn(split(tags))
    assert TokenClassification(tag_scheme="types").learn(split(tags))["tag_scheme"] == "types"
    with pytest.raises(DataError, match="does not belong to the scheme bio"):
        TokenClassification(tag_scheme="bio").learn(split(tags))


def test_an_unseen_tag_is_named_as_it_is_written() -> None:
    task = fitted(TokenClassification(), split(SCHEMES["BILOU"]))
    labels = task.learn_labels(split(SCHEMES["BILOU"]))
    with pytest.raises(DataError, match=r"rows\.jsonl, row 1: the tag 'L-ORG' of the test split"):
        task.check_split(split(["B-PER", "L-ORG"], name="test"), labels)
    task.check_split(split(["L-PER", "U-LOC", "I-LOC"], name="test"), labels)


def test_wrong_types_everywhere_score_nothing() -> None:
    """A scorer that reads the last letters of bare types for the type would call these right."""
    task = fitted(TokenClassification(), split(["O", "O", "PER", "LOC", "ORG", "O"]))
    truth = task._tags(split(["O", "PER", "O", "LOC"]), 0)
    wrong = task._tags(split(["O", "ORG", "O", "ORG"]), 0)
    scorer = EntityScorer()
    scorer.add([Prediction(truth, wrong, [1.0] * 4)])
    assert scorer.compute()["f1"] == 0
    found = find_entities("in Anna and Ulm", truth, [1.0] * 4)
    assert [(entity["type"], entity["text"]) for entity in found] == [("PER", "Anna"), ("LOC", "Ulm")]


def test_runs_of_earlier_versions_read_tags_as_they_learned_them() -> None:
    assert TokenClassification()._tags(split(["PER", "O", "U-LOC"]), 0) == ["PER", "O", "U-LOC"]


@pytest.mark.parametrize("tokens", [[], "", " \u200b"])
def test_a_text_without_words_is_missing(tokens: Any) -> None:
    rows = Split("train", [0], {"tokens": [tokens], "tags": [[]]}, "rows.jsonl")
    assert TokenClassification().tidy_rows(rows).columns["tokens"] == [None]


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ('["Anna", "saw", "it, too"]', '["B-PER", "O", "O"]'),
        ("['Anna', 'saw', 'it, too']", "['B-PER', 'O', 'O']"),
        ("['Anna' 'saw' 'it, too']", "['B-PER' 'O' 'O']"),
        ("('Anna', 'saw', 'it, too')", "[B-PER, O, O]"),
        ("['Anna'\n 'saw'\n 'it, too']", "[1 0 0]"),
        (["Anna", "saw", "it, too"], "B-PER O O"),
    ],
)
def test_lists_that_a_table_holds_as_text_are_lists(tokens: Any, tags: Any) -> None:
    task = TokenClassification(tag_names=["O", "B-PER"])
    rows = Split("train", range(2), {"tokens": [tokens] * 2, "tags": [tags] * 2}, "rows.csv")
    tidy = task.tidy_rows(rows)
    task = fitted(task, tidy)
    assert task._words(tidy, 0) == ["Anna", "saw", "it, too"]
    assert task._tags(tidy, 0) == ["B-PER", "O", "O"]


def test_a_text_in_brackets_is_a_text() -> None:
    rows = Split(
        "train", range(2), {"tokens": ["[sic] he said", "(so it was)"], "tags": ["O O O", "O O O"]}, "rows.csv"
    )
    tidy = TokenClassification().tidy_rows(rows)
    assert TokenClassification()._words(tidy, 0) == ["[sic]", "he", "said"]
    assert TokenClassification()._words(tidy, 1) == ["(so", "it", "was)"]


def test_a_run_of_an_earlier_version_finds_no_entities_in_bare_tags() -> None:
    """It learned PER and LOC as they were, in which seqeval would find the entities ER and OC."""
    task, labels = TokenClassification(), ("O", "LOC", "PER")
    scorer = task.scorer(labels)
    scorer.add([Prediction(label=["PER", "O"], prediction=["PER", "LOC"], scores=[1.0, 1.0])])
    assert scorer.compute() == {"accuracy": 0.5}
    said = task.answer(Prediction(["PER"], ["PER"], [1.0]), {"tokens": "Anna"}, labels)
    assert "entities" not in said
