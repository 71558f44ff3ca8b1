"""Losses of embeddings against sentence-transformers' own; cached gradients against the whole batch; mining; scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from torch import Tensor
from torch.nn.functional import normalize

import peftlab
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.tasks._hard_negatives import mine
from peftlab.tasks.text_embedding import TextEmbedding
from tests.conftest import sentences

pytestmark = pytest.mark.slow


class Vectors(SentenceTransformer):
    """A model whose features are the vectors themselves."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.truncate_dim = None

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        return dict(features)


def features(vectors: Tensor, sides: int) -> list[dict[str, Tensor]]:
    return [{"sentence_embedding": side} for side in vectors.chunk(sides)]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(2, 4), st.integers(0, 10**6), st.sampled_from([0.02, 0.05, 0.5]))
def test_losses_are_those_of_sentence_transformers(count: int, sides: int, seed: int, temperature: float) -> None:
    torch.manual_seed(seed)
    vectors = normalize(torch.randn(count * sides, 8, dtype=torch.float64), dim=1)
    keys = torch.arange(count * sides).view(sides, count).T
    negatives = ["no", "nor"][: sides - 2]

    def ours(task: TextEmbedding, vectors: Tensor = vectors, **batch: Tensor) -> float:
        return float(task.loss(vectors, {"keys": keys, **batch})) / count

    model = Vectors()
    ranking = losses.MultipleNegativesRankingLoss(model, scale=1 / temperature)
    theirs = float(ranking(features(vectors, sides), None))
    task = TextEmbedding(negatives=negatives, temperature=temperature)
    assert ours(task) == pytest.approx(theirs, rel=1e-9)
    nested = losses.MatryoshkaLoss(model, ranking, matryoshka_dims=[8, 4, 2], n_dims_per_step=-1)
    halves = TextEmbedding(negatives=negatives, temperature=temperature, dimensions=[8, 4, 2])
    assert ours(halves) * 3 == pytest.approx(float(nested(features(vectors, sides), None)), rel=1e-6)
    if negatives:
        distance = losses.TripletDistanceMetric.COSINE
        triplets = losses.TripletLoss(Vectors(), distance_metric=distance, triplet_margin=0.3)
        each = [float(triplets([*features(vectors, sides)[:2], other], None)) for other in features(vectors, sides)[2:]]
        task = TextEmbedding(objective="triplet", negatives=negatives, margin=0.3)
        assert ours(task) == pytest.approx(sum(each) / len(each), rel=1e-6)
    scores = torch.randint(0, 4, (count,)).double()
    pairs = vectors[: 2 * count]
    wanted = losses.CoSENTLoss(Vectors(), scale=1 / temperature)(features(pairs, 2), scores)
    task = TextEmbedding(objective="cosent", score="score", temperature=temperature)
    assert ours(task, pairs, scores=scores) == pytest.approx(float(wanted), rel=1e-6)


def test_mined_are_the_nearest_wrong_documents() -> None:
    documents = torch.tensor([[1.0, 0.0], [0.99, 0.14], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    keys = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3], [0, 4], [5, 0]])
    queries = torch.tensor([[1.0, 0.0]]).repeat(6, 1)
    found = mine(queries, documents, keys, count=2, margin=0.05)
    # Of the first query the documents 0 and 4 are right, and 1 is as near as the right one.
    assert found[0].tolist() == [2, 3]
    # The right one is far: all others but the farthest are too near, and the farthest of these comes next.
    assert found[3].tolist() == [4, 2]
    with pytest.raises(DataError, match="too few to find 4 wrong ones"):
        mine(queries, documents, keys, count=4, margin=0.05)


