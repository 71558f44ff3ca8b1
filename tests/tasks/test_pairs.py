"""The two texts of a pair never run into each other, and special tokens in texts are text."""

from __future__ import annotations

import pytest
import transformers
from chat_tokenizers import chat_tokenizer

from peftlab.core.splits import Split
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_pair_classification import TextPairClassification
from peftlab.tasks.text_regression import TextRegression
from peftlab.tasks.token_classification import TokenClassification


def pairs(*rows: tuple[str, str], label=0.5) -> Split:
    first, second = ([row[at] for row in rows] for at in (0, 1))
    columns = {"text_1": first, "text_2": second, "label": [label] * len(rows)}
    return Split("train", list(range(len(rows))), columns, "rows.csv")


def test_a_tokenizer_without_a_separator_gets_one() -> None:
    tokenizer = chat_tokenizer(None, eos="</s>", adds="$A")
    moved = [("the film", " was good"), ("the film was", " good")]
    for task in (TextPairClassification(), TextRegression(text=["text_1", "text_2"])):
        labels = ("0.5",) if isinstance(task, TextPairClassification) else ()
        found = task.encode(pairs(*moved), tokenizer, labels)
        texts = [tokenizer.decode(example["input_ids"]) for example in found.examples]
        assert texts == ["the film</s> was good", "the film was</s> good"]
        assert found.notes["separator"] == "</s>"
        assert "token_type_ids" not in found.examples[0]


@pytest.mark.parametrize(
    ("adds", "separator", "expected", "name"),
    [
        ("$A", " / ", "the film / good", " / "),
        ("<s> $A", None, "<s>the film</s>good", "</s>"),
        ("<s> $A </s>", None, "<s>the film</s>good", "</s>"),  # this one stands behind the first text by itself
        ("$A", "<eom>", "the film<eom>good", "<eom>"),
    ],
)
def test_the_recipe_may_name_it(adds: str, separator: str | None, expected: str, name: str) -> None:
    tokenizer = chat_tokenizer(None, eos="</s>", adds=adds)
    task = TextPairClassification(separator=separator)
    found = task.encode(pairs(("the film", "good")), tokenizer, ("0.5",))
    assert tokenizer.decode(found.examples[0]["input_ids"]) == expected
    assert found.notes["separator"] == name


def test_the_longer_text_of_a_pair_is_cut_first() -> None:
    tokenizer = chat_tokenizer(None, eos="</s>", adds="<s> $A")
    long, short = "the film was a day in town", "good"
    task = TextPairClassification(max_length=8)
    found = task.encode(pairs((long, short), (short, long), (long, long), (short, short)), tokenizer, ("0.5",))
    assert [len(example["input_ids"]) for example in found.examples[:3]] == [8] * 3
    assert [example["truncated"] for example in found.examples] == [True, True, True, False]
    for example in found.examples:
        assert [token for token in example["input_ids"] if token < 2] == [0, 1]
    assert tokenizer.decode(found.examples[0]["input_ids"]).endswith("</s>good")
    assert tokenizer.decode(found.examples[1]["input_ids"]).startswith("<s>good</s>")


def test_encoders_keep_their_own(tiny_bert) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    found = TextPairClassification().encode(pairs(("the film", "good")), tokenizer, ("0.5",))
    assert found.examples[0]["input_ids"] == tokenizer("the film", "good")["input_ids"]
    assert found.examples[0]["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert found.notes["separator"] == "[SEP]"


def test_special_tokens_in_texts_are_text(tiny_bert) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_bert)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    text = "the [SEP] film [MASK] was [CLS] good [PAD]"
    columns = {"text": [text], "label": ["x"], "tokens": [text.split()], "tags": [["O"] * 8]}
    split = Split("train", [0], columns, "rows.csv")
    for task in (TextClassification(), TokenClassification()):
        (example,) = task.encode(split, tokenizer, ("x", "O")).examples
        ids = example["input_ids"]
        assert [place for place, token in enumerate(ids) if token in special] == [0, len(ids) - 1]
    found = TextPairClassification().encode(pairs((text, text)), tokenizer, ("0.5",))
    assert sum(token in special for token in found.examples[0]["input_ids"]) == 3


def test_of_a_vocabulary_of_words_too() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<end>": 0, "<unk>": 1, "good": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unk>")
    split = Split("train", [0], {"text": ["good <end> good"], "label": ["x"]}, "rows.csv")
    (example,) = TextClassification().encode(split, tokenizer, ("x",)).examples
    assert 0 not in example["input_ids"]
