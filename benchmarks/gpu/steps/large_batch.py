"""A batch that does not fit, with `micro_batch_size: auto`: it must run all the same, in parts that fit.

On a card, another process holds all but a part of its memory. On a CPU, PEFTLAB_MEMORY says how much there is.
"""

from __future__ import annotations

import contextlib
import os
import subprocess

from benchmarks.gpu.steps.ballast import fill_card
from benchmarks.gpu.steps.methods import Material
from benchmarks.gpu.steps.recipes import run_command, short_record
from benchmarks.gpu.steps.step import Findings, run_step

CARD_BYTES = 4 * 10**9
CPU_MEMORY = "24MB"


def main(findings: Findings) -> None:
    """Run it, and see that it was cut and stayed within the memory."""
    material = Material(findings, families=("llama",))
    rows = 64 if findings.is_tiny else 256
    training = {"max_steps": 4, "batch_size": rows, "micro_batch_size": "auto"}
    recipe = material.recipe("full", "llama", "large-batch", **training)
    folder = material.folder / "run"
    on_card = findings.device == "cuda"
    environment = dict(os.environ) if on_card else {**os.environ, "PEFTLAB_MEMORY": CPU_MEMORY}
    with fill_card(leave_bytes=CARD_BYTES) if on_card else contextlib.nullcontext():
        code = subprocess.run(run_command(recipe, folder), env=environment, check=False).returncode
    if code != 0:
        findings.fail(f"the run ended with exit code {code}")
        return
    record = short_record(folder)
    size = record["micro_batch_size"]
    findings.note("batch_size", rows)
    findings.note("record", record)
    if size is None or size >= rows:
        findings.fail(f"{size} of {rows} were computed at once: the batch was not cut")
    findings.line = f"{size} of {rows} at once, {record['memory']['peak_bytes'] / 1e6:,.0f} MB at the peak"


if __name__ == "__main__":
    run_step(main)
