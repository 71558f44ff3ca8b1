"""``/v1/embeddings``: OpenAI's shape, the vectors of ``predict``, and what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peftlab
from tests.conftest import sentences

TEXTS = ["good film", "the day was sad and dark in town", "it"]


@pytest.fixture(scope="module")
def embedding_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedding")
    rows = [{"query": text, "document": text.upper()} for text, _ in sentences(30)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = peftlab.Recipe.from_dict(
        {
            "name": "vectors",
            "model": {"path": str(tiny_bert)},
            "task": {"type": "text_embedding", "max_length": 24},
            "data": {"source": str(folder / "rows.jsonl")},
            "method": {"type": "lora"},
            "training": {"max_steps": 2, "batch_size": 8},
            "measure": False,
        }
    )
    assert peftlab.run_recipe(recipe, output_dir=folder / "run").record.status == "success"
    return folder / "run"


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
        ({"input": []}, 422, "at least 1 item"),
        ({"input": "a", "model": "agan"}, 404, "there is no adapter `agan`"),
        ({"input": "a", "temperature": 1}, 422, "Extra inputs"),
    ):
        found, answer = ask(**body)
        assert found == status, answer
        assert words in answer["error"]
    status, answer, _ = client.request("POST", "/v1/rerank", {"model": "again", "query": "a", "documents": ["b"]})
    assert status == 422
    assert "scores no pairs" in answer["error"]


def test_a_model_that_gives_no_vectors_says_so(start: Any, tiny_run: Callable[..., Path]) -> None:
    client = start({"classes": tiny_run()})
    status, answer, _ = client.request("POST", "/v1/embeddings", {"input": "a"})
    assert status == 422
    assert "gives no vectors" in answer["error"]
