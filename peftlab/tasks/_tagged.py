"""Words with their tags as tokens: a text at once, or in windows that overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UnsupportedError
from peftlab.core.splits import Example
from peftlab.core.task import Prediction
from peftlab.tasks._tags import OUTSIDE
from peftlab.tasks.language.user_text import encode_as_text
from peftlab.tasks.text_inputs import IGNORED, is_truncated, pad
from peftlab.tasks.windows import ROWS, Windows, as_example, cut_into_windows, placeholder_rows, rows_of

if TYPE_CHECKING:
    from torch import Tensor

NO_TOKEN = -1
"""The place of a word that has no token."""
Place = tuple[int, int]
"""Of a word: the window, and the place of its first token in it."""
NOWHERE: Place = (0, NO_TOKEN)


def encode_tagged(
    words: Sequence[Sequence[str]], tags: Sequence[Sequence[int]], tokenizer: Any, *, max_length: int
) -> list[Example]:
    """An example a text: ``label`` is a tag's position at the first token of each word, nothing at the others.

    Args:
        words: Of each text.
        tags: As many, by number.
        tokenizer: A fast one.
        max_length: Tokens of a text; what is behind is cut.

    Raises:
        UnsupportedError: The tokenizer is a slow one.
    """
    encoded = encode_as_text(
        tokenizer,
        _as_read(words, tokenizer),
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        padding=False,
    )
    examples = []
    for row, own in enumerate(tags):
        places = _first_tokens(encoded.word_ids(row), len(own))
        target = [IGNORED] * len(encoded["input_ids"][row])
        for tag, place in zip(own, places, strict=True):
            if place != NO_TOKEN:
                target[place] = tag
        example = {
            "input_ids": encoded["input_ids"][row],
            "label": target,
            "tags": list(own),
            "places": places,
            "truncated": is_truncated(encoded, row, max_length),
        }
        if "token_type_ids" in encoded:
            example["token_type_ids"] = encoded["token_type_ids"][row]
        examples.append(example)
    return examples


def encode_tagged_in_windows(
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[int]],
    tokenizer: Any,
    *,
    max_length: int,
    windows: Windows,
) -> tuple[list[Example], list[list[Example]]]:
    """The same in windows; each word is tagged once, in the window in which it has the most text around it.

    ``places`` holds the place of each word within its window, ``windows_of_words`` the window's number.

    Returns:
        An example a text, and all windows of each text, also those behind the last one that is read.

    Raises:
        UnsupportedError: The tokenizer is a slow one.
    """
    encoded = cut_into_windows(
        tokenizer, _as_read(words, tokenizer), is_split_into_words=True, max_length=max_length, stride=windows.stride
    )
    windows_of_texts: list[list[int]] = [[] for _ in tags]
    for at, text in enumerate(encoded["overflow_to_sample_mapping"]):
        windows_of_texts[text].append(at)
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    examples, all_rows = [], []
    for numbers, own in zip(windows_of_texts, tags, strict=True):
        rows = [{key: encoded[key][at] for key in keys} for at in numbers]
        ids = [encoded.word_ids(at) for at in numbers[: windows.most]]
        places = _places_in_windows(ids, len(own), windows.stride)
        for row in rows:
            row["label"] = [IGNORED] * len(row["input_ids"])
        for tag, (window, place) in zip(own, places, strict=True):
            if place != NO_TOKEN:
                rows[window]["label"][place] = tag
        example = as_example(rows, windows)
        examples.append(
            {
                **example,
                "label": [tag for row in example[ROWS] for tag in row["label"]],
                "tags": list(own),
                "places": [place for _, place in places],
                "windows_of_words": [window for window, _ in places],
            }
        )
        all_rows.append(rows)
    return examples, all_rows


def placeholder_of(length: int, max_length: int, *, in_windows: bool) -> Example:
    """A word for each token, all of the first tag."""
    tags = [0] * length
    example = {"input_ids": [0] * length, "label": tags, "tags": tags}
    if not in_windows:
        return {**example, "places": list(range(length))}
    rows = [{**row, "label": [0] * len(row["input_ids"])} for row in placeholder_rows(length, max_length)]
    places = [(window, at) for window, row in enumerate(rows) for at in range(len(row["input_ids"]))]
    of_words = {"places": [at for _, at in places], "windows_of_words": [window for window, _ in places]}
    return {**example, ROWS: rows, **of_words}


def collate_tagged(examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """Padded tokens, a row for each window, and ``labels`` (rows × length).

    ``tags``, ``places`` of first tokens, and of texts in windows the ``rows`` that these are in: texts × words.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(values: Sequence[Sequence[int]]) -> Tensor:
        return pad_sequence([torch.tensor(own) for own in values], batch_first=True, padding_value=IGNORED)

    in_windows = ROWS in examples[0]
    rows = rows_of(examples) if in_windows else examples
    batch = {
        **pad(rows, pad_token_id),
        "labels": padded([row["label"] for row in rows]),
        "tags": padded([example["tags"] for example in examples]),
        "places": padded([example["places"] for example in examples]),
    }
    if not in_windows:
        return batch
    before = accumulate((len(example[ROWS]) for example in examples), initial=0)
    numbers = [
        [first + window for window in example["windows_of_words"]]
        for first, example in zip(before, examples, strict=False)
    ]
    return {**batch, "rows": padded(numbers)}


