"""The environment of a run: versions, device, threads, commit. No user, host or path is named."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from peftlab.core.installed import installed_version
from peftlab.core.plugins import plugin_versions
from peftlab.core.threads import reason_for

PACKAGES = ("peftlab", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "tokenizers", "numpy")


def describe_environment(device: torch.device, *, deterministic: bool) -> dict[str, Any]:
    """What a reader needs to judge, or to repeat, a run.

    Args:
        device: Where it ran.
        deterministic: Whether it kept to kernels that give the same bits every time; on CPU all do.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": package_versions(),
        "device": _describe_device(device),
        "threads": torch.get_num_threads(),
        "threads_reason": reason_for(torch.get_num_threads()),
        "determinism": deterministic or device.type == "cpu",
        "tf32": _tf32() if device.type == "cuda" else None,
        **_commit(),
    }


def package_versions() -> dict[str, str | None]:
    """The versions of what decides over a run: the libraries, and all plugins that are installed."""
    return {**{name: installed_version(name) for name in PACKAGES}, **plugin_versions()}


def _tf32() -> dict[str, bool]:
    """Whether a card rounds what it multiplies in float32 to 10 bits; the program's own choice, which peftlab leaves.

    PyTorch's older settings show in these too; they raise an error where they are asked after one of these was set.
    """
    return {
        "products": torch.backends.cuda.matmul.fp32_precision == "tf32",
        "convolutions": torch.backends.cudnn.conv.fp32_precision == "tf32",  # type: ignore[attr-defined]
    }


def _describe_device(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {
            "type": "cuda",
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return {"type": device.type, "name": _cpu_name()}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: platform knows a name there
    return platform.processor() or platform.machine()


@functools.cache
def _commit() -> dict[str, Any]:
    """The commit of peftlab's own checkout, where it runs from one, as it was at this process's first record."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: a repository further up would be somebody else's
        return {"commit": None, "uncommitted_changes": None}
    commit, status = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--", "peftlab")
    return {"commit": commit, "uncommitted_changes": None if status is None else bool(status)}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        finished = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or a checkout that it does not trust
    return finished.stdout.strip()
