"""Whether `peftlab tune` finds better settings than random search does with as many trials. Resumable.

    python benchmarks/tuning/samplers.py OUTPUT [--trials 12] [--seeds 10]

For each seed, `tune` and random search get the same recipe, rows, space and trials. Both winners run again with
the same fresh seeds, and their mean validation scores are compared. Writes OUTPUT/samplers.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"
ROWS = 1000
SAMPLERS = ("tpe", "random")


def main() -> None:
    """Run what is missing, and write the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(options.seeds):
        found = {name: search(options.output, name, seed, options.trials) for name in SAMPLERS}
        rows.append({"seed": seed, **{name: each["fresh_mean"] for name, each in found.items()}})
        gaps = [row["tpe"] - row["random"] for row in rows]
        result = {
            "rows": ROWS,
            "trials": options.trials,
            "scores": rows,
            "at_least_as_good": sum(gap >= 0 for gap in gaps),
            "of": len(gaps),
            "mean_difference": statistics.fmean(gaps),
            "standard_error": statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else None,
        }
        (options.output / "samplers.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(rows[-1]), flush=True)


def search(output: Path, sampler: str, seed: int, trials: int) -> dict[str, float]:
    """One search; finished trials of earlier calls are kept by `tune` itself."""
    settings = [f"seed={seed}", f"data.max_train_examples={ROWS}", "data.split_seed=0", "measure=false"]
    command = [sys.executable, "-m", "peftlab", "tune", str(RECIPE), "--trials", str(trials), "--sampler", sampler]
    command += [part for setting in settings for part in ("--set", setting)]
    command += ["--output-dir", str(output / f"{sampler}-{seed}"), "--threads", "1", "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
