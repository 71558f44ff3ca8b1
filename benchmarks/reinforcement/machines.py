"""A small GPT-2 that reads Turing machines goes on by reward alone, or supervised for as many seconds.

    peftlab run recipes/turing_machine/gpt2_many_machines.yaml --output-dir runs/turing-many-machines-gpt2
    python benchmarks/reinforcement/machines.py --output-dir FOLDER [--seeds 0 1 2] [--set KEY=VALUE …]

All start from one base and are tested on the same runs, each of a machine of its own that no training has seen. Seconds
are of the processor, so that a shared computer changes nothing. What is there already is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import peftlab
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.splits import Split
from peftlab.statistics.crossed import variance_of_mean
from peftlab.tasks.turing_machine.data import draw_runs, random_players
from peftlab.tasks.turing_machine.runs import machine_runs, scores_of_runs
from peftlab.tasks.turing_machine.task import TuringMachine
from peftlab.training.evaluation import TorchInference

BASE = "recipes/turing_machine/gpt2_many_machines.yaml"
RECIPE = "recipes/turing_machine/gpt2_reinforcement.yaml"
METRICS = ("step_exact_match", "steps_survived")
CHOSEN_ON = ("pilot-validation/77", 700)
"""Seed and number of the machines on which the settings were chosen; none of them is tested."""
TESTED = ("benchmark-test/1", 2000)


class Clock(peftlab.Callback):
    """Notes the processor's seconds at each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step(self, step: int, loss: float) -> None:
        """Called at every logged step."""
        self.seconds.append(time.process_time())

    @property
    def step(self) -> float:
        """The median of a step."""
        return statistics.median(b - a for a, b in zip(self.seconds, self.seconds[1:], strict=False))

    @property
    def all(self) -> float:
        """From the first step on, with what lies between steps."""
        return self.seconds[-1] - self.seconds[0]


def run(values: dict[str, Any], folder: Path) -> dict[str, float]:
    """Make a run where there is none yet; gives the seconds of its training and of its median step."""
    found = folder / "seconds.json"
    if not found.is_file():
        clock = Clock()
        done = peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=folder, callbacks=(clock,))
        if done.record.status != "success":
            raise SystemExit(f"{folder}: {done.record.error}")
        found.write_text(json.dumps({"seconds": clock.all, "step": clock.step, "steps": len(clock.seconds)}))
    seconds: dict[str, float] = json.loads(found.read_text())
    return seconds


def tables_of(task: TuringMachine) -> set[str]:
    """The machines of all splits."""
    splits = task.make_splits(0).values()
    return {str(table) for split in splits for table in split.columns["machine"]}


def unseen_runs(recipe: peftlab.Recipe) -> Split:
    """A run of each machine that is tested."""
    base, _ = peftlab.load_recipe(BASE)
    assert isinstance(base.task, TuringMachine)
    assert isinstance(recipe.task, TuringMachine)
    task = recipe.task
    sizes = {"states": task.states, "symbols": task.symbols}
    known = tables_of(base.task) | tables_of(task)
    known |= {player.table for player in random_players(*CHOSEN_ON, **sizes, without=frozenset(known))}
    players = random_players(*TESTED, **sizes, without=frozenset(known))
    lengths = range(1, task.tape_length + 1)
    return draw_runs("test", players, len(players), lengths, seed=TESTED[0], max_steps=task.max_steps, bucket=None)


def scores_of(folder: Path, split: Split, found: Path) -> dict[str, list[float]]:
    """What each run contributes to each metric, by the model of a run's folder; kept in a file."""
    if not found.is_file():
        saved = SavedRun.open(folder)
        task = TuringMachine(**{key: getattr(saved.recipe.task, key) for key in TuringMachine.model_fields})
        model = saved.load_model(offline=True, device=torch.device("cpu")).eval()
        examples = sorted(task.encode(split, saved.tokenizer, ()).examples, key=task.length)
        inference, rows = TorchInference(saved.tokenizer, (), torch.device("cpu")), []
        for start in range(0, len(examples), 64):
            part = examples[start : start + 64]
            rows += task.predict_examples(model, part, saved.tokenizer.pad_token_id, inference)
        runs = machine_runs(row.scores for row in rows)
        found.write_text(json.dumps({name: np.asarray(scores_of_runs(name, runs)).tolist() for name in METRICS}))
    scores: dict[str, list[float]] = json.loads(found.read_text())
    return scores


