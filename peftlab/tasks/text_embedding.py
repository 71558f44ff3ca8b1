"""Text embedding: a vector for each text, so that a query lies nearest to the document that answers it.

Pairs of texts are enough to learn from: of a batch, each other document is a wrong answer (InfoNCE with in-batch
negatives, https://arxiv.org/abs/1807.03748; as ``MultipleNegativesRankingLoss`` of sentence-transformers). Columns of
hard negatives add documents that are wrong for certain. So a batch cannot be cut, and a larger one is harder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from peftlab.core.capabilities import EmbedsText
from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Prediction, Task
from peftlab.tasks._sentence_transformers import sentence_transformers_files
from peftlab.tasks.text_inputs import (
    Pooling,
    check_family,
    check_length,
    pad,
    text_vectors,
    tokens_of,
    without_blank_texts,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS_AT_ONCE = 1024
"""Queries whose similarities with all documents are held at once."""


@TASKS.register("text_embedding")
class TextEmbedding(Task):
    """Embed texts so that a query lies nearest to its document; contrastive, the batch's others are wrong answers."""

    metrics: ClassVar[tuple[str, ...]] = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10", "ndcg_at_10")
    divisible: ClassVar[bool] = False
    ranks_whole_split: ClassVar[bool] = True
    capabilities: ClassVar[tuple[type, ...]] = (EmbedsText,)

    query: str = Field("query", description="The column of the query, or of any text that has a match.")
    document: str = Field("document", description="The column of the document that answers it.")
    negatives: list[str] = Field(
        default_factory=list, description="Columns of documents that do not answer it: hard negatives."
    )
    max_length: PositiveInt = Field(128, description="Longer texts are cut to this many tokens.")
    pooling: Pooling = Field(
        "mean", description="One vector of a text's tokens: their mean, the first (cls), or the last, for decoders."
    )
    normalize: bool = Field(True, description="Vectors have the length 1, so that their product is the cosine.")
    temperature: PositiveFloat = Field(
        0.05, description="Similarities are divided by it; a small one looks at the nearest wrong documents alone."
    )
    symmetric: bool = Field(False, description="Documents also look for their query among the batch's queries.")

    @model_validator(mode="after")
    def _check_columns(self) -> TextEmbedding:
        if len({*self.text_columns()}) < len(self.text_columns()):
            raise ValueError("`query`, `document` and `negatives` must name different columns")
        return self

    # --- rows -------------------------------------------------------------------------------------------------------

    def text_columns(self) -> tuple[str, ...]:
        """The query, its document, and the hard negatives."""
        return (self.query, self.document, *self.negatives)

    def input_columns(self) -> tuple[str, ...]:
        """A vector is given for the query, or for any text that stands in its column."""
        return (self.query,)

    def tidy_rows(self, split: Split) -> Split:
        """Blank texts are missing."""
        return without_blank_texts(split, self.text_columns())

    def check(self, facts: ModelFacts) -> None:
        """Refuse encoder-decoders, lengths beyond the positions, and a decoder's first token."""
        check_family(facts)
        check_length(self.max_length, facts)
        if facts.family == "decoder" and self.pooling == "cls":
            raise UnsupportedError(
                f"{facts.path} reads from left to right: its first token has not seen the text",
                where="task.pooling",
                hint="Choose `last` or `mean`.",
            )

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """The tokens of all texts of a row one after the other; ``lengths`` and ``keys`` (equal for equal texts)."""
        columns = [split.columns[column] for column in self.text_columns()]
        sides = [tokens_of(tokenizer, texts, self.max_length) for texts in columns]
        numbers: dict[str, int] = {}
        examples = []
        for row, texts in enumerate(zip(*sides, strict=True)):
            keys = [numbers.setdefault(str(column[row]).strip(), len(numbers)) for column in columns]
            examples.append(_example(texts, keys))
        cut = sum(bool(example["truncated"]) for example in examples)
        return EncodedSplit(split.name, split.index, examples, {"texts_cut": cut, "texts": len(numbers)})

    def encode_inputs(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Texts alone."""
        examples = self.embedding_examples([str(text) for text in split.columns[self.query]], tokenizer)
        return EncodedSplit(split.name, split.index, examples)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """Texts of like length, all different."""
        sides = len(self.text_columns())
        lengths = [length // sides + (side < length % sides) for side in range(sides)]
        return {"input_ids": [0] * length, "lengths": lengths, "keys": list(range(sides))}

    def longest(self) -> int:
        """All texts of a row as long as they may be."""
        return self.max_length * len(self.text_columns())

    # --- objective --------------------------------------------------------------------------------------------------

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """All queries, then all documents, then each column of negatives; ``keys``: examples × texts of a row."""
        import torch

        rows = [row for side in range(len(examples[0]["keys"])) for row in _side(examples, side)]
        return {**pad(rows, pad_token_id), "keys": torch.tensor([example["keys"] for example in examples])}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Vectors, texts × hidden size."""
        return self.embeddings(text_vectors(model, batch, self.pooling))

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """InfoNCE, summed over the queries; with ``symmetric``, its mean with that of the documents.

        A document that stands twice in the batch, or that belongs to an equal query, is no wrong answer.
        """
        import torch
        from torch.nn import functional

        keys = batch["keys"]
        queries, documents = logits[: len(keys)], logits[len(keys) :]
        similarities = queries @ documents.T / self.temperature  # queries × (documents, then negatives)
        own = torch.arange(len(keys), device=logits.device)
        shown = keys[:, 1:].T.flatten()
        is_right = shown[None, :] == keys[:, 1, None]
        is_right[:, : len(keys)] |= keys[:, 0, None] == keys[None, :, 0]
        is_own = functional.one_hot(own, len(shown)).bool()
        similarities = similarities.masked_fill(is_right & ~is_own, -torch.inf)
        loss = functional.cross_entropy(similarities, own, reduction="sum")
        if not self.symmetric:
            return loss
        backwards = functional.cross_entropy(similarities[:, : len(keys)].T, own, reduction="sum")
        return (loss + backwards) / 2

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a query."""
        return len(batch["keys"])

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The vector of a text that stands alone; of a pair both vectors, which ``rank`` makes ranks of."""
        import torch

        keys = batch["keys"]
        vectors = torch.split(logits.float(), len(keys))
        if keys.shape[1] == 1:
            return [Prediction(1.0, vector.tolist(), []) for vector in vectors[0]]
        return [Prediction(1.0, pair, []) for pair in zip(vectors[0], vectors[1], keys, strict=True)]

    def rank(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """The rank of each query's own document among all documents of the split.

        Other documents of the same query are left out. The scores are the similarities with its own document and with
        the nearest other one.
        """
        import torch

        queries, documents, keys = (
            torch.stack(each) for each in zip(*(item.prediction for item in predictions), strict=True)
        )
        places: dict[int, int] = {}
        for row, key in enumerate(keys[:, 1].tolist()):
            places.setdefault(key, row)
        corpus = documents[list(places.values())]
        at = {key: place for place, key in enumerate(places)}
        own = torch.tensor([at[key] for key in keys[:, 1].tolist()])
        of_query: dict[int, list[int]] = {}
        for query, place in zip(keys[:, 0].tolist(), own.tolist(), strict=True):
            of_query.setdefault(query, []).append(place)
        ranked = []
        for start in range(0, len(queries), ROWS_AT_ONCE):
            similarities = queries[start : start + ROWS_AT_ONCE] @ corpus.T
            for row, all_of_row in enumerate(similarities, start=start):
                mine = all_of_row[own[row]].clone()
                others = all_of_row
                others[of_query[int(keys[row, 0])]] = -torch.inf
                rank = 1 + int((others >= mine).sum())
                ranked.append(Prediction(1.0, float(rank), [float(mine), float(others.max())]))
        return ranked

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """None: a rank is no answer."""
        return []

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The vector."""
        return {"prediction": prediction.prediction}

    def usage_note(self) -> str:
        """How the hidden states become a vector."""
        states = {
            "mean": "The mean of the last hidden states of all tokens",
            "cls": "The last hidden state of the first token",
            "last": "The last hidden state of the last token",
        }
        return f"{states[self.pooling]}{', divided by its length,' if self.normalize else ''} is the vector of a text."

    def companion_files(self, config: Any) -> Mapping[str, str]:
        """Those of sentence-transformers, which then gives the same vectors."""
        return sentence_transformers_files(
            config.hidden_size, pooling=self.pooling, normalize=self.normalize, max_length=self.max_length
        )

    def embedding_examples(self, texts: Sequence[str], tokenizer: Any) -> list[Example]:
        """An example for each text."""
        return [_example([text], [0]) for text in tokens_of(tokenizer, texts, self.max_length)]

    def embeddings(self, logits: Tensor) -> Tensor:
        """The vectors; of the length 1 where the recipe says so."""
        from torch.nn import functional

        return functional.normalize(logits, dim=-1) if self.normalize else logits


def _example(texts: Sequence[Example], keys: list[int]) -> Example:
    return {
        "input_ids": [token for text in texts for token in text["input_ids"]],
        "lengths": [len(text["input_ids"]) for text in texts],
        "keys": keys,
        "truncated": any(text["truncated"] for text in texts),
    }


def _side(examples: Sequence[Example], side: int) -> list[Example]:
    """One text of each example."""
    cut = []
    for example in examples:
        start = sum(example["lengths"][:side])
        cut.append({"input_ids": example["input_ids"][start : start + example["lengths"][side]]})
    return cut
