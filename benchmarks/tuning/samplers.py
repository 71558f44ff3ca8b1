"""Whether `peftlab tune` finds better settings than random search does with as many trials. Resumable.

    python benchmarks/tuning/samplers.py OUTPUT [--trials 20] [--seeds 10]

The searches are those of `peftlab tune`. What makes them cheap is a table that they share: a learning rate is run as
the nearest of a grid, so that two trials near each other are one run. Nothing is interpolated: every score is that of a
run on the tweets with 1,000 training rows. A trial's run has one of two seeds, by the search's; the winner is judged by
three other seeds, by which no search has chosen. Writes OUTPUT/samplers.json after each search.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peftlab.bench.executor import Finished
from peftlab.bench.recipe_search import Budget, RecipeSearch, SearchSettings, cell_of_recipe
from peftlab.bench.search_space import load_space
from peftlab.bench.studies import Pruner, Sampler
from peftlab.bench.worker import remove_weights
from peftlab.core.config import replace_config
from peftlab.core.errors import UserError
from peftlab.core.record import read_record
from peftlab.core.reporter import PlainReporter, Silent
from peftlab.core.threads import use_threads
from peftlab.recipe.schema import Recipe, load_recipe
from peftlab.run.run import run_recipe

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"
SETTINGS = [
    "data.max_train_examples=1000",
    "data.split_seed=0",
    "data.max_validation_examples=500",
    "training.epochs=1",
    "measure=false",
]
SPACE = Path(__file__).with_name("space.yaml")
POINTS_A_DECADE = 4
TRIAL_SEEDS = 2
FRESH_SEEDS = 3
FIRST_FRESH = 100


class Table:
    """Runs a recipe of the grid once, whoever asks for it.

    Args:
        folder: Of its runs.
        search_seed: The seed of the search that asks now.
    """

    stopped = False

    def __init__(self, folder: Path, search_seed: int) -> None:
        self._folder, self._search_seed = folder, search_seed

    def run(self, recipe: Recipe, folder: Path, *, goes_on: Callable[[], bool] | None = None) -> Finished:
        """The run of the nearest point of the grid."""
        after = recipe.seed - self._search_seed
        seed = FIRST_FRESH + after if after else self._search_seed % TRIAL_SEEDS
        step = round(POINTS_A_DECADE * math.log10(float(recipe.training.learning_rate or 0)))
        training = replace_config(recipe.training, learning_rate=10 ** (step / POINTS_A_DECADE))
        point = replace_config(recipe, seed=seed, training=training)
        name = hashlib.sha256(json.dumps(point.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]
        place = self._folder / name
        try:
            record = read_record(place)
        except UserError:
            record = run_recipe(point, output_dir=place, resume=place.exists()).record
            remove_weights(place)
        if record.status == "cancelled":
            raise KeyboardInterrupt
        return Finished(record, record.seconds)

    def stop(self) -> None:
        """Nothing: a run ends by itself on Ctrl-C."""


def main() -> None:
    """Search what is missing, and write the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    use_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        row: dict[str, Any] = {"seed": seed}
        for sampler in (Sampler.TPE, Sampler.RANDOM):
            row[sampler.value] = search(options.output, sampler, seed, options.trials)
        rows.append(row)
        write(options.output, rows, options.trials)


def search(output: Path, sampler: Sampler, seed: int, trials: int) -> float | None:
    """The mean score of a search's winner with fresh seeds; finished trials of earlier calls are kept by the search."""
    loaded, document = load_recipe(RECIPE, [*SETTINGS, f"seed={seed}"])
    cell, data = cell_of_recipe(loaded, document, offline=False, reporter=Silent())
    worker: Any = Table(output / "table", seed)
    settings = SearchSettings(load_space(SPACE, cell), sampler, Pruner.NONE)
    found = RecipeSearch(cell, data, settings, output / f"{sampler.value}-{seed}", worker, reporter=PlainReporter())
    return found.execute(Budget(trials, None, FRESH_SEEDS)).fresh_mean


def write(output: Path, rows: list[dict[str, Any]], trials: int) -> None:
    """The comparison so far."""
    gaps = [row["tpe"] - row["random"] for row in rows]
    result = {
        "trials": trials,
        "runs_in_the_table": sum(1 for _ in (output / "table").glob("*/record.json")),
        "scores": rows,
        "at_least_as_good": sum(gap >= 0 for gap in gaps),
        "better": sum(gap > 0 for gap in gaps),
        "of": len(gaps),
        "mean_difference": statistics.fmean(gaps),
        "standard_error": statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else None,
    }
    (output / "samplers.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