def test_a_query_is_no_mined_negative_of_itself() -> None:
    documents = torch.tensor([[0.9, 0.4], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    keys = torch.tensor([[0, 1], [2, 0], [3, 4], [5, 6]])  # the second document is the first query
    found = mine(torch.tensor([[1.0, 0.0]]).repeat(4, 1), documents, keys, count=2, margin=0)
    assert found[0].tolist() == [2, 3]


def values(model: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    texts = [text for text, _ in sentences(50)]
    rows = [{"query": text, "document": texts[at - 1][: 4 + at % 9], "score": at % 5} for at, text in enumerate(texts)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "name": "small",
        "model": {"path": str(model), "dropout": 0.1},
        "task": {"type": "text_embedding", "max_length": 24, **changes.get("task", {})},
        "data": {"source": str(folder / "rows.jsonl"), "validation_fraction": 0.2, "test_fraction": 0.2},
        "method": {"type": "lora"},
        "training": {"max_steps": 3, "batch_size": 16, "log_every_steps": 1, **changes.get("training", {})},
        "measure": False,
    }


def run_of(values: dict[str, Any], folder: Path) -> Any:
    done = peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=folder)
    assert done.record.status == "success", done.record.error
    return done.record


def losses_of(folder: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [[line["loss"], line["gradient_norm"]] for line in lines if "loss" in line]


def test_cached_gradients_are_those_of_the_whole_batch(tiny_bert: Path, tmp_path: Path) -> None:
    curves = []
    for name, training in {"whole": {}, "parts": {"micro_batch_size": 3}}.items():
        recipe = values(tiny_bert, tmp_path, training=training)
        recipe["model"]["dropout"] = 0.0
        run_of(recipe, tmp_path / name)
        curves.append(losses_of(tmp_path / name))
    assert len(curves[0]) == 3
    assert torch.allclose(torch.tensor(curves[0]), torch.tensor(curves[1]), rtol=1e-6, atol=1e-6)


def test_parts_of_a_batch_take_less_than_a_third_of_its_memory(tiny_bert: Path, tmp_path: Path) -> None:
    peaks = []
    texts = [f"{text} {other}" for text, _ in sentences(16) for other, _ in sentences(8)]
    rows = [{"query": text, "document": text[::-1]} for text in texts]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for size in (None, 16):
        recipe = values(tiny_bert, tmp_path, training={"batch_size": 128, "micro_batch_size": size, "max_steps": 1})
        data = {"source": str(tmp_path / "many.jsonl"), "validation_fraction": 0, "test_fraction": 0}
        recipe |= {"data": {**data, "deduplicate": False}, "measure": True}
        peaks.append(run_of(recipe, tmp_path / f"run-{size}").memory.peak_bytes)
    assert peaks[1] <= 0.3 * peaks[0], peaks


def test_both_passes_of_a_part_draw_the_same_dropout(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[Tensor] = []
    plain = TextEmbedding.logits

    def watched(task: TextEmbedding, model: Any, batch: Any) -> Tensor:
        found = plain(task, model, batch)
        if model.training:
            passes.append(found.detach())
        return found

    monkeypatch.setattr(TextEmbedding, "logits", watched)
    run_of(values(tiny_bert, tmp_path, training={"micro_batch_size": 8, "max_steps": 2}), tmp_path / "run")
    first, second = passes[:4][:2], passes[:4][2:]
    assert len(passes) == 8
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert not torch.allclose(passes[0], passes[4], atol=1e-4)  # there is dropout, and no step draws that of another


def test_memory_that_runs_out_is_spared_by_parts(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = TextEmbedding.logits

    def limited(task: TextEmbedding, model: Any, batch: Any) -> Tensor:
        if model.training and len(batch["input_ids"]) > 8:
            raise torch.OutOfMemoryError("no memory left")
        return plain(task, model, batch)

    monkeypatch.setattr(TextEmbedding, "logits", limited)
    record = run_of(values(tiny_bert, tmp_path, training={"micro_batch_size": "auto"}), tmp_path / "run")
    assert record.micro_batch_size == 4


def test_what_would_change_the_loss_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = values(tiny_bert, tmp_path, training={"micro_batch_size": 4, "regularizers": [{"type": "fgm"}]})
    with pytest.raises(UnsupportedError, match="`fgm` works around the whole backward pass"):
        peftlab.run_recipe(peftlab.Recipe.from_dict(recipe))
    for name in ("max_tokens_per_batch", "gradient_accumulation_steps"):
        changed = values(tiny_bert, tmp_path, training={name: 8})
        with pytest.raises(UnsupportedError, match="compares the examples of a batch"):
            peftlab.run_recipe(peftlab.Recipe.from_dict(changed))


def test_a_run_with_mined_negatives_and_one_with_scored_pairs(tiny_bert: Path, tmp_path: Path) -> None:
    mined = values(tiny_bert, tmp_path, task={"mined_negatives": 2, "objective": "triplet"})
    record = run_of(mined, tmp_path / "mined")
    assert 0 <= record.scores["test"]["recall_at_1"] <= 1
    assert (tmp_path / "mined/prepared.safetensors").is_file()
    loaded = peftlab.load(tmp_path / "mined")
    assert len(loaded.predict(["it"])[0]["prediction"]) == 32
    assert loaded.evaluate(tmp_path / "rows.jsonl").scores.keys() == record.scores["test"].keys()

    scored = values(tiny_bert, tmp_path, task={"objective": "cosent", "score": "score", "dimensions": [32, 8]})
    record = run_of(scored, tmp_path / "scored")
    assert record.recipe["evaluation"]["metric"] == "spearman"
    assert set(record.scores["test"]) == {"spearman", "pearson"}
    loaded = peftlab.load(tmp_path / "scored")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    sides = [
        torch.tensor([answer["prediction"] for answer in loaded.predict([row[name] for row in rows])])
        for name in ("query", "document")
    ]
    wanted = spearmanr([row["score"] for row in rows], (sides[0] * sides[1]).sum(dim=1)).statistic
    assert loaded.evaluate(rows).scores["spearman"] == pytest.approx(wanted, abs=5e-3)


def test_what_does_not_go_together_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    for keys, words in (
        ({"objective": "cosent"}, "go together"),
        ({"score": "score"}, "go together"),
        ({"objective": "cosent", "score": "s", "mined_negatives": 1}, "have no negatives"),
        ({"objective": "triplet"}, "need `negatives`"),
        ({"objective": "triplet", "mined_negatives": 1, "symmetric": True}, "`symmetric` goes with"),
        ({"margin": 0.3}, "`margin` goes with `objective: triplet`"),
        ({"mining_margin": 0.3}, "`mining_margin` goes with `mined_negatives`"),
    ):
        with pytest.raises(ValueError, match=words):
            TextEmbedding.model_validate(keys)
    recipe = values(tiny_bert, tmp_path, task={"objective": "cosent", "score": "score"})
    for row, words in (
        ({"query": "a", "document": " ", "score": 1}, "row 2.*`document` is missing or empty"),
        ({"query": None, "document": "b", "score": 1}, "row 2.*`query` is missing or empty"),
        ({"query": "a", "document": "b", "score": "much"}, "much"),
    ):
        first = {"query": "c", "document": "d", "score": 0}
        (tmp_path / "bad.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (first, row)))
        (tmp_path / "test.jsonl").write_text(json.dumps({"query": "e", "document": "f", "score": 0}) + "\n")
        sources = {name: str(tmp_path / file) for name, file in (("train", "bad.jsonl"), ("test", "test.jsonl"))}
        recipe["data"] = {"source": sources, "validation_fraction": 0}
        with pytest.raises(DataError, match=words):
            peftlab.run_recipe(peftlab.Recipe.from_dict(recipe))
    recipe = values(tiny_bert, tmp_path, task={"dimensions": [999]})
    with pytest.raises(UnsupportedError, match="have 32 dimensions, not 999"):
        peftlab.run_recipe(peftlab.Recipe.from_dict(recipe))
