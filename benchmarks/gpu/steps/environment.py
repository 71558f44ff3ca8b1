"""What the machine is, and what it can do: driver, card, versions, matmul rates, copy bandwidth.

It needs torch alone, so that it also tells which packages are missing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.datasheet import find_card
from benchmarks.gpu.steps.step import Findings, run_step

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"
QUERY = "name,driver_version,memory.total,power.limit,clocks.sm,clocks.max.sm,temperature.gpu"
REPETITIONS = 20


def main(findings: Findings) -> None:
    """Note all of it."""
    on_cuda = findings.device == "cuda"
    findings.note("has_cuda", torch.cuda.is_available())
    findings.note("python", platform.python_version())
    findings.note("platform", f"{platform.system()} {platform.release()} {platform.machine()}")
    findings.note("cores", os.cpu_count())
    findings.note("versions", {**versions(), "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()})
    findings.note("requirements_not_met", requirements_not_met())
    if on_cuda:
        findings.note("driver", driver())
        if not torch.cuda.is_available():
            findings.fail("there is no CUDA device: torch does not see one")
            return
        findings.note("card", card())
    device = torch.device(findings.device)
    size = 8192 if on_cuda else 512
    findings.note("matmul_size", size)
    findings.note("matmul_flops_per_second", matmul_rates(device, size, on_cuda=on_cuda))
    findings.note("copy_bytes_per_second", copy_rates(device, (1 << 32) if on_cuda else (1 << 26), on_cuda=on_cuda))
    findings.line = line(findings.results)


def line(found: dict[str, Any]) -> str:
    """The result in a line."""
    rates = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in found["matmul_flops_per_second"].items())
    missing = found["requirements_not_met"]
    unmet = "; not as peftlab asks: " + ", ".join(f"{text} ({own})" for text, own in missing.items()) if missing else ""
    return f"{found.get('card', {}).get('name', 'cpu')}: {rates}{unmet}"


def versions() -> dict[str, str | None]:
    """Of what results depend on."""
    names = ("torch", "triton", "transformers", "tokenizers", "peft", "accelerate", "bitsandbytes", "datasets", "numpy")
    return {name: version(name) for name in names}


def version(name: str) -> str | None:
    """Of a package; None where it is missing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements_not_met() -> dict[str, str]:
    """What peftlab asks for and this machine lacks, or has in another version."""
    wanted = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    found = {}
    for text in wanted:
        name = re.match(r"[\w.-]+", text)[0]
        own = version(name)
        if own is None:
            found[text] = "missing"
        elif not fits(text, own):
            found[text] = own
    return found


def fits(requirement: str, own: str) -> bool:
    """Whether a version is one that is asked for; without `packaging` nobody can tell."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return Requirement(requirement).specifier.contains(own, prereleases=True)


def driver() -> dict[str, str] | str:
    """What the driver says of the first card."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer: {error}"
    values = done.stdout.splitlines()[0].split(", ") if done.stdout.strip() else []
    return dict(zip(QUERY.split(","), values, strict=False))


def card() -> dict[str, Any]:
    """The first card, and what its datasheet says."""
    properties = torch.cuda.get_device_properties(0)
    known = find_card(properties.name)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "free_bytes": torch.cuda.mem_get_info(0)[0],
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "has_bfloat16": torch.cuda.is_bf16_supported(including_emulation=False),
        "datasheet": None if known is None else known.to_json(),
    }


def matmul_rates(device: torch.device, size: int, *, on_cuda: bool) -> dict[str, float]:
    """FLOP/s of a large square product of random matrices, the median of twenty, by type."""
    kinds = {"float32": (torch.float32, "highest")}
    if on_cuda:
        kinds |= {"tf32": (torch.float32, "high"), "float16": (torch.float16, "highest")}
        if torch.cuda.is_bf16_supported(including_emulation=False):
            kinds |= {"bfloat16": (torch.bfloat16, "highest")}
    rates = {}
    for name, (dtype, precision) in kinds.items():
        torch.set_float32_matmul_precision(precision)
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        rates[name] = 2 * size**3 / median_seconds(lambda a=left, b=right: a @ b, device)
    torch.set_float32_matmul_precision("highest")
    return rates


def copy_rates(device: torch.device, count: int, *, on_cuda: bool) -> dict[str, float]:
    """Bytes per second, read and written, of a copy within the device, and of copies to it and back."""
    if on_cuda:
        count = min(count, torch.cuda.mem_get_info(0)[0] // 4)
    source = torch.randint(256, (count // 8,), dtype=torch.int64, device=device)
    target = torch.empty_like(source)
    rates = {"within_device": 2 * source.nbytes / median_seconds(lambda: target.copy_(source), device)}
    if on_cuda:
        part = source[: (1 << 28) // 8]
        host = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
        rates["to_host"] = part.nbytes / median_seconds(lambda: host.copy_(part), device)
        rates["from_host"] = part.nbytes / median_seconds(lambda: part.copy_(host), device)
    return rates


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of twenty, after three that do not count; on CUDA by events, so that the host's clock plays no part."""
    for _ in range(3):
        work()
    seconds = []
    for _ in range(REPETITIONS):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            seconds.append(begin.elapsed_time(end) / 1000)
        else:
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2]


if __name__ == "__main__":
    run_step(main)
