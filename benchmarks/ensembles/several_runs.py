"""What several runs are worth together: the mean of their answers, of their weights, and one run that learns from them.

    python benchmarks/ensembles/several_runs.py [--draws 6]

Each draw takes 2,000 other tweets to train on, and tunes four runs on them that differ by their seed. Then come an
ensemble of the four, a uniform soup of them, and one run that is tuned on the same rows with the ensemble as its
teacher. All are scored on the same 2,000 test tweets, and compared with the mean of the four runs of the draw. Settings
are those of `recipes/tweet_sentiment/minilm_lora.yaml` and the defaults of `training.distillation`: nothing is chosen.
Each draw that ends is added to ``several_runs.json``; the same command goes on with what is missing.

    python benchmarks/ensembles/several_runs.py --rates [--draws 4]

Here the four runs of a draw have one seed, and so start alike, head included; they differ by their learning rate. Of
these there are soups alone, as the paper makes them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peftlab
from peftlab.core.files import write_text
from peftlab.statistics.intervals import seeds_interval

RESULTS = Path(__file__).with_name("several_runs.json")
RECIPE = Path(__file__).parents[2] / "recipes/tweet_sentiment/minilm_lora.yaml"
MEMBERS = 4
RATES = (1e-3, 1.5e-3, 2e-3, 3e-3)


def tune(
    folder: Path, draw: int, seed: int, teacher: Path | None = None, rate: float | None = None
) -> tuple[float, float]:
    """Tune one run; give its test accuracy, and how long it took."""
    given: dict[str, Any] = {
        "seed": seed,
        "measure": False,
        "data.split_seed": 0,
        "data.draw_seed": draw,
        "data.max_train_examples": 2000,
        "data.max_validation_examples": 500,
    }
    if teacher is not None:
        given["training.distillation"] = {"teachers": [str(teacher)]}
    if rate is not None:
        given["training.learning_rate"] = rate
    recipe, _ = peftlab.load_recipe(RECIPE, [f"{key}={json.dumps(value)}" for key, value in given.items()])
    record = peftlab.run_recipe(recipe, output_dir=folder).record
    if record.status != "success":
        raise SystemExit(f"draw {draw}, seed {seed}: {record.error}")
    return record.scores["test"]["accuracy"], record.seconds


def together(runs: list[Path], folder: Path, *more: str) -> float:
    """Put runs together; give the test accuracy."""
    command = [sys.executable, "-m", "peftlab", "ensemble", *map(str, runs), "--output", str(folder), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if (folder / "record.json").is_file():
        return peftlab.read_record(folder).scores["test"]["accuracy"]
    return float(json.loads((folder / "ensemble.json").read_text())["scores"]["test"]["accuracy"])


def one_draw(draw: int, place: Path) -> dict[str, Any]:
    """All arms of one draw."""
    runs = [place / f"run{at}" for at in range(MEMBERS)]
    scores, seconds = zip(*(tune(run, draw, seed) for seed, run in enumerate(runs)), strict=True)
    found: dict[str, Any] = {"runs": list(scores), "seconds_of_a_run": round(sum(seconds) / MEMBERS, 1)}
    began = time.monotonic()
    found["ensemble"] = together(runs, place / "ensemble")
    found["seconds_of_the_ensemble"] = round(time.monotonic() - began, 1)
    found["soup"] = together(runs, place / "soup", "--soup", "uniform")
    found["student"], student = tune(place / "student", draw, MEMBERS, place / "ensemble")
    return found | {"seconds_of_the_student": round(student, 1)}


def one_draw_of_rates(draw: int, place: Path) -> dict[str, Any]:
    """Runs that start alike, and their soups."""
    runs = [place / f"run{at}" for at in range(len(RATES))]
    scores = [tune(run, draw, 0, rate=rate)[0] for run, rate in zip(runs, RATES, strict=True)]
    soups = {kind: together(runs, place / kind, "--soup", kind) for kind in ("uniform", "greedy")}
    return {"runs": scores, **soups}


def summary(draws: dict[str, dict[str, Any]], arms: tuple[str, ...]) -> dict[str, Any]:
    """Means, and each arm's mean difference to a single run, with its 95 % interval over draws (Student's t)."""
    singles = [sum(each["runs"]) / MEMBERS for each in draws.values()]
    told: dict[str, Any] = {"draws": len(draws), "single": round(sum(singles) / len(singles), 4)}
    for arm in arms:
        gains = [each[arm] - single for each, single in zip(draws.values(), singles, strict=True)]
        told[arm] = {"accuracy": round(sum(each[arm] for each in draws.values()) / len(draws), 4)}
        told[arm]["gain"] = round(sum(gains) / len(gains), 4)
        if len(gains) > 1:
            interval = seeds_interval(gains)
            told[arm]["interval_95"] = [round(interval.low, 4), round(interval.high, 4)]
    return told


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--rates", action="store_true", help="runs that differ by their rate, not by their seed")
    chosen = parser.parse_args()
    part, arms = ("rates", ("uniform", "greedy")) if chosen.rates else ("seeds", ("ensemble", "soup", "student"))
    for draw in range(chosen.draws):
        found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        draws = found.get(part, {}).get("draws", {})
        if str(draw) in draws:
            continue
        place = Path(tempfile.mkdtemp(prefix="several-runs-"))
        try:
            draws[str(draw)] = (one_draw_of_rates if chosen.rates else one_draw)(draw, place)
        finally:
            shutil.rmtree(place)
        found[part] = {"summary": summary(draws, arms), "draws": draws}
        write_text(RESULTS, json.dumps(found, indent=1) + "\n")
        print(part, draw, draws[str(draw)], flush=True)


if __name__ == "__main__":
    main()
