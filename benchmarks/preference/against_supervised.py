"""DPO against supervised tuning on the chosen texts alone, and against the base: accuracy of rewards on held-out pairs.

    python benchmarks/preference/write_pairs.py --data FOLDER --output PAIRS
    python benchmarks/preference/against_supervised.py --pairs PAIRS --output-dir FOLDER [--set KEY=VALUE …]

Both tune SmolLM2 by ``recipes/preference/e2e_smollm2_dpo_lora.yaml`` for as many passes over the same tables, with the
same LoRA. The reward of a text is for all of them how much likelier it is than to the untouched base, log π(y|x) −
log π_ref(y|x); the base's own is 0 throughout. Beside it stands the share of pairs whose chosen text is the likelier
one. Intervals (95 %) are over seeds and couples of pairs at once. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import peftlab
from peftlab.core.splits import Split
from peftlab.inference.load_tuned import load_run
from peftlab.run.prepared import PREPARED, TorchUntouchedBase
from peftlab.statistics.intervals import mean_interval, seeds_interval
from peftlab.tasks.preference.log_probabilities import response_log_probabilities

RECIPE = Path(__file__).parents[2] / "recipes" / "preference" / "e2e_smollm2_dpo_lora.yaml"
OF_TEXTS = ("template", "chat", "max_length", "max_new_tokens")
"""Keys that both tasks have."""


def supervised(values: dict[str, Any]) -> dict[str, Any]:
    """The same recipe, which learns the chosen texts alone."""
    task = {"type": "instruction_tuning", "prompt": "prompt", "response": "chosen"}
    task |= {key: values["task"][key] for key in OF_TEXTS if key != "chat"}
    return {**values, "task": task, "evaluation": {**values["evaluation"], "metric": "loss", "test": False}}


def run(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A run, gone on with where it broke off, or its record where it is there already."""
    record = folder / "record.json"
    if not record.is_file() or json.loads(record.read_text())["status"] != "success":
        peftlab.run_recipe(peftlab.Recipe.from_dict(values), output_dir=folder, resume=folder.is_dir())
    found: dict[str, Any] = json.loads(record.read_text())
    if found["status"] != "success":
        raise SystemExit(f"{folder}: {found['error']}")
    return found


def log_probabilities(folder: Path, task: Any, rows: list[dict[str, Any]]) -> np.ndarray:
    """Of each pair the log-probability of both texts by a run's model (pairs × 2); kept in its folder."""
    kept = folder / "log_probabilities.json"
    if not kept.is_file():
        tuned = load_run(folder)
        model, inference = tuned.module()
        columns = {key: [row[key] for row in rows] for key in ("prompt", "chosen", "rejected")}
        split = task.encode(task.arrange(Split("test", range(len(rows)), columns)), tuned.tokenizer, ())
        asked = TorchUntouchedBase(
            model, task, inference, batches=tuned.batches, pad_token_id=tuned.tokenizer.pad_token_id
        )
        of_both = asked.values(split, lambda model, batch: response_log_probabilities(model, batch).view(2, -1).T)
        kept.write_text(json.dumps(of_both.tolist()))
    return np.array(json.loads(kept.read_text()))


def figures(values: np.ndarray, couples: np.ndarray, *, changes: bool = False) -> dict[str, Any]:
    """The mean of a score, or of a difference of two, over seeds and pairs (seeds × pairs), with intervals."""
    by_couple = np.stack([values[:, couples == couple].mean(1) for couple in np.unique(couples)], axis=1)
    found = {"mean": float(values.mean()), "by_seed": values.mean(1).tolist()}
    both = mean_interval(by_couple, changes=changes)
    found["interval"] = [both.low, both.high]
    if len(values) > 1:
        seeds = seeds_interval(values.mean(1).tolist())
        found["interval_of_seeds_alone"] = [seeds.low, seeds.high]
    return found


def main() -> None:
    """Run what is missing, and write and print the comparison after each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="Folder with train, validation and test.jsonl.")
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "against_supervised.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[])
    chosen = parser.parse_args()
    places = {name: str((chosen.pairs / f"{name}.jsonl").resolve()) for name in ("train", "validation", "test")}
    recipe, _ = peftlab.load_recipe(RECIPE, chosen.set)
    values = {**recipe.model_dump(mode="json"), "measure": False}
    values["data"]["source"] = places
    rows = [json.loads(line) for line in Path(places["test"]).read_text(encoding="utf-8").splitlines()]
    couples, differences = (
        np.array([row["couple"] for row in rows]),
        np.array([len(row["slots"].split(", ")) for row in rows]),
    )
    ratios: dict[str, list[np.ndarray]] = {"dpo": [], "supervised": []}
    for seed in chosen.seeds:
        torch.manual_seed(seed)
        folders = {name: chosen.output_dir / f"{name}-{seed}" for name in ratios}
        record = run({**values, "seed": seed}, folders["dpo"])
        run({**supervised(values), "seed": seed}, folders["supervised"])
        base = load_file(folders["dpo"] / PREPARED)["test/reference"].double().numpy()
        for name, folder in folders.items():
            ratios[name].append(log_probabilities(folder, recipe.task, rows) - base)
        of_base, right = (base[:, 0] > base[:, 1]).astype(float)[None], dict[str, np.ndarray]()
        found: dict[str, Any] = {
            "setting": {
                "pairs": {name: record["data"]["rows"][name] for name in places},
                "couples_of_test": len(np.unique(couples)),
                "mean_tokens": {name: record["data"]["notes"][name] for name in places},
                **{key: values["training"][key] for key in ("epochs", "batch_size", "learning_rate")},
                "beta": values["task"]["beta"],
                "dtype": values["model"]["dtype"],
                "seeds": chosen.seeds[: len(ratios["dpo"])],
            },
            "base": {"chosen_is_likelier": figures(of_base, couples)},
        }
        for name, own in ratios.items():
            rewards = np.stack(own)
            is_right = right[name] = (rewards[..., 0] > rewards[..., 1]).astype(float)
            of_texts = rewards + base
            found[name] = {
                "reward_accuracy": figures(is_right, couples),
                "by_differences": {int(n): float(is_right[:, differences == n].mean()) for n in np.unique(differences)},
                "chosen_is_likelier": figures((of_texts[..., 0] > of_texts[..., 1]).astype(float), couples),
                "mean_log_ratio": dict(zip(("chosen", "rejected"), rewards.mean((0, 1)).tolist(), strict=True)),
            }
        found["dpo_minus_supervised"] = figures(right["dpo"] - right["supervised"], couples, changes=True)
        chosen.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        for name in ratios:
            print(seed, name, found[name]["reward_accuracy"], found[name]["by_differences"], flush=True)


if __name__ == "__main__":
    main()
