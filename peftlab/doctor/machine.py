"""What can be looked at without torch: Python, packages, processors, memory, disk and caches."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from peftlab.core.amounts import short_size
from peftlab.core.files import cache_folder
from peftlab.core.installed import installed_version
from peftlab.core.plugins import plugin_versions
from peftlab.core.threads import Watch
from peftlab.doctor.finding import Finding, Status
from peftlab.estimate.target import system_memory

SHOWN = ("peftlab", "torch", "transformers", "peft")
"""Packages whose versions are told first."""
LITTLE_DISK = 10 * 10**9
LITTLE_MEMORY = 4 * 10**9


def look_at_python() -> Finding:
    """The interpreter and the system."""
    version, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    return Finding(
        "python",
        "ok",
        f"{version} on {system}, {sys.executable}",
        "peftlab runs on Python 3.11 and later.",
        {"version": version, "platform": system, "executable": sys.executable},
    )


def look_at_packages() -> Finding:
    """Whether the packages that peftlab needs are there, in versions that it is tested with."""
    versions: dict[str, str | None] = {"peftlab": installed_version("peftlab")}
    wrong: list[str] = []
    needed = _requirements()
    for text in needed:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        versions[requirement.name] = version = installed_version(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    if wrong:
        return Finding(
            "packages",
            "problem",
            "; ".join(wrong),
            "Runs may fail or give other results: pip install --upgrade peftlab.",
            {"versions": versions, "wrong": wrong},
        )
    for name in SHOWN:
        versions.setdefault(name, installed_version(name))
    shown = ", ".join(f"{name} {versions[name] or 'missing'}" for name in SHOWN)
    plugins = plugin_versions()
    shown += "; plugins: " + ", ".join(f"{name} {version}" for name, version in plugins.items()) if plugins else ""
    if not needed:
        meaning = "No list says which versions peftlab needs: it was not installed by pip. Try: pip install -e FOLDER."
        status: Status = "note" if all(versions[name] for name in SHOWN[1:]) else "problem"
        return Finding("packages", status, shown, meaning, {"versions": versions, "plugins": plugins})
    meaning = f"All {len(versions)} packages are of versions that peftlab is made for."
    return Finding("packages", "ok", shown, meaning, {"versions": versions, "plugins": plugins})


def look_at_cores() -> Finding:
    """How many cores are free just now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    free, reason = Watch().free_cores()
    values = {"cores": cores, "free": round(free, 1)}
    found = f"{cores} here, {free:.1f} of them free"
    if free < max(1, cores / 2):
        meaning = f"Others keep them busy ({reason}): runs take fewer threads and are slower; times vary."
        return Finding("cores", "note", found, meaning, values)
    return Finding("cores", "ok", found, "A run takes those that are free; --threads says how many.", values)


def look_at_memory() -> Finding:
    """The memory of the machine."""
    total = system_memory()
    if total is None:
        return Finding("memory", "note", "not known", "Give estimates a size: --memory 8GB.")
    meaning = "`peftlab estimate RECIPE` says whether a run fits."
    if total < LITTLE_MEMORY:
        meaning = "Little: choose a small model, or see docs/memory.md for what makes a run smaller."
    status: Status = "note" if total < LITTLE_MEMORY else "ok"
    return Finding("memory", status, f"{short_size(total)} for programs", meaning, {"memory_bytes": total})


def look_at_disk() -> Finding:
    """The room where runs are written."""
    free = shutil.disk_usage(Path.cwd()).free
    values = {"free_bytes": free}
    if free < LITTLE_DISK:
        meaning = "Little: checkpoints of a fully tuned model, and models of the Hub, may not fit."
        return Finding("disk", "note", f"{short_size(free)} free here", meaning, values)
    return Finding("disk", "ok", f"{short_size(free)} free here", "Enough for adapters and small models.", values)


def look_at_cache() -> Finding:
    """Whether peftlab can keep what it has fetched."""
    folder = cache_folder()
    values = {"folder": str(folder)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        meaning = "Models and data from packages cannot be fetched: set PEFTLAB_CACHE to a folder that can be written."
        return Finding("cache", "problem", f"{folder}: {error.strerror}", meaning, values)
    meaning = "Models and data from packages are kept here; PEFTLAB_CACHE names another folder."
    return Finding("cache", "ok", f"{folder}, {short_size(free)} free", meaning, {**values, "free_bytes": free})


def _requirements() -> list[str]:
    """What peftlab says that it needs; nothing where its files came without pip, which keeps that list."""
    try:
        return importlib.metadata.requires("peftlab") or []
    except importlib.metadata.PackageNotFoundError:
        return []