def predict_tagged(logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
    """A tag for every word, with its probability; ``O`` with probability 0 for words without a token.

    Args:
        logits: Rows × length × tags.
        batch: As :func:`collate_tagged` gives it.
        labels: Names of the tags.
    """
    probabilities, choices = (value.tolist() for value in logits.float().softmax(dim=-1).max(dim=-1))
    outside = OUTSIDE if OUTSIDE in labels else labels[0]
    tags, places = batch["tags"].tolist(), batch["places"].tolist()
    rows = batch["rows"].tolist() if "rows" in batch else [[row] * len(own) for row, own in enumerate(tags)]
    predictions = []
    for own in zip(tags, places, rows, strict=True):
        words = [(tag, place, row) for tag, place, row in zip(*own, strict=True) if tag != IGNORED]
        predictions.append(
            Prediction(
                label=[labels[tag] for tag, _, _ in words],
                prediction=[outside if at == NO_TOKEN else labels[choices[row][at]] for _, at, row in words],
                scores=[0.0 if at == NO_TOKEN else probabilities[row][at] for _, at, row in words],
            )
        )
    return predictions


def check_fast(tokenizer: Any) -> None:
    """Refuse a tokenizer that does not tell the word of each token.

    Raises:
        UnsupportedError: It is a slow one.
    """
    if not tokenizer.is_fast:
        raise UnsupportedError(
            "token classification needs a fast tokenizer, which tells the word of each token; this model has none"
        )


def _as_read(words: Sequence[Sequence[str]], tokenizer: Any) -> list[list[str]]:
    """Byte-level tokenizers (GPT-2's, RoBERTa's) see the blank before a word as a part of it."""
    before = " " if "ByteLevel" in str(tokenizer.backend_tokenizer.pre_tokenizer) else ""
    return [[f"{before}{word}" for word in row] for row in words]


def _first_tokens(word_ids: Sequence[int | None], words: int) -> list[int]:
    """The position of each word's first token."""
    places = [NO_TOKEN] * words
    for position, word in enumerate(word_ids):
        if word is not None and places[word] == NO_TOKEN:
            places[word] = position
    return places


def _places_in_windows(word_ids: Sequence[Sequence[int | None]], words: int, stride: int) -> list[Place]:
    """Where each word's first token has the most tokens on its nearer side; of equal places the first.

    Args:
        word_ids: Of each window: the word of each token, None for special ones.
        words: How many there are.
        stride: Tokens that two neighbouring windows share.
    """
    first: dict[int, int] = {}  # by word, the number of its first token in the text
    found = [NOWHERE] * words
    room = [-1] * words
    begin = 0
    for window, ids in enumerate(word_ids):
        own = [(at, word) for at, word in enumerate(ids) if word is not None]
        for offset, (at, word) in enumerate(own):
            number = begin + offset
            around = min(offset, len(own) - 1 - offset)
            if first.setdefault(word, number) == number and around > room[word]:
                found[word], room[word] = (window, at), around
        begin += len(own) - stride
    return found
