"""`peftlab run` with every method on a BERT-like and a Llama-like model: guards, kill and resume."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import signal
import subprocess
import time
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
    "lora_int8": {"method": {"type": "lora", "target_modules": "all-linear"}, "model": {"quantization": "int8"}},
}
FAMILIES = ("bert", "llama")
RESUMED = (("adalora", "bert"), ("qlora_nf4", "llama"))
"""State of its own, and a quantised base. Two runs of one recipe are only equal on a card with kernels that repeat
themselves, and so these ask for them."""
EXPECTED_GUARDS = ("trainable_parameters", "gradients", "loss_finite", "adapter_changed", "reload_agrees")


class Material:
    """Models, data and recipes, in a folder of a step."""

    def __init__(self, findings: Findings, folder: str) -> None:
        self.folder = findings.empty_folder(folder)
        self.is_tiny = findings.is_tiny
        self.steps = 30 if findings.is_tiny else 60
        kind = {"tiny": findings.is_tiny, "device": findings.device}
        rows = 160 if findings.is_tiny else 1200
        longest = 40 if findings.is_tiny else 80
        self.data = {
            "bert": write_labelled(self.folder / "labelled.jsonl", rows, longest=longest),
            "llama": write_text(self.folder / "code.txt", characters=40_000 if findings.is_tiny else 400_000),
        }
        self.models = {family: model_folder(f"{family}_small", findings.scratch, **kind) for family in FAMILIES}
        self.tasks = {
            "bert": {"type": "text_classification", "max_length": 64 if findings.is_tiny else 128},
            "llama": {"type": "causal_lm", "max_length": 64 if findings.is_tiny else 256},
        }

    def recipe(self, method: str, family: str, name: str, **training: Any) -> Path:
        """The recipe of a run."""
        own = METHODS[method]
        if self.is_tiny:
            training = {"learning_rate": 5e-3, **training}
        if (method, family) in RESUMED:
            training = {"deterministic": True, **training}
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
    """All of it."""
    material = Material(findings, "methods")
    run_all(findings, material)
    resumed: dict[str, Any] = {}
    pairs = RESUMED[:1] if findings.is_tiny else RESUMED
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for found in pool.map(lambda pair: kill_and_resume(findings, material, *pair), pairs):
            findings.note("resumed", resumed | found)
            resumed |= found
    runs = findings.results["runs"]
    good = sum(run["status"] == "success" for run in runs.values())
    findings.line = f"{good} of {len(runs)} runs succeeded; killed and resumed: {len(resumed)}"


def run_all(findings: Findings, material: Material) -> None:
    """A process for each method, several at once; in each the run of both models.

    At tiny sizes loading the libraries is most of the work, and two processes share all methods.
    """
    runs: dict[str, Any] = {}
    lanes = max(2, min(6, (os.cpu_count() or 2) // 2))
    names = list(METHODS)
    waiting = [names[::2], names[1::2]] if findings.is_tiny else [[name] for name in names]
    running: list[tuple[list[str], subprocess.Popen[bytes]]] = []
    while waiting or running:
        while waiting and len(running) < lanes:
            group = waiting.pop(0)
            lines = [
                run_command(material.recipe(method, family, f"{method}-{family}"), folder_of(material, method, family))
                for method in group
                for family in FAMILIES
            ]
            running.append((group, start_several(lines)))
        for group, process in list(running):
            if process.poll() is None:
                continue
            running.remove((group, process))
            for method, family in itertools.product(group, FAMILIES):
                name = f"{method}-{family}"
                runs[name], problem = judge(material, method, family)
                if problem is not None:
                    findings.fail(f"{name}: {problem}")
            findings.note("runs", runs)
        time.sleep(0.05)


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


def kill_and_resume(findings: Findings, material: Material, method: str, family: str) -> dict[str, Any]:
    """Kill a run after its first checkpoint, resume it, and compare its scores with those of the run in one go."""
    name = f"{method}-{family}"
    recipe = material.recipe(method, family, f"{name}-killed", checkpoint_every_steps=5)
    folder = material.folder / "runs" / f"{name}-killed"
    process = subprocess.Popen(run_command(recipe, folder))
    while process.poll() is None and not list(folder.glob("checkpoints/step-*")):
        time.sleep(0.005)
    if process.poll() is not None:
        findings.fail(f"{name}: the run to be killed ended by itself with exit code {process.returncode}")
        return {name: {"status": "failed"}}
    process.send_signal(signal.SIGKILL)
    process.wait()
    code = subprocess.run(run_command(recipe, folder, "--resume"), check=False).returncode
    if code != 0:
        findings.fail(f"{name}: it was killed and could not be resumed: exit code {code}")
        return {name: {"status": "failed", "exit_code": code}}
    record, whole = short_record(folder), findings.results["runs"].get(name, {})
    same = record["scores"] == whole.get("scores")
    if not record["resumed"]:
        findings.fail(f"{name}: it was killed and then began anew: its checkpoint was not taken up")
    if not same:
        findings.fail(f"{name}: killed and resumed it scores {record['scores']}, in one go {whole.get('scores')}")
    return {name: {"status": record["status"], "resumed": record["resumed"], "same_scores": same}}


if __name__ == "__main__":
    run_step(main)
