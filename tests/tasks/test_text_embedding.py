"""Text embedding: the loss and the metrics against plain references, equal texts, pooling, and what is refused."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sklearn.metrics import ndcg_score

import peftlab
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.metric import METRICS
from peftlab.core.model_facts import ModelFacts
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.inference.explanation.attributions import explain
from peftlab.inference.export.export import export_run
from peftlab.preparation.load_data import load_data
from peftlab.tasks.text_embedding import RETRIEVAL, TextEmbedding
from peftlab.tasks.text_inputs import pad, text_vectors
from tests.conftest import sentences
from tests.small_methods import DISTINCT

pytestmark = pytest.mark.slow


def reference_loss(vectors: torch.Tensor, keys: list[list[int]], scale: float, *, symmetric: bool) -> float:
    """MultipleNegativesRankingLoss term by term, where no text stands for two."""
    count, sides = len(keys), len(keys[0])
    queries, candidates = vectors[:count], vectors[count:]
    keys_of = [keys[row][side] for side in range(1, sides) for row in range(count)]
    right = [{other[1] for other in keys if other[0] == own[0]} for own in keys]

    def is_answer(query: int, at: int) -> bool:
        is_itself = keys_of[at] == keys[query][0] and at % count != query
        return is_itself or keys_of[at] in right[query]

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


def test_paraphrases_in_a_chain_are_no_wrong_answers_to_themselves() -> None:
    """Of the pairs (a, b) and (b, c), the second query stands among the documents: nothing lies nearer to it."""
    a, b, c = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [0.9, 0.3], [0.3, 1.0]]), dim=1)
    keys = torch.tensor([[0, 1], [1, 2]])
    pairs = [(a, b, keys[0]), (b, c, keys[1])]
    assert [found.prediction for found in TextEmbedding().rank([Prediction(1.0, pair, []) for pair in pairs])] == [1, 1]
    only_first = torch.nn.functional.cross_entropy(torch.stack([a @ b, a @ c])[None] / 0.05, torch.tensor([0]))
    found = TextEmbedding().loss(torch.stack([a, b, b, c]), {"keys": keys})
    assert float(found) == pytest.approx(float(only_first), rel=1e-5)
    # Who names it as a negative of its row means it.
    echo = TextEmbedding(negatives=["no"]).loss(torch.stack([a, b, a]), {"keys": torch.tensor([[0, 1, 0]])})
    assert float(echo) > 0


def test_all_documents_of_a_query_are_right_wherever_they_stand() -> None:
    """Two documents answer query 0; one of them answers query 3 too, and is a negative of query 5."""
    vectors = torch.nn.functional.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    keys = torch.tensor([[0, 1, 8], [0, 2, 9], [3, 2, 10], [5, 6, 2]])
    shown = vectors[:1] @ vectors[4:].T / 0.05
    shown[0, [1, 2, 7]] = -torch.inf
    first = torch.nn.functional.cross_entropy(shown, torch.tensor([0]))
    whole = TextEmbedding(negatives=["no"]).loss(vectors, {"keys": keys})
    rest = 0.0
    for row, twins in ((1, [0]), (2, []), (3, [])):
        similar = vectors[row : row + 1] @ vectors[4:].T / 0.05
        equal = [at for at, key in enumerate(keys[:, 1:].T.flatten().tolist()) if key == keys[row, 1] and at != row]
        similar[0, [*twins, *equal]] = -torch.inf
        rest += float(torch.nn.functional.cross_entropy(similar, torch.tensor([row])))
    assert float(whole) == pytest.approx(float(first) + rest, rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_metrics(seed: int) -> None:
    torch.manual_seed(seed)
    generator = random.Random(seed)
    count = 40
    keys = [[generator.randrange(25), generator.randrange(20)] for _ in range(count)]
    documents = dict(enumerate(torch.randn(20, 3)))
    documents[3] = documents[4]  # nothing tells them apart
    queries = dict(enumerate(torch.randn(25, 3)))
    # No document is a query: their numbers differ.
    pairs = [(queries[query], documents[document], torch.tensor([query, 30 + document])) for query, document in keys]
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
    values = {name: METRICS[name].score(labels, ranks) for name in RETRIEVAL}
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


def test_texts_that_differ_in_case_or_blanks_are_one_document(bert: tuple[Any, Any]) -> None:
    """An uncased model gives them one vector: each would come before the other one, and no query would find its own."""
    rows = {"query": ["sad", "dark"], "document": ["it was  bad", "It was bad "]}
    encoded = TextEmbedding().encode(Split("test", range(2), rows), bert[1], ())
    assert [example["keys"][1] for example in encoded.examples] == [1, 1]
    assert encoded.notes["texts"] == 3


def test_a_pair_is_in_one_split_whatever_its_negatives_are(tiny_bert: Path, tmp_path: Path) -> None:
    """As in triplets of AllNLI or MS MARCO, in which a pair has a row for each of its negatives."""
    rows = [
        {"query": f"query {pair}", "document": f"answer {pair}", "no": f"wrong {pair} {each}"}
        for pair in range(20)
        for each in range(4)
    ]
    rows.append(dict(rows[0]))
    values = small_values(tiny_bert, tmp_path)
    values["task"] |= {"negatives": ["no"]}
    for name, part in (("rows", rows), ("more", rows[:8])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    loaded = load_data(peftlab.Recipe.from_dict(values), offline=True, report=print)
    pairs = {
        name: set(zip(split.columns["query"], split.columns["document"], strict=True))
        for name, split in loaded.splits.items()
    }
    assert sum(map(len, pairs.values())) == 20
    assert sum(map(len, loaded.splits.values())) == 80, "each row but the copy stays"
    values["data"]["source"] = {"train": str(tmp_path / "rows.jsonl"), "unlabeled": str(tmp_path / "more.jsonl")}
    with pytest.raises(DataError, match="no text without a label is left"):
        load_data(peftlab.Recipe.from_dict(values), offline=True, report=print)


def test_a_query_is_in_one_split_with_all_its_documents(tiny_bert: Path, tmp_path: Path) -> None:
    rows = [{"query": f"query {at // 3}", "document": f"answer {at}", "score": at / 9} for at in range(60)]
    values = small_values(tiny_bert, tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = load_data(peftlab.Recipe.from_dict(values), offline=True, report=print).splits.values()
    assert sum(len(set(split.columns["query"])) for split in splits) == 20
    assert sum(map(len, splits)) == 60
    # Of the source's own splits, too: what is tested is not learned.
    (tmp_path / "test.jsonl").write_text(json.dumps({"query": "Query 7", "document": "another answer"}))
    values["data"]["source"] = {"train": str(tmp_path / "rows.jsonl"), "test": str(tmp_path / "test.jsonl")}
    data = load_data(peftlab.Recipe.from_dict(values), offline=True, report=print)
    assert data.summary.notes["removed_from_train_because_in_test"] == 3
    values["task"] |= {"objective": "cosent", "score": "score"}
    values["data"]["source"] = str(tmp_path / "rows.jsonl")
    scored = load_data(peftlab.Recipe.from_dict(values), offline=True, report=print)
    assert sum(len(set(split.columns["query"])) for split in scored.splits.values()) > 20
    assert scored.summary.notes["conflicting_labels"] == 0, "the score is of a pair"


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


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("a", "x"), ("b", "X ")], "all of its rows have one and the same document"),
        ([("a", "x"), ("a", "y")], "every document belongs to every query"),
        ([("a", "x"), ("x", "x")], "all of its rows have one and the same document"),
        ([("a", "x"), ("b", "x"), ("b", "y")], None),
    ],
)
def test_ranks_without_a_wrong_document_say_nothing(pairs: list[tuple[str, str]], reason: str | None) -> None:
    columns = dict(zip(("query", "document"), zip(*pairs, strict=True), strict=True))
    said = TextEmbedding().why_not_measured("mrr_at_10", Split("test", range(len(pairs)), columns), ())
    assert (said is None) == (reason is None)
    assert reason is None or reason in str(said)


def test_what_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="first token has not seen the text"):
        TextEmbedding(pooling="cls").check(ModelFacts(path="x", model_type="gpt2", config={}, family="decoder"))
    with pytest.raises(ValueError, match="different columns"):
        TextEmbedding(query="text", document="text")


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an encoder, and of a decoder, with a column of hard negatives."""
    model, folder = request.getfixturevalue(f"tiny_{request.param}"), tmp_path_factory.mktemp(request.param)
    texts = [text for text, _ in sentences(60)]
    rows = [
        {"query": text, "document": text.upper(), "no": other} for text, other in zip(texts, texts[::-1], strict=True)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = peftlab.Recipe.from_dict(
        {
            "name": request.param,
            "model": {"path": str(model)},
            "task": {
                "type": "text_embedding",
                "negatives": ["no"],
                "pooling": "mean" if request.param == "bert" else "last",
                "max_length": 24,
            },
            "data": {"source": str(folder / "rows.jsonl"), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": {"type": "lora"},
            "training": {"max_steps": 6, "batch_size": 8},
            "measure": False,
        }
    )
    done = peftlab.run_recipe(recipe, output_dir=folder / "run")
    assert done.record.status == "success", done.record.error
    return folder / "run"


def test_a_run_gives_vectors_and_an_export_the_same(run: Path, tmp_path: Path) -> None:
    loaded = peftlab.load(run)
    texts = ["good film", "the day was sad"]
    vectors = np.array([answer["prediction"] for answer in loaded.predict(texts)])
    assert vectors.shape == (2, 32)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], rel=1e-4)
    check = export_run(run, "merged", tmp_path / "merged", offline=True, reporter=Silent()).check
    assert check.equal_predictions == 1
    assert check.scores == pytest.approx(check.run_scores)
    exported = peftlab.load(tmp_path / "merged").predict(texts)
    assert np.array([answer["prediction"] for answer in exported]) == pytest.approx(vectors, abs=1e-4)
    (tmp_path / "one.jsonl").write_text(
        "".join(json.dumps({"query": query, "document": "the film", "no": query}) + "\n" for query in texts)
    )
    evaluation = loaded.evaluate(tmp_path / "one.jsonl")
    assert evaluation.scores["mrr_at_10"] == 1
    (note,) = evaluation.notes
    assert note.startswith("recall_at_1, recall_at_5, recall_at_10, mrr_at_10, ndcg_at_10 say nothing of the model on")
    with pytest.raises(UnsupportedError, match="there is no decision to explain"):
        explain(loaded.tuned, "good film")


