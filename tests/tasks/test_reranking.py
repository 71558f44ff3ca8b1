"""Reranking: losses against plain ones, nDCG against scikit-learn's, groups, runs, exports, serving, bad rows."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder
from sklearn.metrics import ndcg_score

import peftlab
from peftlab.core.errors import DataError
from peftlab.core.metric import METRICS
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.inference.export.export import export_run
from peftlab.tasks._ranking_losses import listwise, pairwise, pointwise
from peftlab.tasks.reranking import Reranking
from tests.conftest import sentences

QUERIES = st.lists(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([-1.0, 0.0, 0.5, 2.0])), min_size=2),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(QUERIES)
def test_metrics_and_losses_are_those_of_their_definitions(queries: list[list[tuple[float, float]]]) -> None:
    relevance = [[right for right, _ in query] for query in queries]
    scores = [[score for _, score in query] for query in queries]
    found = METRICS["ndcg_at_10"].per_example(relevance, scores)
    assert found == pytest.approx(
        [ndcg_score([right], [score], k=10) for right, score in zip(relevance, scores, strict=True)]
    )
    ranks = [
        1 + sum(s >= max(own) for r, s in query if not r) if (own := [s for r, s in query if r]) else math.inf
        for query in queries
    ]
    assert METRICS["recall_at_1"].per_example(relevance, scores) == pytest.approx([float(rank == 1) for rank in ranks])
    assert METRICS["mrr_at_10"].per_example(relevance, scores) == pytest.approx(
        [1 / rank if rank <= 10 else 0 for rank in ranks]
    )
    flat = [torch.tensor(list(itertools.chain(*values)), dtype=torch.float64) for values in (scores, relevance)]
    owners = torch.tensor([at for at, query in enumerate(queries) for _ in query])
    wanted = {pointwise: 0.0, pairwise: 0.0, listwise: 0.0}
    for query in queries:
        losses = [math.log1p(math.exp(s)) - r * s for r, s in query]
        wanted[pointwise] += sum(losses) / len(losses)
        pairs = [math.log1p(math.exp(t - s)) for (r, s), (q, t) in itertools.product(query, query) if r > q]
        wanted[pairwise] += sum(pairs) / len(pairs) if pairs else 0
        of_all, total = math.log(sum(math.exp(s) for _, s in query)), sum(r for r, _ in query)
        wanted[listwise] += sum(r / total * (of_all - s) for r, s in query) if total else 0
    for loss, value in wanted.items():
        assert float(loss(flat[0].float(), flat[1].float(), owners)) == pytest.approx(value, rel=1e-4, abs=1e-5)


def test_a_document_more_relevant_than_any_that_was_learned_from_is_certain_at_most() -> None:
    task = Reranking(label="label", objective="pointwise").model_copy(update={"learned": {"largest_relevance": 2.0}})
    batch = {"relevance": torch.tensor([4.0, 0.0]), "owners": torch.tensor([0, 0])}
    loss = task.loss(torch.tensor([[9.0], [-9.0]]), batch)
    assert float(loss) == pytest.approx(math.log1p(math.exp(-9.0)), rel=0.01)


def test_rows_of_one_query_become_one_example() -> None:
    rows = {"query": ["a", "b", "a", "a"], "document": ["x", "y", "z", "x"], "label": [0, 1, 2, 1]}
    task = Reranking(label="label")
    split = task.arrange(Split("train", range(4), rows, "rows"))
    assert split.columns == {"query": ["a", "b"], "document": [["x", "z"], ["y"]], "label": [[1.0, 2.0], [1.0]]}
    assert list(split.index) == [0, 1]
    assert task.learn(split) == {"largest_relevance": 2.0}
    beside = Reranking(negatives=["no"]).arrange(
        Split("train", range(2), {"query": ["a", "a"], "document": ["x", "z"], "no": ["y", "x"]}, "rows")
    )
    assert beside.columns["relevance"] == [[1.0, 0.0, 1.0]]
    for keys in ({}, {"label": "label", "negatives": ["no"]}, {"label": "query"}):
        with pytest.raises(ValueError, match=r"name either|different columns"):
            Reranking.model_validate(keys)


@pytest.mark.parametrize(("relevance", "kept"), [([2, 2, 2, 1, 0], [2, 2, 1]), ([1, 0, 2, 2, 0], [1, 2, 2])])
def test_a_query_keeps_a_document_that_answers_less(relevance: list[int], kept: list[int]) -> None:
    task = Reranking(label="label", max_documents=3)
    documents = [f"d{at}" for at in range(5)]
    assert [value for _, value in task._kept(documents, relevance, is_train=True)] == kept
    assert len(task._kept(documents, relevance, is_train=False)) == 5


def test_bad_rows_are_named() -> None:
    task = Reranking(label="label")
    for row, words in (
        (("a", None, 1), r"row 2.*`document` is missing or empty"),
        ((" ", "x", 1), r"row 2.*`query` is missing or empty"),
        (("a", "x", "much"), r"row 2.*relevance 'much'"),
        (("a", "x", -1), r"row 2.*relevance -1"),
    ):
        columns = {"query": ["a", row[0]], "document": ["x", row[1]], "label": [1, row[2]]}
        with pytest.raises(DataError, match=words):
            task.arrange(Split("train", range(2), columns, "rows"))
    alike = Split("train", range(1), {"query": ["a"], "document": [["x", "y"]], "label": [[1.0, 1.0]]}, "rows")
    with pytest.raises(DataError, match="every training document answers its query"):
        task.learn(alike)
    assert "every order is as good" in str(task.why_not_measured("ndcg_at_10", alike, ()))
    apart = Split("test", range(1), {"query": ["a"], "document": [["x", "y"]], "label": [[1.0, 0.0]]}, "rows")
    assert task.why_not_measured("ndcg_at_10", apart, ()) is None


def rows_of(folder: Path) -> Path:
    texts = [text for text, _ in sentences(40)]
    rows = [
        {"query": text, "document": document, "label": int(document == text.upper())}
        for at, text in enumerate(texts)
        for document in (text.upper(), texts[at - 1].upper(), texts[at - 2].upper())
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    recipe = peftlab.Recipe.from_dict(
        {
            "name": request.param,
            "model": {"path": str(request.getfixturevalue(f"tiny_{request.param}"))},
            "task": {
                "type": "reranking",
                "label": "label",
                "objective": "pairwise" if request.param == "bert" else "pointwise",
                "max_length": 48,
            },
            "data": {"source": str(rows_of(folder)), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": {"type": "lora"},
            "training": {"max_steps": 4, "batch_size": 8, "micro_batch_size": 4},
            "measure": False,
        }
    )
    done = peftlab.run_recipe(recipe, output_dir=folder / "run")
    assert done.record.status == "success", done.record.error
    assert set(done.record.scores["test"]) == {"ndcg_at_10", "mrr_at_10", "recall_at_1"}
    return folder / "run"


def test_a_run_scores_pairs_everywhere_alike(run: Path, tmp_path: Path) -> None:
    loaded, query, documents = peftlab.load(run), "good film", ["sad day", "GOOD FILM", "it"]
    found = np.array([answer["prediction"] for answer in loaded.predict([(query, text) for text in documents])])
    assert found.shape == (3,)
    scores = loaded.evaluate(run.parent / "rows.jsonl").scores
    assert set(scores) == {"ndcg_at_10", "mrr_at_10", "recall_at_1"}
    export_run(run, "merged", tmp_path / "merged", offline=True, reporter=Silent())
    exported = peftlab.load(tmp_path / "merged").predict([(query, text) for text in documents])
    assert np.array([answer["prediction"] for answer in exported]) == pytest.approx(found, abs=1e-4)
    if run.parent.name.startswith("bert"):
        encoder = CrossEncoder(str(tmp_path / "merged"), device="cpu", local_files_only=True)
        assert encoder.predict([(query, text) for text in documents]) == pytest.approx(found, abs=1e-4)
