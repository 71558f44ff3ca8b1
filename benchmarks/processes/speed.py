"""Two processes of one thread against one process of two threads: tokens a second, by turns on one machine.

    python benchmarks/processes/speed.py [RECIPE] [--rounds 2] [--set KEY=VALUE]…

Prints the figure of each run, the medians, and their ratio. Without a recipe: LoRA of MiniLM. The runs
have 40 steps; nothing else should compute meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = str(Path(__file__).parents[2] / "recipes" / "tweet_sentiment" / "minilm_lora.yaml")
SHORT = ("training.max_steps=40", "data.max_train_examples=1280", "evaluation.every=40", "evaluation.test=false")
"""Of any recipe, unless ``--set`` says otherwise: speed shows in few steps."""
WAYS = {
    "one process of two threads": ["--threads", "2"],
    "two processes of one thread": ["--processes", "2", "--threads", "1"],
}


def measure(recipe: str, options: list[str]) -> float:
    """Tokens a second of one run on CPU."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [
            sys.executable,
            "-m",
            "peftlab",
            "run",
            recipe,
            "--device",
            "cpu",
            "--output-dir",
            str(run),
            *options,
        ]
        subprocess.run(command, check=True, capture_output=True)
        return float(json.loads((run / "record.json").read_text())["throughput"]["tokens_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default=RECIPE)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    overrides = [part for value in (*SHORT, *given.set) for part in ("--set", value)]
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(given.rounds):
        for way, options in WAYS.items():
            found[way].append(measure(given.recipe, [*options, *overrides]))
            print(f"round {number + 1}: {way}: {found[way][-1]:,.0f} tokens/s", flush=True)
    one, two = (statistics.median(values) for values in found.values())
    print(f"medians {one:,.0f} and {two:,.0f} tokens/s: two processes do {two / one:.2f} of one")


if __name__ == "__main__":
    main()
