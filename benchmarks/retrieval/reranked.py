"""A reranker on top of the retrieval of FAQ documents: the tuned retriever's first documents, put into a better order.

The splits, the questions and the retriever (LoRA, in-batch negatives) are those of ``faq.py``. The reranker is a
cross-encoder on MiniLM: it learns for each training question to tell its document from the nearest wrong ones of the
retriever (hard negatives). A test question's first ten documents then get the retriever's similarity, divided by its
temperature, plus the reranker's score: both are logits of losses over a list of documents, so no weight is chosen.

    python benchmarks/retrieval/reranked.py ../shared/data/faq_stack --output runs/faq \
        --results benchmarks/results/faq_retrieval/results.json

A cell that has been computed is not computed again; the frozen cells of ``faq.py`` are computed where they are missing.
``--rehearse`` takes the test questions out of the training part instead: settings were looked at there alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faq
import numpy as np

import peftlab

FIRST = 10
"""Documents that are put into a new order."""
NEGATIVES = 4
"""Wrong documents of a training question, the nearest ones."""
TEMPERATURE = 0.05
"""Of the retriever's loss."""
ALONE, TOGETHER = "reranker", "lora-reranker"
"""The first documents by the reranker's score alone, and by both."""
RERANKER: dict[str, Any] = {
    "task": {"type": "reranking", "objective": "listwise", "max_length": 96},
    "method": {"type": "lora", "rank": 8, "alpha": 16, "target_modules": "all-linear"},
    "training": {"epochs": 2, "batch_size": 16, "learning_rate": 5e-4},
}


def retrieve(folder: Path, documents: Mapping[int, str], train: list[Any], seed: int) -> Any:
    """The tuned retriever: gives the vectors of texts."""
    rows = [{"query": row["query"], "document": documents[row["doc_id"]]} for row in train]
    loaded = run(folder, rows, {"task": {"type": "text_embedding", "max_length": 64}, **faq.TUNING}, seed)

    def vectors(texts: Sequence[str]) -> np.ndarray:
        return np.array([answer["prediction"] for answer in loaded.predict(list(texts))])

    return vectors


def run(folder: Path, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], seed: int) -> peftlab.LoadedRun:
    """Tune MiniLM on rows; a run that was stopped goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "train.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = peftlab.Recipe.from_dict(
        {
            "name": folder.name,
            "seed": seed,
            "model": {"path": faq.MODEL},
            "data": {"source": {"train": str(table)}, "validation_fraction": 0, "test_fraction": 0},
            "measure": False,
            **settings,
        }
    )
    place = folder / "run"
    done = peftlab.run_recipe(recipe, output_dir=place, resume=place.exists())
    assert done.record.status == "success", done.record.error
    return peftlab.load(place)


def reranked(
    folder: Path, documents: Mapping[int, str], train: list[Any], test: list[Any], seed: int
) -> dict[str, Any]:
    """For each test question its first documents, with the similarity and the reranker's score of each."""
    vectors = retrieve(folder / "retriever", documents, train, seed)
    ids, texts = list(documents), list(documents.values())
    of_documents = vectors(texts)
    seen = sorted({row["doc_id"] for row in train})
    near = vectors([row["query"] for row in train]) @ of_documents[[ids.index(one) for one in seen]].T
    rows = []
    for row, similar in zip(train, near, strict=True):
        wrong = [seen[at] for at in np.argsort(-similar) if seen[at] != row["doc_id"]][:NEGATIVES]
        others = {f"negative_{at}": documents[one] for at, one in enumerate(wrong)}
        rows.append({"query": row["query"], "document": documents[row["doc_id"]], **others})
    task = {**RERANKER["task"], "negatives": [f"negative_{at}" for at in range(NEGATIVES)]}
    reranker = run(folder / "reranker", rows, {**RERANKER, "task": task}, seed)
    similar = vectors([row["query"] for row in test]) @ of_documents.T
    first = np.argsort(-similar, axis=1)[:, :FIRST]
    pairs = [(row["query"], texts[at]) for row, places in zip(test, first, strict=True) for at in places]
    scores = np.array([answer["prediction"] for answer in reranker.predict(pairs)]).reshape(first.shape)
    return {
        "documents": [[ids[at] for at in places] for places in first],
        "similarities": np.take_along_axis(similar, first, axis=1).tolist(),
        "scores": scores.tolist(),
        "right": [row["doc_id"] for row in test],
    }


def marks(found: Mapping[str, Any], total: np.ndarray) -> str:
    """For each question 1 where the document with the highest total is its own, else 0."""
    best = total.argmax(axis=1)
    return "".join(
        str(int(of_question[at] == right))
        for of_question, at, right in zip(found["documents"], best, found["right"], strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="where the runs go")
    parser.add_argument("--results", type=Path, help="the results; default: results.json in --output")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split", choices=faq.KINDS, action="append", help="only this; default: both")
    parser.add_argument("--rehearse", action="store_true", help="test questions out of the training part")
    options = parser.parse_args()
    documents = {row["doc_id"]: row["question"] for row in faq.read(options.data / "docs.jsonl")}
    queries = faq.read(options.data / "queries.jsonl")
    results: Path = options.results or options.output / "results.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = json.loads(results.read_text()) if results.is_file() else {}
    frozen: dict[str, np.ndarray] = {}
    for seed in range(options.seeds):
        for kind in options.split or faq.KINDS:
            train, test = faq.split(queries, kind, seed)
            if options.rehearse:
                train, test = faq.split(train, kind, seed)
            name = f"{kind}--{{}}--seed{seed}"
            if name.format(faq.FROZEN) not in found:
                frozen = frozen or faq.frozen_by_text(queries, documents)
                found[name.format(faq.FROZEN)] = faq.frozen_marks(frozen, documents, test)
            if name.format(TOGETHER) not in found:
                of_cell = reranked(options.output / name.format(TOGETHER), documents, train, test, seed)
                similar, scores = np.array(of_cell["similarities"]), np.array(of_cell["scores"])
                totals = {"lora": similar, ALONE: scores, TOGETHER: similar / TEMPERATURE + scores}
                for system, total in totals.items():
                    found.setdefault(name.format(system), marks(of_cell, total))
            results.write_text(json.dumps(found, indent=2) + "\n")
            for system in (faq.FROZEN, "lora", ALONE, TOGETHER):
                print(name.format(system), round(faq.share(found[name.format(system)]), 4), flush=True)
    print(faq.table(found, options.seeds))


if __name__ == "__main__":
    main()
