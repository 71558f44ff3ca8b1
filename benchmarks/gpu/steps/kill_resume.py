"""Runs that are killed after a checkpoint and resumed, against the same runs in one go."""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps.methods import Material
from benchmarks.gpu.steps.recipes import run_command, short_record, start_several
from benchmarks.gpu.steps.step import Findings, run_step

RESUMED = (("adalora", "bert"), ("qlora_nf4", "llama"))
"""State of its own, and a quantised base."""


def main(findings: Findings) -> None:
    """The runs in one go in a process of their own, beside those that are killed."""
    pairs = RESUMED[:1] if findings.is_tiny else RESUMED
    material = Material(findings, families=[family for _, family in pairs])
    whole = start_several(
        [run_command(recipe_of(material, *pair, "whole"), folder_of(material, *pair)) for pair in pairs]
    )
    resumed: dict[str, Any] = {}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda pair: kill_and_resume(findings, material, *pair), pairs))
    whole.wait()
    for pair, folder in zip(pairs, ended, strict=True):
        if folder is not None:
            resumed["-".join(pair)] = compare(findings, "-".join(pair), folder, folder_of(material, *pair))
            findings.note("resumed", resumed)
    findings.line = f"killed and resumed: {len(resumed)} of {len(pairs)}"


def recipe_of(material: Material, method: str, family: str, name: str, **training: Any) -> Path:
    """Two runs of one recipe are only equal on a card with kernels that repeat themselves, and these ask for them."""
    return material.recipe(method, family, f"{method}-{family}-{name}", deterministic=True, **training)


def folder_of(material: Material, method: str, family: str) -> Path:
    """Of the run in one go."""
    return material.folder / "runs" / f"{method}-{family}"


def kill_and_resume(findings: Findings, material: Material, method: str, family: str) -> Path | None:
    """Kill a run after its first checkpoint, and resume it; its folder, or None where it did not end well."""
    name = f"{method}-{family}"
    recipe = recipe_of(material, method, family, "killed", checkpoint_every_steps=5)
    folder = material.folder / "runs" / f"{name}-killed"
    process = subprocess.Popen(run_command(recipe, folder))
    while process.poll() is None and not list(folder.glob("checkpoints/step-*")):
        time.sleep(0.005)
    if process.poll() is not None:
        findings.fail(f"{name}: the run to be killed ended by itself with exit code {process.returncode}")
        return None
    process.send_signal(signal.SIGKILL)
    process.wait()
    code = subprocess.run(run_command(recipe, folder, "--resume"), check=False).returncode
    if code != 0:
        findings.fail(f"{name}: it was killed and could not be resumed: exit code {code}")
        return None
    return folder


def compare(findings: Findings, name: str, resumed: Path, in_one_go: Path) -> dict[str, Any]:
    """Whether both have scored the same."""
    record = short_record(resumed)
    try:
        scores = short_record(in_one_go)["scores"]
    except FileNotFoundError:
        scores = None
    same = record["scores"] == scores
    if not record["resumed"]:
        findings.fail(f"{name}: it was killed and then began anew: its checkpoint was not taken up")
    if not same:
        findings.fail(f"{name}: killed and resumed it scores {record['scores']}, in one go {scores}")
    return {"status": record["status"], "resumed": record["resumed"], "same_scores": same}


if __name__ == "__main__":
    run_step(main)
