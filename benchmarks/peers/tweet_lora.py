"""LoRA on tweets, side by side: transformers' Trainer + peft, a tutorial's padded loop, and peftlab.

    python benchmarks/peers/tweet_lora.py [--epochs 2] [--train 6000] [--output FILE.json]

Each contestant runs alone in a fresh process, one after the other, on the same rows. The outcome is a JSON file with
each one's tokens per second, test accuracy and peak of live tensor bytes, and the ratios to the Trainer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from contest import HERE, run_alone, write_result

RECIPE = HERE.parents[1] / "recipes" / "tweet_sentiment" / "minilm_lora_query_value.yaml"


def prepare(recipe: Path, overrides: list[str], folder: Path) -> str:
    """Write the splits that peftlab makes as Parquet for the others; returns the base model's folder."""
    from peftlab.preparation.check import check_recipe
    from peftlab.recipe.schema import load_recipe

    loaded, document = load_recipe(recipe, overrides)
    checked = check_recipe(loaded, document, offline=False)
    for name, split in checked.data.splits.items():
        table = {"text": list(split.columns["text"]), "label": list(split.columns["sentiment"])}
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return str(checked.model_location)


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
        words = json.dumps(options)
        outcomes = {
            name: run_alone(name, "contestants.py", name, words) for name in ("trainer", "peftlab", "padded_loop")
        }
    trainer, ours = outcomes["trainer"], outcomes["peftlab"]
    result = {
        "setting": {"epochs": chosen.epochs, "train": chosen.train, "learning_rate": chosen.learning_rate},
        "contestants": outcomes,
        "peftlab_over_trainer": {
            "tokens_per_second": ours["tokens_per_second"] / trainer["tokens_per_second"],
            "peak_bytes": ours["peak_bytes"] / trainer["peak_bytes"],
            "accuracy_difference": ours["accuracy"] - trainer["accuracy"],
        },
    }
    write_result(result, chosen.output)


if __name__ == "__main__":
    main()
