"""Reranking: a cross-encoder reads a query and a document together, and says how well the one answers the other.

It is slower than vectors and more exact, so it orders the few documents that a quicker search has found
(https://arxiv.org/abs/1901.04085). An example is a query with all its documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.capabilities import ScoresPairs
from peftlab.core.errors import DataError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Task
from peftlab.core.task_guess import Guesser
from peftlab.tasks._labels import is_blank, tidy_value
from peftlab.tasks._numbers import number_in
from peftlab.tasks._ranking_losses import LOSSES
from peftlab.tasks.guesses.searching import guess_ranks
from peftlab.tasks.text_inputs import (
    check_family,
    check_length,
    encode_texts,
    pad,
    sequence_logits,
    with_columns,
    without_blank_texts,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

RELEVANCE = "relevance"
"""The column of a query's relevances, once its rows are one, where the source has none of its own."""
LARGEST = "largest_relevance"


@TASKS.register("reranking")
class Reranking(Task):
    """Order documents by how well they answer a query: a cross-encoder, which reads both together."""

    guess: ClassVar[Guesser] = staticmethod(guess_ranks)
    peft_task_type: ClassVar[str] = "SEQ_CLS"
    why_not_augmented: ClassVar[str] = "the documents of a query are ordered against each other, not one by one"
    collates_ahead: ClassVar[bool] = True
    # A query's rows may lie anywhere in a table: it is scored as a whole.
    ranks_whole_split: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("ndcg_at_10", "mrr_at_10", "recall_at_1")
    capabilities: ClassVar[tuple[type, ...]] = (ScoresPairs,)

    objective: Literal["pointwise", "pairwise", "listwise"] = Field(
        "listwise",
        description="The loss. pointwise: each document by itself, by cross-entropy. pairwise: the better one of two "
        "has the higher score (RankNet). listwise: all documents of a query at once (ListNet).",
    )
    query: str = Field("query", description="The column of the query. Rows of one query belong together.")
    document: str = Field("document", description="The column of a document.")
    label: str | None = Field(
        None,
        description="The column of a number that says how well the document answers, 0: not at all. null: it does, and "
        "`negatives` do not.",
    )
    negatives: list[str] = Field(default_factory=list, description="Columns of documents that do not answer the query.")
    max_documents: PositiveInt = Field(
        16,
        ge=2,
        description="Of a training query: it keeps so many documents, those that answer best among them, and one at "
        "least that answers less.",
    )
    max_length: PositiveInt = Field(256, description="Tokens of a query and a document; the longer text is cut.")
    separator: str | None = Field(
        None,
        min_length=1,
        description="What comes between query and document. null: what the tokenizer puts there, or else its separator "
        "or end token. The record names it.",
    )

    @model_validator(mode="after")
    def _check_columns(self) -> Reranking:
        if len({*self.source_columns()}) < len(self.source_columns()):
            raise ValueError("`query`, `document`, `label` and `negatives` must name different columns")
        if (self.label is None) == (not self.negatives):
            raise ValueError("name either `label`, or columns of `negatives`: which documents do not answer?")
        return self

    # --- rows -------------------------------------------------------------------------------------------------------

    def text_columns(self) -> tuple[str, ...]:
        """The query, and the list of its documents."""
        return (self.query, self.document)

    def label_columns(self) -> tuple[str, ...]:
        """The list of relevances."""
        return (self.label or RELEVANCE,)

    def source_columns(self) -> tuple[str, ...]:
        """A row has a query, one or several documents, and perhaps a relevance."""
        return (self.query, self.document, *self.negatives, *([self.label] if self.label else []))

    def number_columns(self) -> tuple[str, ...]:
        """The relevance, where the source has one."""
        return (self.label,) if self.label else ()

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """Rows are compared by their query: no query is in two splits."""
        return [(query,) for query in split.columns[self.query]]

    def arrange(self, split: Split) -> Split:
        """One row a query, with all its documents; of a document that stands twice the better relevance.

        Raises:
            DataError: A query, a document or a relevance is missing.
        """
        groups: dict[str, dict[str, float]] = {}
        first: dict[str, int] = {}
        for row in range(len(split)):
            query, document, *others = (
                self._text(split, row, column) for column in (self.query, self.document, *self.negatives)
            )
            relevances = groups.setdefault(query, {})
            first.setdefault(query, row)
            for text, relevance in ((document, self._relevance(split, row)), *((other, 0.0) for other in others)):
                relevances[text] = max(relevance, relevances.get(text, 0.0))
        columns: dict[str, Sequence[Any]] = {
            self.query: list(groups),
            self.document: [list(documents) for documents in groups.values()],
            self.label_columns()[0]: [list(documents.values()) for documents in groups.values()],
        }
        index = [split.index[first[query]] for query in groups]
        return Split(split.name, index, columns, split.source, split.notes)

    @property
    def labels_by_row(self) -> bool:
        """The rows of a query belong together."""
        return False

    def tidy_rows(self, split: Split) -> Split:
        """Blank texts are missing."""
        split = without_blank_texts(split, (self.query,))
        return with_columns(split, (self.document,), lambda value: tidy_value(value, None))  # a query's are a list

    def check(self, facts: ModelFacts) -> None:
        """Refuse encoder-decoders, and lengths beyond the model's positions."""
        check_family(facts)
        check_length(self.max_length, facts)

    def learn(self, train: Split) -> dict[str, Any]:
        """The largest relevance, which the pointwise loss takes for certain."""
        rows = train.columns[self.label_columns()[0]]
        largest = max((max(row) for row in rows), default=0.0)
        differ = any(min(row) < max(row) for row in rows)
        if largest <= 0 or not (differ or any(min(row) == 0 for row in rows)):
            which = "no training document answers" if largest <= 0 else "every training document answers"
            raise DataError(
                f"{which} its query, so nothing tells one from another",
                where=train.source,
                hint="Of a document that does not answer the relevance is 0; of one that does it is more.",
            )
        if not differ:
            raise DataError(
                "no training query has a document that answers it and one that does not",
                where=train.source,
                hint="Rows of one query must have the very same text in the query's column.",
            )
        return {LARGEST: largest}

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """The tokens of all pairs of a query one after the other; ``lengths`` and ``relevance``, one a document."""
        kept = [
            self._kept(documents, relevances, is_train=split.name == "train")
            for documents, relevances in zip(
                split.columns[self.document], split.columns[self.label_columns()[0]], strict=True
            )
        ]
        owners = [row for row, documents in enumerate(kept) for _ in documents]
        pairs = Split(
            split.name,
            [split.index[row] for row in owners],
            {
                self.query: [split.columns[self.query][row] for row in owners],
                self.document: [document for documents in kept for document, _ in documents],
            },
            split.source,
        )
        encoded = self._encode_pairs(pairs, tokenizer)
        examples, at = list[Example](), 0
        for documents in kept:
            own = encoded.examples[at : at + len(documents)]
            examples.append(_joined(own, [relevance for _, relevance in documents]))
            at += len(documents)
        return EncodedSplit(split.name, split.index, examples, {**encoded.notes, "pairs": len(owners)})

    def encode_inputs(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """A query and one document a row."""
        encoded = self._encode_pairs(split, tokenizer)
        return EncodedSplit(split.name, split.index, [_joined([one], [0.0]) for one in encoded.examples], encoded.notes)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """As many documents as the length calls for, the first of which answers."""
        count = max(1, math.ceil(length / self.max_length))
        lengths = [length // count + (at < length % count) for at in range(count)]
        return {"input_ids": [0] * length, "lengths": lengths, "relevance": [1.0, *[0.0] * (count - 1)]}

    def longest(self) -> int:
        """Every document as long as it may be."""
        return self.max_length * self.max_documents

    # --- objective --------------------------------------------------------------------------------------------------

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer to one score; only the pointwise loss asks how high scores are, the others compare them."""
        return Head(
            auto_class="AutoModelForSequenceClassification",
            config={"num_labels": 1},
            notes=self.learned,
            bias_trains=self.objective == "pointwise",
        )

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """A row a document; ``owners`` and ``relevance`` (documents), ``counts``: documents of each query."""
        import torch

        counts = [len(example["lengths"]) for example in examples]
        rows = [row for example in examples for row in _parted(example)]
        relevance = [value for example in examples for value in example["relevance"]]
        return {
            **pad(rows, pad_token_id),
            "owners": torch.tensor([owner for owner, count in enumerate(counts) for _ in range(count)]),
            "relevance": torch.tensor(relevance),
            "counts": torch.tensor(counts),
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """A score a document (documents × 1)."""
        return sequence_logits(model, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The objective, summed over the queries."""
        relevance = batch["relevance"] / float(self.learned.get(LARGEST, 1.0))
        return LOSSES[self.objective](logits.float().squeeze(-1), relevance, batch["owners"])

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a query."""
        return len(batch["counts"])

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The probability that each document of a query answers it, beside the relevances."""
        scores, at, found = self.pair_scores(logits).tolist(), 0, list[Prediction]()
        for count in batch["counts"].tolist():
            own = scores[at : at + count]
            found.append(Prediction(batch["relevance"][at : at + count].tolist(), own, own))
            at += count
        return found

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """An order needs a query with documents that answer it better than others."""
        rows = split.columns[self.label_columns()[0]]
        if any(min(row) < max(row) for row in rows):
            return None
        return "no query has a document that answers it better than another one, so every order is as good"

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """The score of each document."""
        return [
            (float(right), float(said)) for right, said in zip(prediction.label, prediction.prediction, strict=True)
        ]

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The score of the pair."""
        return {"prediction": prediction.prediction[0]}

    def usage_note(self) -> str:
        """What the model's output is."""
        return "The sigmoid of its logit says how well the second text answers the first."

    def pair_examples(self, pairs: Sequence[tuple[str, str]], tokenizer: Any) -> list[Example]:
        """An example for each pair."""
        queries, documents = [query for query, _ in pairs], [document for _, document in pairs]
        split = Split("pairs", range(len(pairs)), {self.query: queries, self.document: documents}, "pairs")
        return list(self.encode_inputs(split, tokenizer, ()).examples)

    def pair_scores(self, logits: Tensor) -> Tensor:
        """Between 0 and 1."""
        return logits.double().squeeze(-1).sigmoid()

    def _encode_pairs(self, split: Split, tokenizer: Any) -> EncodedSplit:
        return encode_texts(
            split,
            (self.query, self.document),
            [0.0] * len(split),
            tokenizer=tokenizer,
            max_length=self.max_length,
            separator=self.separator,
        )

    def _kept(
        self, documents: Sequence[str], relevances: Sequence[float], *, is_train: bool
    ) -> list[tuple[str, float]]:
        """The documents of a query that are computed, in their order."""
        both = list(zip(documents, map(float, relevances), strict=True))
        if not is_train or len(both) <= self.max_documents:
            return both
        best = sorted(range(len(both)), key=lambda at: -both[at][1])
        kept = best[: self.max_documents]
        worse = next((at for at in best if both[at][1] < both[kept[0]][1]), None)
        if worse is not None and both[kept[-1]][1] == both[kept[0]][1]:
            kept[-1] = worse  # documents that all answer alike tell nothing
        return [both[at] for at in sorted(kept)]

    def _text(self, split: Split, row: int, column: str) -> str:
        value = split.columns[column][row]
        if not isinstance(value, str) or is_blank(value):
            is_missing = value is None or isinstance(value, str)
            raise DataError(
                f"the column `{column}` {'is missing or empty' if is_missing else f'is no text: {value!r:.40}'}",
                where=split.where(row),
                hint="A query and its documents are needed: fill the row or remove it; `data.drop_missing: true` "
                "leaves out rows in which a value is missing.",
            )
        return value

    def _relevance(self, split: Split, row: int) -> float:
        if self.label is None:
            return 1.0
        return number_in(split, row, self.label, "relevance", may_be_negative=False)


def _joined(pairs: Sequence[Example], relevance: Sequence[float]) -> Example:
    """One example of several pairs."""
    return {
        **{key: [item for pair in pairs for item in pair[key]] for key in pairs[0] if key.endswith("_ids")},
        "lengths": [len(pair["input_ids"]) for pair in pairs],
        "relevance": list(relevance),
        "truncated": any(pair["truncated"] for pair in pairs),
    }


def _parted(example: Example) -> list[Example]:
    """The pairs of an example."""
    rows, at = list[Example](), 0
    for length in example["lengths"]:
        rows.append({key: value[at : at + length] for key, value in example.items() if key.endswith("_ids")})
        at += length
    return rows
