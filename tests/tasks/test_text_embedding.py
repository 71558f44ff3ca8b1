"""Text embedding: the loss and the metrics against plain references, equal texts, pooling, and what is refused."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sklearn.metrics import ndcg_score

from peftlab.core.errors import UnsupportedError
from peftlab.core.metric import METRICS
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.tasks.text_embedding import TextEmbedding
from peftlab.tasks.text_inputs import pad, text_vectors


def reference_loss(vectors: torch.Tensor, keys: list[list[int]], scale: float, *, symmetric: bool) -> float:
    """MultipleNegativesRankingLoss term by term, where no text stands for two."""
    count, sides = len(keys), len(keys[0])
    queries, candidates = vectors[:count], vectors[count:]
    keys_of = [keys[row][side] for side in range(1, sides) for row in range(count)]

    def is_answer(query: int, at: int) -> bool:
        twin = at < count and keys[at][0] == keys[query][0]
        return twin or keys_of[at] == keys[query][1]

    total = 0.0
    for query in range(count):
        shown = [at for at in range(len(candidates)) if at == query or not is_answer(query, at)]
        scores = {at: float(queries[query] @ candidates[at]) * scale for at in shown}
        total += math.log(sum(map(math.exp, scores.values()))) - scores[query]
    if not symmetric:
        return total
    for document in range(count):
        shown = [query for query in range(count) if query == document or not is_answer(query, document)]
        scores = {query: float(queries[query] @ candidates[document]) * scale for query in shown}
        total += math.log(sum(map(math.exp, scores.values()))) - scores[document]
    return total / 2


@pytest.mark.parametrize("seed", range(12))
def test_the_loss_is_that_of_a_plain_reference(seed: int) -> None:
    generator = random.Random(seed)
    count, negatives = generator.randint(1, 7), generator.randint(0, 2)
    temperature, symmetric = generator.uniform(0.05, 1), generator.random() < 0.5
    keys = [[generator.randrange(5) for _ in range(2 + negatives)] for _ in range(count)]
    torch.manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(count * (2 + negatives), 6, dtype=torch.float64), dim=1)
    task = TextEmbedding(temperature=temperature, symmetric=symmetric, negatives=["no", "nor"][:negatives])
    found = float(task.loss(vectors, {"keys": torch.tensor(keys)}))
    assert found == pytest.approx(reference_loss(vectors, keys, 1 / temperature, symmetric=symmetric), rel=1e-9)


def test_where_no_texts_are_equal_it_is_the_cross_entropy_of_sentence_transformers() -> None:
    """``CrossEntropyLoss()(cos_sim(a, cat(b)) * scale, arange)``: sentence_transformers/losses, version 5."""
    torch.manual_seed(1)
    vectors = torch.nn.functional.normalize(torch.randn(3 * 6, 8), dim=1)
    scores = vectors[:6] @ vectors[6:].T * 20.0
    expected = torch.nn.CrossEntropyLoss()(scores, torch.arange(6))
    keys = torch.arange(18).view(6, 3)
    assert TextEmbedding(negatives=["no"]).loss(vectors, {"keys": keys}) / 6 == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_metrics(seed: int) -> None:
    torch.manual_seed(seed)
    generator = random.Random(seed)
    count = 40
    keys = [[generator.randrange(25), generator.randrange(20)] for _ in range(count)]
    documents = dict(enumerate(torch.randn(20, 3)))
    documents[3] = documents[4]  # nothing tells them apart
    queries = dict(enumerate(torch.randn(25, 3)))
    pairs = [(queries[query], documents[document], torch.tensor([query, document])) for query, document in keys]
    found = TextEmbedding().rank([Prediction(1.0, pair, []) for pair in pairs])
    ranks, ndcg = [], []
    for query, document in keys:
        wrong = {key for _, key in keys} - {key for other, key in keys if other == query}
        own = float(queries[query] @ documents[document])
        ranks.append(1.0 + sum(float(queries[query] @ documents[key]) >= own - 1e-6 for key in wrong))
        scores = [own - 1e-9, *(float(queries[query] @ documents[key]) for key in sorted(wrong))]
        ndcg.append(ndcg_score([[1, *[0] * len(wrong)]], [scores], k=10, ignore_ties=len(set(scores)) == len(scores)))
    assert [item.prediction for item in found] == ranks
    labels = [item.label for item in found]
    values = {name: METRICS[name].score(labels, ranks) for name in TextEmbedding.metrics}
    assert values["recall_at_5"] == pytest.approx(np.mean([rank <= 5 for rank in ranks]))
    assert values["mrr_at_10"] == pytest.approx(np.mean([1 / rank if rank <= 10 else 0 for rank in ranks]))
    untied = [at for at, (_, document) in enumerate(keys) if document not in (3, 4)]
    of_each = METRICS["ndcg_at_10"].per_example(labels, ranks)
    assert of_each is not None
    assert of_each[untied] == pytest.approx(np.array(ndcg)[untied])


def test_a_model_that_tells_nothing_apart_has_found_nothing() -> None:
    same = [(torch.ones(4), torch.ones(4), torch.tensor([row, row + 9])) for row in range(9)]
    assert {item.prediction for item in TextEmbedding().rank([Prediction(1.0, pair, []) for pair in same])} == {9.0}


@pytest.fixture(scope="module")
def bert(tiny_bert: Path) -> tuple[Any, Any]:
    return transformers.AutoModel.from_pretrained(tiny_bert).eval(), transformers.AutoTokenizer.from_pretrained(
        tiny_bert
    )


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_text_has_the_same_vector_alone_and_in_a_batch(bert: tuple[Any, Any], pooling: Any) -> None:
    model, tokenizer = bert
    task = TextEmbedding(pooling=pooling)
    texts = ["good film", "the day was sad and dark in town", "it"]
    batch = task.collate(task.embedding_examples(texts, tokenizer), 0)
    with torch.inference_mode():
        together = task.logits(model, batch)
        alone = [task.logits(model, task.collate(task.embedding_examples([text], tokenizer), 0))[0] for text in texts]
        states = model(**tokenizer(texts[0], return_tensors="pt")).last_hidden_state[0]
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)
    expected = {"mean": states.mean(dim=0), "cls": states[0], "last": states[-1]}[pooling]
    assert torch.allclose(together[0], expected / expected.norm(), atol=1e-5)
    assert torch.allclose(
        text_vectors(model, pad([{"input_ids": tokenizer(texts[0])["input_ids"]}], 0), pooling)[0], expected, atol=1e-5
    )


def test_equal_texts_have_equal_keys(bert: tuple[Any, Any]) -> None:
    rows = {"query": ["sad", "dark", "sad"], "document": ["bad", "bad", "good"], "no": ["good", "it", "it"]}
    task = TextEmbedding(negatives=["no"])
    encoded = task.encode(Split("train", range(3), rows), bert[1], ())
    keys = np.array([example["keys"] for example in encoded.examples])
    texts = np.array([list(row) for row in zip(*rows.values(), strict=True)])
    assert all((keys == keys[at]).tolist() == (texts == texts[at]).tolist() for at in np.ndindex(keys.shape))
    batch = task.collate(encoded.examples, 0)
    assert batch["input_ids"].shape[0] == 9
    assert bert[1].decode(batch["input_ids"][5], skip_special_tokens=True) == "good"


def test_what_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="first token has not seen the text"):
        TextEmbedding(pooling="cls").check(ModelFacts(path="x", model_type="gpt2", config={}, family="decoder"))
    with pytest.raises(ValueError, match="different columns"):
        TextEmbedding(query="text", document="text")
