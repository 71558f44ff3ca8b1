"""Speed and score of a run and of its exports, on the run's own test split.

    python benchmarks/serving/formats.py RUN --output results.json

Exports the run in every format, then predicts the test split with the run itself (its adapter not merged) and with each
export, in turns, on one thread each, and reports texts per second (the median of the turns), the metrics, and how much
of the recipe's own metric an export loses. All get the same tokens in batches of the same texts; tokenising is not
timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from peftlab.core.errors import PeftlabError
from peftlab.core.reporter import Silent
from peftlab.core.splits import EncodedSplit
from peftlab.inference.export.export import export_run
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.reference import load_held_out
from peftlab.inference.tuned_model import TunedModel

FORMATS = ("merged", "onnx", "onnx-int8")


def main() -> int:
    """Export, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        contestants = {"adapter": load_tuned(options.run, offline=True)}
        split = load_held_out(contestants["adapter"], names=("test",), offline=True, report=print)
        for name in FORMATS:
            try:
                export_run(options.run, name, Path(folder) / name, offline=True, reporter=Silent())
            except PeftlabError as error:  # there is no such export, or it is too far from its run
                print(f"{name}: {error}", file=sys.stderr)
                continue
            contestants[name] = load_tuned(Path(folder) / name)
        found = measure(contestants, split, options.turns)
    recipe = contestants["adapter"].recipe
    metric = recipe.evaluation.metric or recipe.task.metrics[0]
    for each in found.values():
        each["loss_of_the_metric"] = found["adapter"]["scores"][metric] - each["scores"][metric]
    text = json.dumps({"texts": len(split), "threads": options.threads, "metric": metric, "formats": found}, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0


def measure(contestants: dict[str, TunedModel], split: EncodedSplit, turns: int) -> dict[str, Any]:
    """Texts per second and metrics of each; in turns, so that a disturbance meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    scores: dict[str, dict[str, float]] = {}
    for tuned in contestants.values():
        tuned.predict(split.examples[:64])  # caches, threads and memory are cold before this
    for _ in range(turns):
        for name, tuned in contestants.items():
            started = time.perf_counter()
            predictions = tuned.predict(split.examples)
            seconds[name].append(time.perf_counter() - started)
            scorer = tuned.task.scorer(tuned.labels)
            scorer.add(predictions)
            scores[name] = scorer.compute()
    speed = {name: len(split) / statistics.median(taken) for name, taken in seconds.items()}
    return {
        name: {
            "texts_per_second": speed[name],
            "times_the_adapter": speed[name] / speed["adapter"],
            "scores": scores[name],
            "seconds_of_the_turns": seconds[name],
        }
        for name in contestants
    }


if __name__ == "__main__":
    sys.exit(main())
