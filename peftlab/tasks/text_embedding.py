"""Text embedding: a vector for each text, so that a query lies nearest to the document that answers it.

Pairs of texts are enough to learn from: of a batch, each other document is a wrong answer (InfoNCE with in-batch
negatives, https://arxiv.org/abs/1807.03748; as ``MultipleNegativesRankingLoss`` of sentence-transformers). Columns of
hard negatives add documents that are wrong for certain. So a batch cannot be cut, and a larger one is harder.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from peftlab.core.capabilities import EmbedsText
from peftlab.core.config import refuse_unused
from peftlab.core.errors import UnsupportedError
from peftlab.core.metric_scorer import MetricScorer
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Prediction, Scorer, Task, UntouchedBase
from peftlab.core.task_guess import Guesser
from peftlab.core.words import comparable
from peftlab.tasks._embedding_losses import cosent, goes_with, info_nce, matryoshka, triplet
from peftlab.tasks._hard_negatives import mine, ranks_in_corpus
from peftlab.tasks._numbers import number_in
from peftlab.tasks._pair_rows import about_same_texts, comparable_texts, refuse_one_value, why_ranks_say_nothing
from peftlab.tasks._scorers import CorrelationScorer
from peftlab.tasks._sentence_transformers import sentence_transformers_files
from peftlab.tasks.guesses.searching import guess_matches
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

RETRIEVAL = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10", "ndcg_at_10")
OF_SCORES = ("spearman", "pearson")
MINED, MINED_KEYS = "mined", "mined_keys"
"""Of an example: the tokens of its mined negatives, and their keys."""


@TASKS.register("text_embedding")
class TextEmbedding(Task):
    """Embed texts so that a query lies nearest to its document; contrastive, the batch's others are wrong answers."""

    guess: ClassVar[Guesser] = staticmethod(guess_matches)
    why_not_augmented: ClassVar[str] = "a changed copy would be a wrong answer to its own original in a batch"
    metrics: ClassVar[tuple[str, ...]] = (*RETRIEVAL, *OF_SCORES)
    divisible: ClassVar[bool] = False
    caches_gradients: ClassVar[bool] = True
    ranks_whole_split: ClassVar[bool] = True
    capabilities: ClassVar[tuple[type, ...]] = (EmbedsText,)

    objective: Literal["infonce", "triplet", "cosent"] = Field(
        "infonce",
        description="The loss. infonce: every other document of the batch is wrong. triplet: only the negatives are. "
        "cosent: pairs with a score; the higher it is, the nearer the two texts.",
    )
    query: str = Field("query", description="The column of the query, or of any text that has a match.")
    document: str = Field("document", description="The column of the document that answers it.")
    negatives: list[str] = Field(
        default_factory=list, description="Columns of documents that do not answer it: hard negatives."
    )
    score: str | None = Field(None, description="cosent: the column of a number that says how alike the two are.")
    mined_negatives: NonNegativeInt = Field(
        0,
        description="Before training, so many documents are found for each query that lie near it for the model and "
        "are wrong: hard negatives.",
    )
    mining_margin: float = Field(
        0.05,
        ge=0,
        description="A mined document is less similar than the right one by at least this much; a nearer one may well "
        "be right too.",
    )
    max_length: PositiveInt = Field(128, description="Longer texts are cut to this many tokens.")
    pooling: Pooling = Field(
        "mean", description="One vector of a text's tokens: their mean, the first (cls), or the last, for decoders."
    )
    normalize: bool = Field(True, description="Vectors have the length 1, so that their product is the cosine.")
    temperature: PositiveFloat = Field(
        0.05, description="Similarities are divided by it; a small one looks at the nearest wrong documents alone."
    )
    symmetric: bool = Field(
        False, description="infonce: documents also look for their query among the batch's queries."
    )
    margin: PositiveFloat = Field(
        0.2, description="triplet: a document is to be nearer than a negative by this much, in cosines."
    )
    dimensions: list[PositiveInt] = Field(
        default_factory=list,
        description="Matryoshka: the loss is the mean over so many of the first numbers of the vectors, such as [384, "
        "128, 32], so that vectors can be cut. Empty: whole vectors only.",
    )

    @model_validator(mode="after")
    def _check_columns(self) -> TextEmbedding:
        if len({*self.text_columns()}) < len(self.text_columns()):
            raise ValueError("`query`, `document` and `negatives` must name different columns")
        is_scored, has_negatives = self.objective == "cosent", bool(self.negatives or self.mined_negatives)
        if is_scored != (self.score is not None):
            raise ValueError("`score` and `objective: cosent` go together: set both, or neither")
        if is_scored and has_negatives:
            raise ValueError("pairs with a score have no negatives")
        if self.objective == "triplet" and not has_negatives:
            raise ValueError("triplets need `negatives` or `mined_negatives`")
        refuse_unused(self, goes_with(self.objective, mines=self.mined_negatives > 0))
        return self

    # --- rows -------------------------------------------------------------------------------------------------------

    def text_columns(self) -> tuple[str, ...]:
        """The query, its document, and the hard negatives."""
        return (self.query, self.document, *self.negatives)

    def label_columns(self) -> tuple[str, ...]:
        """The score, where pairs have one."""
        return () if self.score is None else (self.score,)

    def number_columns(self) -> tuple[str, ...]:
        """The score."""
        return self.label_columns()

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every score must be a finite number."""
        self._scores(split)

    def learn(self, train: Split) -> dict[str, Any]:
        """Nothing, but the documents must differ, or the scores."""
        if not self.negatives:  # with negatives of its own even one document is told from others
            column = self.score or self.document
            refuse_one_value(train, column, self._scores(train) or comparable_texts(train.columns[column]))
        return {}

    def notices(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> dict[str, str]:
        """Pairs of one text; where pairs have a score, they may well have them."""
        return {} if self.score is not None else about_same_texts(splits.values(), self.query, self.document)

    def told_apart_by(self) -> tuple[str, ...]:
        """A query may have several documents, and of one pair each row may have other negatives."""
        return () if self.score is not None else (self.document, *self.negatives)

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """Rows are compared by their query: no query is in two splits. Scores are of pairs, so there a pair counts."""
        pair = (self.query,) if self.score is None else (self.query, self.document)
        columns = [name for name in pair if name in split.columns]
        return list(zip(*(split.columns[name] for name in columns), strict=True))

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
        size = facts.config.get("hidden_size") or facts.config.get("n_embd")
        if size is not None and max(self.dimensions, default=0) > size:
            raise UnsupportedError(
                f"vectors of {facts.path} have {size} dimensions, not {max(self.dimensions)}", where="task.dimensions"
            )
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
            keys = [numbers.setdefault(comparable(str(column[row])), len(numbers)) for column in columns]
            examples.append(_example(texts, keys))
        for example, score in zip(examples, self._scores(split), strict=False):
            example["score"] = score
        cut = sum(bool(example["truncated"]) for example in examples)
        return EncodedSplit(split.name, split.index, examples, {"texts_cut": cut, "texts": len(numbers)})

    def encode_inputs(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Texts alone."""
        examples = self.embedding_examples([str(text) for text in split.columns[self.query]], tokenizer)
        return EncodedSplit(split.name, split.index, examples)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """Texts of like length, all different."""
        sides = self._texts_of_row
        lengths = [length // sides + (side < length % sides) for side in range(sides)]
        scores = {} if self.score is None else {"score": float(length)}
        return {"input_ids": [0] * length, "lengths": lengths, "keys": list(range(sides)), **scores}

    def longest(self) -> int:
        """All texts of a row as long as they may be."""
        return self.max_length * self._texts_of_row

    # --- objective --------------------------------------------------------------------------------------------------

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """All queries, then all documents, then each column of negatives; ``keys``: examples × texts of a row.

        Mined negatives come last. ``scores`` (examples) where pairs have one.
        """
        import torch

        rows = [row for side in range(len(examples[0]["keys"])) for row in _side(examples, side)]
        keys = [list(example["keys"]) for example in examples]
        if MINED in examples[0]:
            for at in range(self.mined_negatives):
                rows += [{"input_ids": [token for token in item[MINED][at] if token >= 0]} for item in examples]
            keys = [[*own, *example[MINED_KEYS]] for own, example in zip(keys, examples, strict=True)]
        batch = {**pad(rows, pad_token_id), "keys": torch.tensor(keys)}
        if "score" in examples[0]:
            batch["scores"] = torch.tensor([example["score"] for example in examples], dtype=torch.float64)
        return batch

    def parts(self, batch: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
        """Texts of so many examples at once, without the padding that only longer ones need."""
        rows = size * batch["keys"].shape[1]
        parts = []
        for start in range(0, len(batch["input_ids"]), rows):
            longest = int(batch["attention_mask"][start : start + rows].sum(dim=1).max())
            inputs = ("input_ids", "attention_mask")
            parts.append({key: batch[key][start : start + rows, :longest] for key in inputs})
        return parts

    def prepare(
        self, splits: Mapping[str, EncodedSplit], base: UntouchedBase
    ) -> Mapping[str, Mapping[str, Tensor]] | None:
        """The tokens and keys of each training row's mined negatives (rows × negatives × tokens; -1: padding)."""
        import torch

        if not self.mined_negatives or "train" not in splits:
            return None
        train = splits["train"]
        vectors = base.values(train, self._vectors_of_pairs)
        keys = torch.tensor([example["keys"][:2] for example in train.examples])
        queries, documents = vectors.chunk(2, dim=1)
        found = mine(queries, documents, keys, count=self.mined_negatives, margin=self.mining_margin)
        texts = [text["input_ids"] for text in _side(train.examples, 1)]
        tokens = torch.full((*found.shape, max(map(len, texts))), -1)
        for place in itertools.product(*map(range, found.shape)):
            text = texts[int(found[place])]
            tokens[place][: len(text)] = torch.tensor(text)
        return {"train": {MINED: tokens, MINED_KEYS: keys[found, 1]}}

    def _vectors_of_pairs(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The vectors of each query and of its document, one behind the other."""
        import torch

        queries, documents, *_ = torch.split(self.logits(model, batch), len(batch["keys"]))
        return torch.cat([queries, documents], dim=1)

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Vectors, texts × hidden size."""
        return self.embeddings(text_vectors(model, batch, self.pooling))

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """The objective, summed over the queries; with ``dimensions``, its mean over them."""
        if not self.dimensions:
            return self._loss_of_vectors(logits, batch)
        return matryoshka(
            lambda vectors: self._loss_of_vectors(vectors, batch), logits, self.dimensions, normalize=self.normalize
        )

    def _loss_of_vectors(self, vectors: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        if self.objective == "cosent":
            return cosent(vectors, batch["scores"], temperature=self.temperature)
        if self.objective == "triplet":
            return triplet(vectors, batch["keys"], margin=self.margin)
        return info_nce(vectors, batch["keys"], temperature=self.temperature, symmetric=self.symmetric)

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a query."""
        return len(batch["keys"])

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The vector of a text that stands alone; the cosine of a pair with a score; else both, for ``rank``."""
        import torch
        from torch.nn import functional

        keys = batch["keys"]
        vectors = torch.split(logits.float(), len(keys))
        if keys.shape[1] == 1:
            return [Prediction(1.0, vector.tolist(), []) for vector in vectors[0]]
        if "scores" in batch:
            cosines = functional.cosine_similarity(vectors[0], vectors[1]).tolist()
            scores = batch["scores"].tolist()
            return [Prediction(score, cosine, [cosine]) for score, cosine in zip(scores, cosines, strict=True)]
        return [Prediction(1.0, pair, []) for pair in zip(vectors[0], vectors[1], keys, strict=True)]

    def rank(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """The rank of each query's own document among all documents of the split.

        Other documents of the same query are left out, and so is its own text. The scores are the similarities with its
        own document and with the nearest other one.
        """
        import torch

        if self.score is not None:
            return predictions
        sides = zip(*(item.prediction for item in predictions), strict=True)
        found = ranks_in_corpus(*map(torch.stack, sides))
        return [Prediction(1.0, float(rank), [own, nearest]) for rank, own, nearest in found]

    def default_metric(self, validation: Split | None) -> str:
        """Of pairs with a score their rank correlation."""
        return RETRIEVAL[0] if self.score is None else OF_SCORES[0]

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """Ranks and correlations need other rows; ranks also wrong documents, a correlation scores that differ."""
        if metric in OF_SCORES and self.score is None:
            return "its pairs have no score"
        if metric in RETRIEVAL and self.score is not None:
            return "its pairs have a score, and no document is the right one"
        if metric in OF_SCORES and len(set(self._scores(split))) < 2:
            return "all of its scores are equal"
        sides = (comparable_texts(split.columns[column]) for column in (self.query, self.document))
        return why_ranks_say_nothing(*sides) if metric in RETRIEVAL else None

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Ranks; or of pairs with a score the correlations."""
        return MetricScorer(RETRIEVAL) if self.score is None else CorrelationScorer()

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

    @property
    def _texts_of_row(self) -> int:
        return len(self.text_columns()) + self.mined_negatives

    def _scores(self, split: Split) -> list[float]:
        """The score of each row; empty where there are none."""
        return [] if self.score is None else [number_in(split, row, self.score, "score") for row in range(len(split))]

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
