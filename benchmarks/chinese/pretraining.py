"""Whether reading reviews first helps to classify them: one pre-training, then three seeds with it and without.

Runs that are there already are not run again. Without: the same recipe and model with random weights, its vocabulary
the characters of the labelled reviews.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SEEDS = (0, 1, 2)
RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "chinese"
NEW = (
    "{tokenizer: characters, from_config: {model_type: bert, hidden_size: 128, num_hidden_layers: 2, "
    "num_attention_heads: 4, intermediate_size: 512, max_position_embeddings: 128, vocab_size: 4096}}"
)


def main(reviews: Path, runs: Path) -> None:
    """Run what is missing.

    Args:
        reviews: The folder that write_reviews.py has written.
        runs: Gets a folder for each run.
    """
    source = f"data.source={{train: {reviews.resolve()}/train.csv, test: {reviews.resolve()}/test.csv}}"
    read = runs / "read"
    run("waimai_masked_lm", read, source)
    for seed in SEEDS:
        run("waimai_full", runs / f"with-{seed}", source, f"seed={seed}", f"model.path={read.resolve()}")
        run("waimai_full", runs / f"without-{seed}", source, f"seed={seed}", f"model={NEW}")


def run(recipe: str, folder: Path, *settings: str) -> None:
    """One run, unless it has ended well; one that was cut off goes on."""
    record = folder / "record.json"
    if record.exists() and json.loads(record.read_text())["status"] == "success":
        return
    command = [sys.executable, "-m", "peftlab", "run", str(RECIPES / f"{recipe}.yaml"), "--output-dir", str(folder)]
    command += ["--resume"] if folder.exists() else []
    subprocess.run([*command, *(part for each in settings for part in ("--set", each))], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
