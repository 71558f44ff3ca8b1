"""A small GPT-2 that reads Turing machines goes on by reward alone, or supervised for as many seconds.

    peftlab run recipes/turing_machine/gpt2_many_machines.yaml --output-dir runs/turing-many-machines-gpt2
    python benchmarks/reinforcement/machines.py --output-dir FOLDER [--seeds 0 1 2] [--set KEY=VALUE …]

All start from one base and are tested on the same runs of machines that none has seen. The figures are means over the
seeds; the intervals are over the machines (95 %, t), of the difference to the base on the same runs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import peftlab
from peftlab.tasks.turing_machine.runs import machine_runs, scores_of_runs

RECIPE = "recipes/turing_machine/gpt2_reinforcement.yaml"
SPLIT = "test_unseen_machines"
METRICS = ("step_exact_match", "steps_survived")
OF_REWARDS = ("rewards", "estimator", "group_size", "temperature", "kl", "clip", "steps_per_roll_out")
OF_REWARDS += ("max_response_tokens", "roll_out_batch_size")


class StopAfter(peftlab.Callback):
    """Ends the training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._begun = seconds, None

    def on_step(self, step: int, loss: float) -> None:
        """Looks at the clock from the first step on."""
        self._begun = self._begun or time.monotonic()
        if time.monotonic() - self._begun >= self._seconds:
            raise peftlab.StopTraining


def run(values: dict[str, Any], folder: Path, callbacks: tuple[Any, ...] = ()) -> dict[str, Any]:
    """A run, or its record where it is there already."""
    record = folder / "record.json"
    if not record.is_file():
        peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=folder, callbacks=callbacks)
    found: dict[str, Any] = json.loads(record.read_text())
    if found["status"] != "success":
        raise SystemExit(f"{folder}: {found['error']}")
    return found


def per_run(folder: Path) -> dict[str, Any]:
    """Of each run of the test split: what it contributes to each metric."""
    rows = pq.read_table(folder / "predictions.parquet", columns=["split", "scores"]).to_pylist()
    runs = machine_runs(row["scores"] for row in rows if row["split"] == SPLIT)
    return {metric: np.asarray(scores_of_runs(metric, runs)) for metric in METRICS}


def curve(folder: Path) -> list[tuple[int, float]]:
    """Steps survived on the validation split, by step."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["validation"]["steps_survived"]) for line in lines if "validation" in line]


def main() -> None:
    """Run all, and write and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[])
    chosen = parser.parse_args()
    recipe, _ = peftlab.load_recipe(RECIPE, chosen.set)
    values = {**recipe.model_dump(mode="json"), "measure": False}
    supervised_task = {key: value for key, value in values["task"].items() if key not in OF_REWARDS}
    supervised_task["type"] = "turing_machine"
    still = {**values["training"], "max_steps": 1, "learning_rate": 1e-12}
    run({**values, "task": supervised_task, "training": still}, chosen.output_dir / "base")
    folders: dict[str, list[Path]] = {"reinforcement": [], "supervised": []}
    seconds: dict[str, list[float]] = {"reinforcement": [], "supervised": []}
    for seed in chosen.seeds:
        folder = chosen.output_dir / f"reinforcement-{seed}"
        record = run({**values, "seed": seed}, folder)
        took = record["phases"]["train"]["seconds"]
        training = {**values["training"], "max_steps": 100_000, "log_every_steps": 1}
        other = chosen.output_dir / f"supervised-{seed}"
        stopped = run(
            {**values, "seed": seed, "task": supervised_task, "training": training}, other, (StopAfter(took),)
        )
        for name, place, each in (("reinforcement", folder, record), ("supervised", other, stopped)):
            folders[name].append(place)
            seconds[name].append(each["phases"]["train"]["seconds"])
    base = per_run(chosen.output_dir / "base")
    found: dict[str, Any] = {"base": {metric: float(values.mean()) for metric, values in base.items()}}
    for name, places in folders.items():
        own = [per_run(place) for place in places]
        found[name] = {"seconds": seconds[name], "steps_survived_by_step": [curve(place) for place in places]}
        for metric in METRICS:
            means = np.mean([each[metric] for each in own], axis=0)
            gain = means - base[metric]
            half = 1.96 * float(gain.std(ddof=1)) / math.sqrt(len(gain))
            found[name][metric] = {
                "mean": float(means.mean()),
                "by_seed": [float(each[metric].mean()) for each in own],
                "difference": float(gain.mean()),
                "interval": [float(gain.mean()) - half, float(gain.mean()) + half],
            }
            print(f"{name:14} {metric:17} {means.mean():.4f} {gain.mean():+.4f} ± {half:.4f} {found[name][metric]}")
    (chosen.output_dir / "comparison.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
