"""What the place of the cut changes: models of choices judged after each user's own cut, and after one moment for all.

    python benchmarks/applications/recommend_cuts.py --results benchmarks/applications/results/recommend_cuts.json

Both cuts of the table of ``recipes/applications/recommend.yaml``, without its text tower. Only ALS draws by a seed;
its figures are the mean over the seeds, for each user, before the interval over users is made.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.applications.recommend import Recommend, Split
from peftlab.applications.recommend.building import fit
from peftlab.applications.recommend.collaborative import fit_als
from peftlab.applications.recommend.evaluation import SIZE, baseline_lists, judged_events
from peftlab.applications.recommend.history import History
from peftlab.applications.recommend.metrics import Scores, score_lists
from peftlab.applications.recommend.reading import read_history
from peftlab.assembly.app_file import load_application
from peftlab.core.application import Workplace
from peftlab.core.reporter import Silent
from peftlab.statistics.means import mean_with_interval

RECIPE = "recipes/applications/recommend.yaml"


def scores_of(application: Recommend, history: History, seeds: int) -> dict[str, list[Scores]]:
    """Of each system what its lists are worth, by seed."""
    train, test = judged_events(application, history)
    models = fit(application, train)
    found: dict[str, list[Scores]] = {}
    for seed in range(seeds):
        models = replace(models, factors=fit_als(train.matrix, application.factors, seed))
        for name, lists in baseline_lists(models, train).items():
            own = score_lists(lists, test.each(), train.popularity, int(train.is_active.sum()), train.items)
            found.setdefault(name, []).append(own)
    return found


def told(scores: list[Scores]) -> dict[str, Any]:
    """The mean over users, with its interval, of the mean over seeds."""
    figures: dict[str, Any] = {}
    for measure in ("recall", "ndcg"):
        mean = mean_with_interval(np.mean([getattr(each, measure) for each in scores], axis=0))
        figures[f"{measure}@{SIZE}"] = {"value": mean.value, "low": mean.low, "high": mean.high, "users": mean.n}
    figures["coverage"] = float(np.mean([each.coverage for each in scores]))
    return figures


def main() -> None:
    """Judge after both cuts, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    file = load_application(RECIPE)
    assert isinstance(file.application, Recommend)
    _, history = read_history(file.application, Workplace(Path(), {}, file.document.folder or Path(), Silent()))
    result: dict[str, Any] = {}
    splits: tuple[Split, ...] = ("temporal_user", "temporal_global")
    for split in splits:
        application = file.application.model_copy(update={"split": split})
        train, test = judged_events(application, history)
        result[split] = {"train_events": len(train), "test_events": len(test), "users": len(history.users)}
        for name, scores in scores_of(application, history, given.seeds).items():
            result[split][name] = told(scores)
            print(split, name, result[split][name], flush=True)
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
