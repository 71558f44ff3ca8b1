"""Token classification: a tag for every word, such as named entities in BIO tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from peftlab.core.errors import DataError, UnsupportedError, did_you_mean
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Scorer, Task
from peftlab.core.task_guess import Guesser
from peftlab.tasks._labels import tidy, tidy_value, written_list
from peftlab.tasks._scorers import EntityScorer
from peftlab.tasks._tags import (
    DESCRIPTIONS,
    OUTSIDE,
    Scheme,
    are_bio,
    check_scheme,
    closed,
    is_number,
    recognise,
    to_bio,
)
from peftlab.tasks._weights import weights_like
from peftlab.tasks.guesses.tags import guess_tags
from peftlab.tasks.language.user_text import encode_as_text
from peftlab.tasks.text_inputs import (
    IGNORED,
    PADDING,
    check_family,
    check_length,
    is_truncated,
    model_inputs,
    pad,
    with_columns,
    without_blank_texts,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEME = "tag_scheme"
NO_TOKEN = -1
"""The place of a word that has no token."""


@TASKS.register("token_classification")
class TokenClassification(Task):
    """Tag every word of a text, such as named entities (CoNLL files, or columns of words and tags)."""

    guess: ClassVar[Guesser] = staticmethod(guess_tags)
    peft_task_type: ClassVar[str] = "TOKEN_CLS"
    why_not_augmented: ClassVar[str] = "its labels sit on words, which would be moved or left out"
    collates_ahead: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = {**PADDING, "labels": IGNORED, "tags": IGNORED, "places": IGNORED}
    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy")
    has_probabilities: ClassVar[bool] = True

    tokens: str = Field("tokens", description="The column of the words: a list, or a string with blanks between words.")
    tags: str = Field("tags", description="The column of the tags, one for each word.")
    tag_names: list[str] | None = Field(
        None, description="Names of the tags, if the data has numbers instead: the name of 0 first."
    )
    tag_scheme: Literal["auto", "bio", "bioes", "types", "plain"] = Field(
        "auto",
        description="How tags name entities. bio: B-, I- and O. bioes: also the ends (BIOES, BILOU, BMES). types: "
        "types of entities and O. plain: no entities, such as parts of speech; scored word by word. "
        "auto: as in the training split. All but plain are learned as B-, I- and O.",
    )
    max_length: PositiveInt = Field(128, description="Longer texts are cut to this many tokens.")

    def text_columns(self) -> tuple[str, ...]:
        """The column of the words."""
        return (self.tokens,)

    def label_columns(self) -> tuple[str, ...]:
        """The column of the tags."""
        return (self.tags,)

    def check(self, facts: ModelFacts) -> None:
        """Refuse encoder-decoders, and lengths beyond the model's positions."""
        check_family(facts)
        check_length(self.max_length, facts)

    def tidy_rows(self, split: Split) -> Split:
        """Texts without a word, and empty tags, are missing; lists that a table holds as text are lists."""
        split = without_blank_texts(split, (self.tokens,))
        split = with_columns(split, (self.tokens,), lambda value: _listed(value) or None)
        return with_columns(split, (self.tags,), lambda value: tidy_value(_listed(value, may_be_bare=True), None))

    def classes(self, split: Split) -> Collection[str]:
        """The tags, as they are written."""
        return {tag for row in range(len(split)) for tag in self._written_tags(split, row)}

    def learn(self, train: Split) -> dict[str, Any]:
        """The scheme of the tags."""
        tags = Counter(tag for row in range(len(train)) for tag in self._written_tags(train, row))
        where = f"{train.source or 'data'}, column `{self.tags}`"
        if self.tag_scheme == "auto":
            return {SCHEME: recognise(tags, where=where) if tags else "bio"}
        check_scheme(tags, self.tag_scheme, where=where)
        return {SCHEME: self.tag_scheme}

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """F1, precision and recall need entities."""
        if metric == "accuracy":
            return None
        if self._scheme == "plain":
            return "the tags name no entities"
        if all(tag == OUTSIDE for row in range(len(split)) for tag in self._tags(split, row)):
            return "there is no entity in it"
        return None

    def notices(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> dict[str, str]:
        """A scheme other than B-, I- and O."""
        description = DESCRIPTIONS.get(self._scheme)
        return {} if description is None else {"tag_scheme": description}

    @property
    def _scheme(self) -> Scheme:
        scheme: Scheme = self.learned.get(SCHEME, "bio")  # runs of earlier versions learned tags as they are
        return scheme

    def _names_entities(self, labels: Sequence[str]) -> bool:
        """Whether entities can be found in the tags; runs of earlier versions may have learned others as they were."""
        return self._scheme != "plain" and are_bio(labels)

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The tags of the training split, sorted, with ``O`` first."""
        names = {tag for row in range(len(train)) for tag in self._tags(train, row)}
        if self._scheme in ("bioes", "types"):
            names = closed(names)
        if len(names) < 2:
            raise DataError(
                f"every word of the training split has the tag {next(iter(names), 'nothing')!r}",
                where=f"{train.source or 'data'}, column `{self.tags}`",
            )
        return tuple(sorted(names, key=lambda name: (name != "O", name)))

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every row needs as many tags as words, and only tags seen in training."""
        known = set(labels)
        for row in range(len(split)):
            words, tags = self._words(split, row), self._tags(split, row)
            if len(words) != len(tags):
                raise DataError(f"{len(words)} words, but {len(tags)} tags", where=split.where(row))
            if not words:
                raise DataError("the row has no words", where=split.where(row), hint="Remove the row.")
            for tag, written in zip(tags, self._written_tags(split, row), strict=True):
                if tag not in known:
                    raise DataError(
                        f"the tag {written!r} of the {split.name} split does not occur in the training split",
                        where=split.where(row),
                        hint=did_you_mean(tag, known),
                    )

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer over every token."""
        names = dict(enumerate(labels))
        return Head(
            auto_class="AutoModelForTokenClassification",
            config={
                "num_labels": len(labels),
                "id2label": names,
                "label2id": {name: position for position, name in names.items()},
            },
        )

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokens, and ``label``: a tag's position at the first token of each word, nothing at the others.

        Words without a token (cut off by ``max_length``, or of characters that the tokenizer drops) keep their tag:
        they are scored as if ``O`` was predicted, not left out of the score.
        """
        if not tokenizer.is_fast:
            raise UnsupportedError(
                "token classification needs a fast tokenizer, which tells the word of each token; this model has none"
            )
        positions = {name: position for position, name in enumerate(labels)}
        words = [self._words(split, row) for row in range(len(split))]
        # Byte-level tokenizers (GPT-2's, RoBERTa's) see the blank before a word as a part of it.
        words_in = [[f" {word}" for word in row] for row in words] if _is_byte_level(tokenizer) else words
        encoded = encode_as_text(
            tokenizer, words_in, is_split_into_words=True, truncation=True, max_length=self.max_length, padding=False
        )
        examples, without = [], 0
        for row in range(len(split)):
            tags = [positions[tag] for tag in self._tags(split, row)]
            places = _first_tokens(encoded.word_ids(row), len(tags))
            target = [IGNORED] * len(encoded["input_ids"][row])
            for tag, place in zip(tags, places, strict=True):
                if place != NO_TOKEN:
                    target[place] = tag
            without += places.count(NO_TOKEN)
            example = {
                "input_ids": encoded["input_ids"][row],
                "label": target,
                "tags": tags,
                "places": places,
                "truncated": is_truncated(encoded, row, self.max_length),
            }
            if "token_type_ids" in encoded:
                example["token_type_ids"] = encoded["token_type_ids"][row]
            examples.append(example)
        cut = sum(bool(example["truncated"]) for example in examples)
        return EncodedSplit(
            split.name, split.index, examples, notes={"words_without_tokens": without, "texts_cut": cut}
        )

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """A word for each token, all of the first tag."""
        tags = [0] * length
        return {"input_ids": [0] * length, "label": tags, "tags": tags, "places": list(range(length))}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Padded tokens, ``labels`` (batch × length); ``tags``, ``places`` of first tokens (batch × words)."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        def padded(key: str) -> Tensor:
            rows = [torch.tensor(example[key]) for example in examples]
            return pad_sequence(rows, batch_first=True, padding_value=IGNORED)

        return {
            **pad(examples, pad_token_id),
            "labels": padded("label"),
            "tags": padded("tags"),
            "places": padded("places"),
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits, batch × length × tags. Virtual tokens, which prompt methods put in front, are left out."""
        output: Tensor = model(**model_inputs(batch)).logits
        return output[:, -batch["input_ids"].shape[1] :]

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy, summed over the first tokens of the words."""
        from torch.nn import functional

        return functional.cross_entropy(
            logits.float().flatten(0, 1),
            batch["labels"].flatten(),
            weight=weights_like(logits, self),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    @property
    def has_class_targets(self) -> bool:
        """The tag of each word."""
        return True

    def class_terms(self, logits: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One term a word, in the order of the texts; words without a token have none."""
        tagged = batch["labels"] != IGNORED
        return logits.float()[tagged], batch["labels"][tagged]

    @property
    def takes_class_weights(self) -> bool:
        """The tags are classes."""
        return True

    def class_indices(self, example: Example) -> Sequence[int]:
        """The tag of each word's first token."""
        return [label for label in example["label"] if label != IGNORED]

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a word."""
        return int((batch["labels"] != IGNORED).sum())

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """A tag for every word, with its probability; ``O`` with probability 0 for words without a token."""
        probabilities, choices = (value.tolist() for value in logits.float().softmax(dim=-1).max(dim=-1))
        outside = "O" if "O" in labels else labels[0]
        predictions = []
        for row, (tags, places) in enumerate(zip(batch["tags"].tolist(), batch["places"].tolist(), strict=True)):
            words = [(tag, place) for tag, place in zip(tags, places, strict=True) if tag != IGNORED]
            predictions.append(
                Prediction(
                    label=[labels[tag] for tag, _ in words],
                    prediction=[outside if at == NO_TOKEN else labels[choices[row][at]] for _, at in words],
                    scores=[0.0 if at == NO_TOKEN else probabilities[row][at] for _, at in words],
                )
            )
        return predictions

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Entity metrics; of tags that name no entities, the accuracy alone."""
        return EntityScorer(has_entities=self._names_entities(labels))

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """The first tag for every word."""
        return {self.tags: [[labels[0]] * len(self._words(split, row)) for row in range(len(split))]}

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The tag of every word, and the entities that they make up, if they name entities."""
        found = {"prediction": prediction.prediction, "scores": list(prediction.scores)}
        if not self._names_entities(labels):
            return found
        return {**found, "entities": find_entities(inputs[self.tokens], prediction.prediction, prediction.scores)}

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """Every word's tag: a model that says `O` of all of them has collapsed, whatever the lengths."""
        return list(zip(prediction.label, prediction.prediction, strict=True))

    def confidences(self, prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
        """Of the tag of every word that has a token."""
        return [
            (score, own == true)
            for score, own, true in zip(prediction.scores, prediction.prediction, prediction.label, strict=True)
            if score > 0
        ]

    def _words(self, split: Split, row: int) -> list[str]:
        return _as_list(split.columns[self.tokens][row])

    def _tags(self, split: Split, row: int) -> list[str]:
        return to_bio(self._written_tags(split, row), self._scheme)

    def _written_tags(self, split: Split, row: int) -> list[str]:
        """The tags by their names, in the scheme of the data."""
        value = split.columns[self.tags][row]
        tags = [tidy(tag) for tag in (value.split() if isinstance(value, str) else value)]
        if self.tag_names is None:
            return tags
        return [self._name(tag, split.where(row)) if is_number(tag) else tag for tag in tags]

    def _name(self, number: str, where: str) -> str:
        assert self.tag_names is not None  # noqa: S101 - the caller has checked it
        if not 0 <= int(number) < len(self.tag_names):
            raise DataError(f"the tag {number} has no name: task.tag_names has {len(self.tag_names)}", where=where)
        return self.tag_names[int(number)]


def _first_tokens(word_ids: Sequence[int | None], words: int) -> list[int]:
    """The position of each word's first token."""
    places = [NO_TOKEN] * words
    for position, word in enumerate(word_ids):
        if word is not None and places[word] == NO_TOKEN:
            places[word] = position
    return places


def find_entities(text: Any, tags: Sequence[str], scores: Sequence[float]) -> list[dict[str, Any]]:
    """The entities that tags make up, by seqeval's definition.

    Args:
        text: The words as a list, or as a string with blanks between them.
        tags: One a word.
        scores: The probability of each tag.

    Returns:
        Of each entity: ``type``, ``text``, the ``score`` of its least certain word, ``first_word`` and ``end_word``
        (exclusive); for a string also ``start`` and ``end`` in characters (exclusive).
    """
    from seqeval.metrics.sequence_labeling import get_entities

    spans = [match.span() for match in re.finditer(r"\S+", text)] if isinstance(text, str) else None
    entities = []
    for kind, first, last in get_entities(list(tags)):
        entity = {"type": kind, "score": min(scores[first : last + 1]), "first_word": first, "end_word": last + 1}
        if spans is None:
            entity["text"] = " ".join(str(word) for word in text[first : last + 1])
        else:
            start, end = spans[first][0], spans[last][1]
            entity |= {"text": text[start:end], "start": start, "end": end}
        entities.append(entity)
    return entities


def _as_list(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else [str(item) for item in value]


def _listed(value: Any, *, may_be_bare: bool = False) -> Any:
    """A list that was written out as text, as CSV files hold it; anything else stays.

    Args:
        value: Of the table.
        may_be_bare: Whether what stands in brackets is a list in any case, as numpy writes numbers.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not (text.startswith(("[", "(")) and text.endswith(("]", ")"))):
        return value
    found = written_list(text)
    if found is None and may_be_bare and text.startswith("["):
        return text[1:-1].replace(",", " ").split()
    return value if found is None else found


def _is_byte_level(tokenizer: Any) -> bool:
    return "ByteLevel" in str(tokenizer.backend_tokenizer.pre_tokenizer)
