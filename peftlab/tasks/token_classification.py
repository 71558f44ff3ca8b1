"""Token classification: a tag for every word, or labelled spans of a text, such as named entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.errors import DataError, did_you_mean
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Scorer, Task
from peftlab.core.task_guess import Guesser
from peftlab.core.words import word_and_mark_places
from peftlab.tasks._entities import find_entities, spans_of
from peftlab.tasks._labels import tidy, tidy_value
from peftlab.tasks._scorers import EntityScorer
from peftlab.tasks._tag_style import in_style, style_of
from peftlab.tasks._tagged import (
    NO_TOKEN,
    check_fast,
    collate_tagged,
    encode_tagged,
    encode_tagged_in_windows,
    placeholder_of,
    predict_tagged,
)
from peftlab.tasks._tags import (
    DESCRIPTIONS,
    OUTSIDE,
    Scheme,
    are_bio,
    check_order,
    check_scheme,
    closed,
    is_number,
    out_of_order,
    recognise,
    to_bio,
)
from peftlab.tasks._weights import weights_like
from peftlab.tasks._word_lists import as_list, listed, tags_of
from peftlab.tasks.guesses.tags import guess_tags
from peftlab.tasks.spans.labelled import read_spans, tags_of_spans
from peftlab.tasks.text_inputs import (
    IGNORED,
    PADDING,
    check_family,
    check_length,
    model_inputs,
    with_columns,
)
from peftlab.tasks.windows import Windows, check_stride, count_windows, describe_windows

if TYPE_CHECKING:
    from torch import Tensor, nn

SCHEME, STYLE = "tag_scheme", "tag_style"


@TASKS.register("token_classification")
class TokenClassification(Task):
    """Tag every word of a text, such as named entities (CoNLL files, words and tags, or spans of characters)."""

    guess: ClassVar[Guesser] = staticmethod(guess_tags)
    peft_task_type: ClassVar[str] = "TOKEN_CLS"
    why_not_augmented: ClassVar[str] = "its labels sit on words, which would be moved or left out"
    collates_ahead: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = {**PADDING, "labels": IGNORED, "tags": IGNORED, "places": IGNORED}
    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy")
    has_probabilities: ClassVar[bool] = True

    tokens: str = Field("tokens", description="The column of the words: a list, or a string with blanks between words.")
    tags: str = Field("tags", description="The column of the tags, one for each word.")
    spans: str | None = Field(
        None,
        description="In place of tags: the column of labelled spans, lists of {start, end, label} in characters of the "
        "text in `tokens`. Words and marks are tagged, and answers are spans again. null: there are tags.",
    )
    tag_names: list[str] | None = Field(
        None, description="Names of the tags, if the data has numbers instead: the name of 0 first."
    )
    tag_scheme: Literal["auto", "bio", "bioes", "io", "types", "plain"] = Field(
        "auto",
        description="How tags name entities. bio: B-, I- and O. bioes: also the ends (BIOES, BILOU, BMES). io: I- and "
        "O. types: types of entities and O. plain: no entities, such as parts of speech; scored word by word. auto: as "
        "in the training split. All but plain are learned as B-, I- and O, and answers are written as the data is.",
    )
    max_length: PositiveInt = Field(
        128, description="Longer texts are cut to this many tokens, or read in windows of so many."
    )
    windows: Windows | None = Field(
        None,
        description="Read longer texts in windows that overlap; each word is tagged in the window in which it has the "
        "most text around it. null: they are cut.",
    )

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        if self.spans is not None and (self.tag_names is not None or self.tag_scheme != "auto"):
            raise ValueError("`tag_names` and `tag_scheme` are of tags; with `spans` there are none")
        check_stride(self.windows, self.max_length)
        return self

    def text_columns(self) -> tuple[str, ...]:
        """The column of the words."""
        return (self.tokens,)

    def label_columns(self) -> tuple[str, ...]:
        """The column of the tags, or of the spans."""
        return (self.tags if self.spans is None else self.spans,)

    def nullable_columns(self) -> tuple[str, ...]:
        """A text may have no span."""
        return () if self.spans is None else (self.spans,)

    def check(self, facts: ModelFacts) -> None:
        """Refuse encoder-decoders, and lengths beyond the model's positions."""
        check_family(facts)
        check_length(self.max_length, facts)

    def tidy_rows(self, split: Split) -> Split:
        """Texts without a word, and empty tags, are missing; lists that a table holds as text are lists."""
        split = with_columns(split, (self.tokens,), lambda value: tidy_value(value, None))
        if self.spans is not None:
            return with_columns(split, (self.spans,), lambda value: [] if value is None else value)
        split = with_columns(split, (self.tokens,), lambda value: listed(value) or None)
        return with_columns(split, (self.tags,), lambda value: tidy_value(listed(value, may_be_bare=True), None))

    def classes(self, split: Split) -> Collection[str]:
        """The tags, as they are written."""
        return {tag for row in range(len(split)) for tag in self._written_tags(split, row)}

    def learn(self, train: Split) -> dict[str, Any]:
        """The scheme of the tags."""
        if self.spans is not None:
            return {SCHEME: "spans"}
        tags = Counter(tag for row in range(len(train)) for tag in self._written_tags(train, row))
        where = f"{train.source or 'data'}, column `{self.tags}`"
        if self.tag_scheme == "auto":
            scheme = recognise(tags, where=where) if tags else "bio"
        else:
            check_scheme(tags, self.tag_scheme, where=where)
            scheme = self.tag_scheme
        style = {} if scheme in ("bio", "plain") else {STYLE: style_of(tags, scheme)}
        return {SCHEME: scheme, **style}

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
        """A scheme other than B-, I- and O; spans that were widened."""
        description = DESCRIPTIONS.get(self._scheme)
        told = {} if description is None else {"tag_scheme": description}
        if self._scheme in ("bio", "bioes") and (odd := self._odd_rows(splits)):
            told["tags_out_of_order"] = (
                f"rows with a tag that stands where it cannot, such as an I- behind no tag of its type: {len(odd)}; "
                f"the first is {odd[0]}; such a tag is taken for the beginning of an entity"
            )
        if self.spans is not None and (widened := sum(self._widened(split) for split in splits.values())):
            told["spans_widened"] = f"spans that begin or end within a word, and were widened to all of it: {widened}"
        return told

    @property
    def _scheme(self) -> Scheme:
        scheme: Scheme = self.learned.get(SCHEME, "bio")  # runs of earlier versions learned tags as they are
        return scheme

    @property
    def _has_ends(self) -> bool:
        """Whether tags say where entities end."""
        return bool(self.learned.get(STYLE, {}).get("end"))

    def _names_entities(self, labels: Sequence[str]) -> bool:
        """Whether entities can be found in the tags; runs of earlier versions may have learned others as they were."""
        return self._scheme != "plain" and are_bio(labels)

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The tags of the training split, sorted, with ``O`` first."""
        names = {tag for row in range(len(train)) for tag in self._tags(train, row)}
        if self._scheme in ("bioes", "io", "types", "spans"):
            names = closed(names)
        if len(names) < 2:
            raise DataError(
                f"every word of the training split has the tag {next(iter(names), 'nothing')!r}",
                where=f"{train.source or 'data'}, column `{self.label_columns()[0]}`",
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
                        f"the tag {written!r}{split.of_it} does not occur in the training split",
                        where=split.where(row),
                        hint=did_you_mean(tag, known),
                    )
            if split.name == "train" and self._has_ends:  # test rows may come from elsewhere; the notices tell of them
                check_order(self._written_tags(split, row), where=split.where(row))

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
        check_fast(tokenizer)
        positions = {name: position for position, name in enumerate(labels)}
        words = [self._words(split, row) for row in range(len(split))]
        tags = [[positions[tag] for tag in self._tags(split, row)] for row in range(len(split))]
        if self.windows is None:
            examples = encode_tagged(words, tags, tokenizer, max_length=self.max_length)
            counts = {"texts_cut": sum(bool(example["truncated"]) for example in examples)}
        else:
            examples, rows = encode_tagged_in_windows(
                words, tags, tokenizer, max_length=self.max_length, windows=self.windows
            )
            counts = count_windows(rows, self.windows)
        without = sum(example["places"].count(NO_TOKEN) for example in examples)
        return EncodedSplit(split.name, split.index, examples, notes={"words_without_tokens": without, **counts})

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """A word for each token, all of the first tag."""
        return placeholder_of(length, self.max_length, in_windows=self.windows is not None)

    def longest(self) -> int:
        """Of all windows together."""
        return self.max_length * (self.windows.most if self.windows else 1)

    @property
    def one_row_an_example(self) -> bool:
        """Not where a text has windows."""
        return self.windows is None

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """Tokens, ``labels`` (rows × length), and ``tags``, ``places`` and ``rows`` (texts × words)."""
        return collate_tagged(examples, pad_token_id)

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
        return predict_tagged(logits, batch, labels)

    def usage_note(self) -> str:
        """How windows become one answer."""
        if self.windows is None:
            return ""
        end = "a word is tagged in the window in which it has the most text around it."
        return describe_windows(self.windows, self.max_length, end)

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Entity metrics; of tags that name no entities, the accuracy alone."""
        return EntityScorer(has_entities=self._names_entities(labels))

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """The first tag for every word, or no span."""
        if self.spans is not None:
            return {self.spans: [[]] * len(split)}
        return {self.tags: [[labels[0]] * len(self._words(split, row)) for row in range(len(split))]}

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The tag of every word in the way of the data, and the entities that they make up; or spans."""
        tags, style = prediction.prediction, self.learned.get(STYLE)
        if self.spans is not None:
            return {"prediction": spans_of(inputs[self.tokens], tags, prediction.scores)}
        written = tags if style is None else in_style(tags, style)
        found = {"prediction": written, "scores": list(prediction.scores)}
        if not self._names_entities(labels):
            return found
        return {**found, "entities": find_entities(inputs[self.tokens], tags, prediction.scores)}

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
        value = split.columns[self.tokens][row]
        if self.spans is not None:
            return [value[start:end] for start, end in word_and_mark_places(value)]
        return as_list(value)

    def _tags(self, split: Split, row: int) -> list[str]:
        if self.spans is not None:
            return self._of_spans(split, row)[0]
        return to_bio(self._written_tags(split, row), self._scheme)

    def _of_spans(self, split: Split, row: int) -> tuple[list[str], int]:
        """The tags that the spans of a row give, and how many of them were widened."""
        text, where = str(split.columns[self.tokens][row]), split.where(row)
        spans = read_spans(split.columns[str(self.spans)][row], text, where)
        return tags_of_spans(spans, text, where)

    def _odd_rows(self, splits: Mapping[str, Split]) -> list[str]:
        """Where tags contradict one another."""
        return [
            split.where(row)
            for split in splits.values()
            for row in range(len(split))
            if out_of_order(self._written_tags(split, row), has_ends=self._has_ends) is not None
        ]

    def _widened(self, split: Split) -> int:
        return sum(self._of_spans(split, row)[1] for row in range(len(split)))

    def _written_tags(self, split: Split, row: int) -> list[str]:
        """The tags by their names, in the scheme of the data."""
        if self.spans is not None:
            return self._of_spans(split, row)[0]
        value = split.columns[self.tags][row]
        tags = [tidy(tag) for tag in tags_of(value, self.tags, split.where(row))]
        if self.tag_names is None:
            return tags
        return [self._name(tag, split.where(row)) if is_number(tag) else tag for tag in tags]

    def _name(self, number: str, where: str) -> str:
        assert self.tag_names is not None  # noqa: S101 - the caller has checked it
        if not 0 <= int(number) < len(self.tag_names):
            raise DataError(f"the tag {number} has no name: task.tag_names has {len(self.tag_names)}", where=where)
        return self.tag_names[int(number)]
