"""The weights of the large models, drawn and written while other steps have the card too."""

from __future__ import annotations

import time

from benchmarks.gpu.steps.models import model_folder
from benchmarks.gpu.steps.step import Findings, run_step

MODELS = ("llama_8b", "llama_3b", "bert_base")


def main(findings: Findings) -> None:
    """Make them."""
    seconds: dict[str, float] = {}
    for name in MODELS:
        started = time.monotonic()
        model_folder(name, findings.scratch, tiny=findings.is_tiny, device=findings.device)
        seconds[name] = round(time.monotonic() - started, 1)
        findings.note("seconds", seconds)
    findings.line = ", ".join(f"{name} in {took:.0f} s" for name, took in seconds.items())


if __name__ == "__main__":
    run_step(main)
