"""`peftlab run` with every method on a BERT-like or a Llama-like model, with all guards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps.material import write_labelled, write_text
from benchmarks.gpu.steps.models import model_folder
from benchmarks.gpu.steps.recipes import run_command, short_record, start_several, write_recipe
from benchmarks.gpu.steps.step import Findings, run_step

METHODS: dict[str, dict[str, Any]] = {
    "full": {"method": {"type": "full"}},
    "lora": {"method": {"type": "lora", "rank": 8, "target_modules": "all-linear"}},
    "adalora": {"method": {"type": "adalora"}},
    "prefix_tuning": {"method": {"type": "prefix_tuning"}},
    "bitfit": {"method": {"type": "bitfit"}},
    "houlsby_adapter": {"method": {"type": "houlsby_adapter"}},
    "qlora_nf4": {"method": {"type": "lora", "target_modules": "all-linear"}, "model": {"quantization": "nf4"}},
    "lora_float16": {"method": {"type": "lora", "target_modules": "all-linear"}, "model": {"dtype": "float16"}},
    "lora_int8": {"method": {"type": "lora", "target_modules": "all-linear"}, "model": {"quantization": "int8"}},
}
ON_A_CARD = ("lora_float16",)
"""Accelerate keeps the scale of float16's gradients on cards only."""
FAMILIES = ("bert", "llama")
LANES = 2
"""Processes at once. To load the libraries takes as long as a run; tiny runs are shorter, and share a process."""
USUAL_RATE = ("full", "prefix_tuning")
"""These learn from random weights at their own rates; the others have more to learn in 60 steps than usual."""
EXPECTED_GUARDS = ("trainable_parameters", "gradients", "loss_finite", "adapter_changed", "reload_agrees")


class Material:
    """Models, data and recipes, in the folder of a step."""

    def __init__(self, findings: Findings, families: Sequence[str] = FAMILIES) -> None:
        self.folder = findings.empty_folder()
        self.is_tiny = findings.is_tiny
        self.steps = 30 if findings.is_tiny else 60
        kind = {"tiny": findings.is_tiny, "device": findings.device}
        rows = 160 if findings.is_tiny else 1200
        longest = 40 if findings.is_tiny else 80
        self.data = {
            "bert": write_labelled(self.folder / "labelled.jsonl", rows, longest=longest),
            "llama": write_text(self.folder / "code.txt", characters=40_000 if findings.is_tiny else 400_000),
        }
        self.models = {family: model_folder(f"{family}_small", findings.scratch, **kind) for family in families}
        self.tasks = {
            "bert": {"type": "text_classification", "max_length": 64 if findings.is_tiny else 128},
            "llama": {"type": "causal_lm", "max_length": 64 if findings.is_tiny else 256},
        }

    def recipe(self, method: str, family: str, name: str, **training: Any) -> Path:
        """The recipe of a run."""
        own = METHODS[method]
        if self.is_tiny or (family == "bert" and method not in USUAL_RATE):
            training = {"learning_rate": 5e-3, **training}
        values = {
            "name": name,
            "model": {"path": self.models[family], **own.get("model", {})},
            "task": self.tasks[family],
            "data": {"source": self.data[family], "max_validation_examples": 32, "max_test_examples": 32},
            "method": own["method"],
            "training": {"max_steps": self.steps, "batch_size": 8, **training},
        }
        return write_recipe(self.folder / "recipes" / f"{name}.yaml", values)


def main(findings: Findings) -> None:
    """The runs of one family: a few processes at once, in each several methods one after the other."""
    family = findings.settings["family"]
    material = Material(findings, families=(family,))
    runs: dict[str, Any] = {}
    names, running = [name for name in METHODS if findings.device == "cuda" or name not in ON_A_CARD], []
    lanes = 1 if findings.is_tiny else LANES
    for lane in range(lanes):
        group = names[lane::lanes]
        lines = [
            run_command(material.recipe(method, family, f"{method}-{family}"), folder_of(material, method, family))
            for method in group
        ]
        running.append((group, start_several(lines)))
    while any(method for group, _ in running for method in group):
        for group, process in running:
            ended = process.poll() is not None
            for method in list(group):
                if not ended and not (folder_of(material, method, family) / "record.json").exists():
                    break  # a process runs one after the other
                group.remove(method)
                name = f"{method}-{family}"
                runs[name], problem = judge(material, method, family)
                if problem is not None:
                    findings.fail(f"{name}: {problem}")
                findings.note("runs", runs)
        time.sleep(0.05)
    for _, process in running:
        process.wait()
    good = sum(run["status"] == "success" for run in runs.values())
    findings.line = f"{good} of {len(runs)} runs succeeded"


def folder_of(material: Material, method: str, family: str) -> Path:
    """The folder of a run."""
    return material.folder / "runs" / f"{method}-{family}"


def judge(material: Material, method: str, family: str) -> tuple[dict[str, Any], str | None]:
    """What a run has left, and what is wrong with it."""
    try:
        record = short_record(folder_of(material, method, family))
    except FileNotFoundError:
        return {"status": "failed"}, "it left no record"
    if record["status"] != "success":
        return record, f"{record['status']}: {record['error']}"
    guards = record["guards"]
    bad = [name for name in EXPECTED_GUARDS if guards[name]["status"] != "passed"]
    bad += [name for name, guard in guards.items() if guard["status"] == "failed" and name not in bad]
    return record, f"guards that did not pass: {', '.join(bad)}" if bad else None


if __name__ == "__main__":
    run_step(main)
