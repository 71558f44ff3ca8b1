"""``/v1/embeddings`` in OpenAI's shape and ``/v1/rerank``: the numbers of ``predict``, and what is refused."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import peftlab
from peftlab.serving.host import Host
from tests.changed_weights import change_weights, endless
from tests.conftest import sentences

pytestmark = pytest.mark.slow

TEXTS = ["good film", "the day was sad and dark in town", "it"]


def tiny_run_of(task: dict[str, Any], model: Path, folder: Path) -> Path:
    rows = [{"query": text, "document": text.upper(), "no": text[::-1]} for text, _ in sentences(30)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = peftlab.Recipe.from_dict(
        {
            "name": "vectors",
            "model": {"path": str(model)},
            "task": {**task, "max_length": 24},
            "data": {"source": str(folder / "rows.jsonl")},
            "method": {"type": "lora"},
            "training": {"max_steps": 2, "batch_size": 8},
            "measure": False,
        }
    )
    assert peftlab.run_recipe(recipe, output_dir=folder / "run").record.status == "success"
    return folder / "run"


@pytest.fixture(scope="module")
def embedding_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run_of({"type": "text_embedding"}, tiny_bert, tmp_path_factory.mktemp("embedding"))


def test_texts_are_embedded_by_the_tower_that_reads_them(tiny_clip: Path, tmp_path: Path, start: Any) -> None:
    rows = [
        {"image": Image.new("RGB", (8, 8), (9 * at, 0, 90)), "text": text} for at, (text, _) in enumerate(sentences(20))
    ]
    recipe = peftlab.Recipe(
        name="pictures",
        model={"path": str(tiny_clip)},
        task={"type": "image_text_embedding", "max_length": 24},
        data={"source": rows},
        method={"type": "lora"},
        training={"max_steps": 1, "batch_size": 8},
        measure=False,
    )
    assert peftlab.run_recipe(recipe, output_dir=tmp_path / "run").record.status == "success"
    expected = np.array([answer["prediction"] for answer in peftlab.load(tmp_path / "run").predict(TEXTS)])
    client = start({"pictures": tmp_path / "run"})
    status, answer, _ = client.request("POST", "/v1/embeddings", {"input": TEXTS})
    assert status == 200, answer
    assert np.array([item["embedding"] for item in answer["data"]]) == pytest.approx(expected, abs=1e-5)


def test_vectors_are_those_of_predict(embedding_run: Path, start: Any, tiny_run: Callable[..., Path]) -> None:
    expected = np.array([answer["prediction"] for answer in peftlab.load(embedding_run).predict(TEXTS)])
    client = start({"vectors": embedding_run, "again": embedding_run})  # both in one model

    def ask(**body: Any) -> tuple[int, Any]:
        status, answer, _ = client.request("POST", "/v1/embeddings", {"model": "again", **body})
        return status, answer

    status, answer = ask(input=TEXTS)
    assert status == 200, answer
    assert (answer["object"], answer["model"]) == ("list", "again")
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert np.array([item["embedding"] for item in answer["data"]]) == pytest.approx(expected, abs=1e-5)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 9
    _, one = ask(input=TEXTS[0], encoding_format="base64", user="me")
    numbers = np.frombuffer(base64.b64decode(one["data"][0]["embedding"]), dtype="<f4")
    assert numbers == pytest.approx(expected[0], abs=1e-5)
    _, short = ask(input=TEXTS[:1], dimensions=5)
    first = expected[0][:5]
    assert short["data"][0]["embedding"] == pytest.approx(first / np.linalg.norm(first), abs=1e-4)
    for body, status, words in (
        ({"input": TEXTS, "dimensions": 999}, 422, "a vector has 32 dimensions"),
        ({"input": ["fine", " "]}, 422, "input[1] is empty"),
        ({"input": ["fine", "half \ud800"]}, 422, "input[1]: the column `text` holds half of a character"),
        ({"input": []}, 422, "at least 1 item"),
        ({"input": "a", "model": "agan"}, 404, "there is no adapter `agan`"),
        ({"input": "a", "temperature": 1}, 422, "`temperature` is no key of this route"),
    ):
        found, answer = ask(**body)
        assert found == status, answer
        assert words in answer["error"]["message"]
    status, answer, _ = client.request("POST", "/v1/rerank", {"model": "again", "query": "a", "documents": ["b"]})
    assert status == 422
    assert "scores no pairs" in answer["error"]


def test_adapters_whose_tasks_read_vectors_otherwise_share_no_batch(
    embedding_run: Path, tiny_bert: Path, tmp_path: Path, start: Any
) -> None:
    runs = {"own": embedding_run}
    runs["cls"] = tiny_run_of({"type": "text_embedding", "pooling": "cls", "normalize": False}, tiny_bert, tmp_path)
    client = start(runs)
    for name, folder in runs.items():
        expected = np.array([answer["prediction"] for answer in peftlab.load(folder).predict(TEXTS)])
        _, answer, _ = client.request("POST", "/v1/embeddings", {"model": name, "input": TEXTS})
        assert np.array([item["embedding"] for item in answer["data"]]) == pytest.approx(expected, abs=1e-5)


def test_adapters_that_learned_from_other_columns_share_a_batch(
    tiny_run: Callable[..., Path], reviews: Path, tmp_path: Path
) -> None:
    """As the monitor's two parts do: sentiment and topic are columns of one table."""
    header, rest = reviews.read_text(encoding="utf-8").split("\n", 1)
    assert header == "text,label"
    table = tmp_path / "topics.csv"
    table.write_text(f"said,topic\n{rest}", encoding="utf-8")
    task = "{type: text_classification, max_length: 24, text: said, label: topic}"
    host = Host()
    hosted = [host.add("one", tiny_run()), host.add("other", tiny_run(task=task, data=table))]
    assert hosted[0].group is hosted[1].group


