"""LoRA on tweets, side by side: transformers' Trainer + peft, a tutorial's padded loop, and peftlab.

    python benchmarks/peers/tweet_lora.py [--epochs 2] [--train 6000] [--output FILE.json]

Each contestant runs alone in a fresh process, one after the other, on the same rows. The outcome is a JSON file with
each one's tokens per second, test accuracy and peak of live tensor bytes, and the ratios to the Trainer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parents[1] / "recipes" / "tweet_sentiment" / "minilm_lora_query_value.yaml"


def prepare(recipe: Path, overrides: list[str], folder: Path) -> str:
    """Write the splits that peftlab makes as Parquet for the others; returns the base model's folder."""
    from peftlab.check import check_recipe
    from peftlab.recipe import load_recipe

    loaded, document = load_recipe(recipe, overrides)
    checked = check_recipe(loaded, document, offline=False)
    for name, split in checked.data.splits.items():
        table = {"text": list(split.columns["text"]), "label": list(split.columns["sentiment"])}
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return str(checked.model_location)


def run(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """One contestant in a fresh process."""
    command = [sys.executable, str(HERE / "contestants.py"), name, json.dumps(options)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise SystemExit(f"{name} failed:\n{finished.stderr[-3000:]}")
    line = next(line for line in finished.stdout.splitlines() if line.startswith("RESULT "))
    outcome: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    print(name, outcome, flush=True)
    return outcome


def main() -> None:
    """Run all contestants and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "tweet_lora.json")
    chosen = parser.parse_args()
    overrides = [f"data.max_train_examples={chosen.train}"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = {
            "source": prepare(RECIPE, overrides, folder),
            "data": str(folder),
            "recipe": str(RECIPE),
            "overrides": overrides,
            "epochs": chosen.epochs,
            "learning_rate": chosen.learning_rate,
        }
        outcomes = {name: run(name, options) for name in ("trainer", "peftlab", "padded_loop")}
    import torch

    from peftlab.measurement.environment import describe_environment

    trainer, ours = outcomes["trainer"], outcomes["peftlab"]
    result = {
        "setting": {"epochs": chosen.epochs, "train": chosen.train, "learning_rate": chosen.learning_rate},
        "contestants": outcomes,
        "peftlab_over_trainer": {
            "tokens_per_second": ours["tokens_per_second"] / trainer["tokens_per_second"],
            "peak_bytes": ours["peak_bytes"] / trainer["peak_bytes"],
            "accuracy_difference": ours["accuracy"] - trainer["accuracy"],
        },
        "environment": describe_environment(torch.device("cpu")),
    }
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["peftlab_over_trainer"], indent=2))


if __name__ == "__main__":
    main()
