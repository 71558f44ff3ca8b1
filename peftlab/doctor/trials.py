"""The trials' outcomes as findings; each trial runs in a process of its own, with a limit of time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from peftlab.core.amounts import short_size
from peftlab.doctor.finding import Finding, Status
from peftlab.doctor.trial import MARK

SECONDS = 120.0
"""For one trial."""


def run_trial(name: str) -> dict[str, Any]:
    """What a trial has found, under ``found``; or under ``error`` why it has not."""
    command = [sys.executable, "-P", "-m", "peftlab.doctor.trial", name]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {SECONDS:g} seconds"}
    except OSError as error:
        return {"error": f"cannot be started: {error.strerror}"}
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            outcome: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return outcome
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return {"error": f"the process ended with {done.returncode}: {said[-1] if said else 'no word'}"}


def look_at_torch(outcome: dict[str, Any]) -> Finding:
    """Where runs compute."""
    if "error" in outcome:
        return Finding("torch", "problem", outcome["error"], "Nothing can run before torch does: install it anew.")
    found = outcome["found"]
    if "card" in found:
        card = f"{found['card']}, {short_size(found['free_bytes'])} of {short_size(found['memory_bytes'])} free"
        dtype = "bfloat16" if found["bfloat16"] else "float32, since it does not compute in bfloat16"
        meaning = f"Runs use this card; a frozen base is in {dtype}."
        if not found["bfloat16"]:
            meaning += " model.dtype: float16 takes half of that memory."
        return Finding("torch", "ok", f"{found['version']} with CUDA: {card}", meaning, found)
    if found["built_for_cuda"] is None:
        why = "this torch is built for CPUs alone"
    elif shutil.which("nvidia-smi") is None:
        why = "there is no NVIDIA driver here"
    else:
        why = "torch sees no card: the driver may be too old, or CUDA_VISIBLE_DEVICES hides it"
    meaning = f"Runs use the CPU, in float32 ({why}). Encoders tune in minutes; large language models are slow."
    status: Status = "note" if shutil.which("nvidia-smi") and found["built_for_cuda"] is None else "ok"
    return Finding("torch", status, f"{found['version']}, no CUDA device", meaning, found)


def look_at_bitsandbytes(outcome: dict[str, Any]) -> Finding:
    """Whether quantised bases and 8-bit optimizers work here."""
    name = "bitsandbytes"
    if "error" in outcome:
        meaning = "model.quantization and the 8-bit optimizers do not work here; everything else does."
        return Finding(name, "note", outcome["error"], meaning)
    found = outcome["found"]
    broken = {part: said for part, said in found["works"].items() if said != "works"}
    if broken:
        shown = "; ".join(f"{part}: {said}" for part, said in broken.items())
        meaning = f"Do not use {', '.join(broken)} here; the rest works."
        return Finding(name, "note", f"{found['version']}: {shown}", meaning, found)
    meaning = f"model.quantization and the 8-bit optimizers compute on {found['device']}; on a CPU that is slow."
    return Finding(
        name, "ok", f"{found['version']}: {', '.join(found['works'])} tried on {found['device']}", meaning, found
    )


def look_at_training(outcome: dict[str, Any]) -> Finding:
    """Whether a step of training works, by peftlab's faster parts too."""
    if "error" in outcome:
        meaning = "A run would fail, or needs model.acceleration: off. Please report it, with this page as --json."
        return Finding("training", "problem", outcome["error"], meaning)
    found = outcome["found"]
    parts = ", ".join(f"{count} × {kind}" for kind, count in found["parts"].items()) or "none of the faster parts"
    meaning = "A step of LoRA works, and peftlab's faster parts give the same loss as torch's own."
    return Finding("training", "ok", f"on {found['device']}: {parts}", meaning, found)