def test_sentence_transformers_loads_an_export_as_it_is_and_gives_the_same_vectors(run: Path, tmp_path: Path) -> None:
    texts = ["good film", "the day was sad and dark in town " * 9, "it"]  # the second one is cut
    vectors = np.array([answer["prediction"] for answer in peftlab.load(run).predict(texts)])
    export_run(run, "merged", tmp_path / "merged", offline=True, reporter=Silent())
    found = SentenceTransformer(str(tmp_path / "merged"), device="cpu", local_files_only=True).encode(texts)
    assert found == pytest.approx(vectors, abs=1e-5)


def test_what_cuts_a_batch_is_refused(run: Path) -> None:
    values = peftlab.load(run).recipe.model_dump(mode="json", exclude={"data"})
    for key, value in {"max_tokens_per_batch": 100, "gradient_accumulation_steps": 2}.items():
        recipe = peftlab.Recipe.from_dict(
            {
                **values,
                "data": {"source": [{"query": "a", "document": "b", "no": "c"}]},
                "training": {**values["training"], key: value},
            }
        )
        with pytest.raises(UnsupportedError, match="compares the examples of a batch with one another") as found:
            peftlab.run_recipe(recipe)
        assert f"training.{key}" in str(found.value)


def small_values(model: Path, folder: Path, **training: Any) -> dict[str, Any]:
    rows = [{"query": text, "document": text.upper()} for text, _ in sentences(40)]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "small",
        "model": {"path": str(model)},
        "task": {"type": "text_embedding", "max_length": 24},
        "data": {"source": str(path), "validation_fraction": 0.2, "test_fraction": 0.2},
        "method": {"type": "lora"},
        "training": {"max_steps": 4, "batch_size": 8, **training},
        "measure": False,
    }


@pytest.mark.parametrize("method", DISTINCT)
def test_every_method_that_fits_trains_it(method: str, tiny_bert: Path, tmp_path: Path) -> None:
    values = small_values(tiny_bert, tmp_path)
    values["method"] = {"type": method}
    recipe = peftlab.Recipe.from_dict(values)
    if method == "linear_probe":
        with pytest.raises(UnsupportedError, match="trains the task's head"):
            peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
        return
    record = peftlab.run_recipe(recipe, output_dir=tmp_path / "run").record
    assert record.status == "success", record.error
    if method == "full":  # what it leaves loads as it is too
        found = SentenceTransformer(str(tmp_path / "run/model"), device="cpu", local_files_only=True).encode(["it"])
        vectors = [answer["prediction"] for answer in peftlab.load(tmp_path / "run").predict(["it"])]
        assert found == pytest.approx(np.array(vectors), abs=1e-5)