def difference(own: Sequence[Sequence[float]], base: Sequence[float]) -> dict[str, Any]:
    """The gain over the base with a 95 % interval over seeds and machines, both of which are drawn."""
    gains = np.asarray(own) - np.asarray(base)
    found = variance_of_mean(gains)
    parts, freedom = (found.seeds, found.examples), (len(gains) - 1, gains.shape[1] - 1)
    error = float(np.sqrt(found.total))
    below = sum(float(part) ** 2 / count for part, count in zip(parts, freedom, strict=True) if count)
    half = error * float(stats.t.ppf(0.975, float(found.total) ** 2 / below)) if below else 0.0  # Satterthwaite
    mean = float(gains.mean())
    return {
        "mean": float(np.mean(own)),
        "by_seed": np.mean(own, axis=1).tolist(),
        "difference": mean,
        "interval": [mean - half, mean + half],
    }


def main() -> None:
    """Run all, and write and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[])
    chosen = parser.parse_args()
    recipe, _ = peftlab.load_recipe(RECIPE, chosen.set)
    base_recipe, _ = peftlab.load_recipe(BASE)
    values = recipe.model_dump(mode="json") | {"measure": False}
    values["training"] |= {"log_every_steps": 1}
    supervised = {**values, "task": {key: values["task"][key] for key in TuringMachine.model_fields}}
    supervised["task"]["type"] = "turing_machine"
    own = base_recipe.training.model_dump(mode="json")
    taught = {key: own[key] for key in ("batch_size", "learning_rate", "schedule")} | {"log_every_steps": 1}
    split = unseen_runs(recipe)
    chosen.output_dir.mkdir(parents=True, exist_ok=True)
    base = scores_of(Path(recipe.model.path), split, chosen.output_dir / "base.json")
    seconds: dict[str, list[float]] = {"reinforcement": [], "supervised": []}
    scores: dict[str, list[dict[str, list[float]]]] = {"reinforcement": [], "supervised": []}
    for seed in chosen.seeds:
        folder = chosen.output_dir / f"reinforcement-{seed}"
        seconds["reinforcement"].append(run({**values, "seed": seed}, folder)["seconds"])
        scores["reinforcement"].append(scores_of(folder, split, folder / "unseen.json"))
    tried = {**supervised, "training": {**taught, "max_steps": 40}, "evaluation": {"every": 1000}}
    step = run(tried, chosen.output_dir / "supervised-step")["step"]
    for seed, budget in zip(chosen.seeds, seconds["reinforcement"], strict=True):
        steps = round(budget / step)
        folder = chosen.output_dir / f"supervised-{seed}"
        evaluation = {**values["evaluation"], "every": max(1, steps // 4)}
        training = {**taught, "max_steps": steps}
        taken = run({**supervised, "seed": seed, "training": training, "evaluation": evaluation}, folder)
        seconds["supervised"].append(taken["seconds"])
        scores["supervised"].append(scores_of(folder, split, folder / "unseen.json"))
    found: dict[str, Any] = {
        "machines": len(next(iter(base.values()))),
        "seeds": chosen.seeds,
        "base": {metric: float(np.mean(base[metric])) for metric in METRICS},
    }
    for name, each in scores.items():
        found[name] = {"processor_seconds": seconds[name]}
        for metric in METRICS:
            found[name][metric] = difference([one[metric] for one in each], base[metric])
            print(name, metric, found[name][metric])
    (chosen.output_dir / "comparison.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