def test_a_model_that_gives_no_vectors_says_so(start: Any, tiny_run: Callable[..., Path]) -> None:
    client = start({"classes": tiny_run()})
    status, answer, _ = client.request("POST", "/v1/embeddings", {"input": "a"})
    assert status == 422
    assert "gives no vectors" in answer["error"]["message"]


def test_documents_are_ranked_by_the_scores_of_predict(tiny_bert: Path, tmp_path: Path, start: Any) -> None:
    run = tiny_run_of({"type": "reranking", "negatives": ["no"]}, tiny_bert, tmp_path)
    query, documents = "good film", ["sad day", "GOOD FILM", "it"]
    answers = peftlab.load(run).predict([(query, text) for text in documents])
    found = np.array([answer["prediction"] for answer in answers])
    client = start({"ranker": run})
    body = {"query": query, "documents": documents, "top_n": 2, "return_documents": True}
    status, answer, _ = client.request("POST", "/v1/rerank", body)
    assert status == 200, answer
    best = np.argsort(-found)[:2].tolist()
    assert [item["index"] for item in answer["results"]] == best
    assert [item["document"]["text"] for item in answer["results"]] == [documents[at] for at in best]
    assert [item["relevance_score"] for item in answer["results"]] == pytest.approx(found[best], abs=1e-5)
    status, answer, _ = client.request("POST", "/v1/rerank", {"query": query, "documents": ["a", " "]})
    assert status == 422
    assert "documents[1] is empty" in answer["error"]


def test_a_vector_that_is_no_number_is_no_answer(embedding_run: Path, start: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedding_run, tmp_path / "broken"))
    change_weights(folder, endless)
    client = start({"broken": folder})
    for encoding in ("float", "base64"):
        status, answer, _ = client.request("POST", "/v1/embeddings", {"input": TEXTS, "encoding_format": encoding})
        assert status == 500
        assert "what the model computes is no number (NaN), so it gives no answer" in answer["error"]["message"]
