"""The recommender of MovieLens with several seeds: what the whole and each part reach, and what tuning the tower adds.

    python benchmarks/applications/recommend_seeds.py --output runs/films-seeds \
        --results benchmarks/applications/results/recommend_seeds.json

Of each seed: which items are hidden, the pairs, the tower's training, and the start of ALS. Goes on where it was
stopped. The interval is Student's over the seeds; each seed's own figures have intervals over users.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from peftlab.assembly.app_file import load_application
from peftlab.assembly.app_folder import open_application
from peftlab.assembly.build import build_application
from peftlab.assembly.evaluate import EVALUATION_NAME, evaluate_application
from peftlab.statistics.intervals import seeds_interval

RECIPE = "recipes/applications/recommend.yaml"


def measure(folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """The figures of one seed."""
    if not (folder / EVALUATION_NAME).exists():
        file = load_application(RECIPE, [f"seed={seed}", f"text.set.seed={seed}"])
        build_application(file, folder)
        application, place = open_application(folder)
        evaluate_application(application, place)
    figures: dict[str, dict[str, float]] = json.loads((folder / EVALUATION_NAME).read_text())["figures"]
    return figures


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    found = {seed: measure(given.output / f"seed{seed}", seed) for seed in range(given.seeds)}
    summary = {}
    for name in found[0]:
        values = [found[seed][name]["value"] for seed in found]
        each = [[found[seed][name][key] for key in ("value", "low", "high")] for seed in found]
        interval = seeds_interval(values) if len(values) > 1 else None
        summary[name] = {"seeds": each, "n": found[0][name]["n"], "mean": sum(values) / len(values)}
        if interval is not None:
            summary[name] |= {"low": interval.low, "high": interval.high}
        print(f"{name:<36} {summary[name]['mean']:.4f}", [f"{value:.4f}" for value in values])
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
