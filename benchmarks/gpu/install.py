"""Wheels from a folder, without an index, into a folder of their own that goes before the machine's packages."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

NEVER = ("torch", "triton", "nvidia-", "cuda-")
"""The machine's own torch stays, with what belongs to it."""
PIP = ("install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check")
ERROR_CHARACTERS = 400


def install_wheels(folder: Path, site: Path) -> dict[str, Any]:
    """Install the wheels that the machine lacks.

    Args:
        folder: Holds wheels; one that does not fit is left out and named.
        site: The folder to install into.

    Returns:
        What was installed, what the machine had, and what could not be installed, with the reason.
    """
    found: dict[str, Any] = {"installed": [], "already_here": [], "refused": {}}
    wheels = []
    for path in sorted(folder.glob("*.whl")):
        name, version = _name_and_version(path)
        if name.startswith(NEVER):
            found["refused"][path.name] = "the machine's own torch is used"
        elif _has(name, version):
            found["already_here"].append(f"{name} {version}")
        else:
            wheels.append(path)
    if not wheels:
        return found
    site.mkdir(parents=True, exist_ok=True)
    if _pip(wheels, site) is not None:
        # One of them does not fit, and pip then installs none: each by itself.
        for path in list(wheels):
            problem = _pip([path], site)
            if problem is not None:
                wheels.remove(path)
                found["refused"][path.name] = problem
    found["installed"] = ["{} {}".format(*_name_and_version(path)) for path in wheels]
    return found


def announce_peftlab(root: Path, site: Path) -> None:
    """Let a checkout that nobody has installed be found by its version, as an installed one is."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = site / f"{project['name']}-{project['version']}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")


def _name_and_version(wheel: Path) -> tuple[str, str]:
    name, _, rest = wheel.stem.partition("-")
    return re.sub(r"[-_.]+", "-", name).lower(), rest.partition("-")[0]


def _has(name: str, version: str) -> bool:
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def _pip(wheels: list[Path], site: Path) -> str | None:
    """Install; the reason if that did not work."""
    command = [sys.executable, "-m", "pip", *PIP, "--upgrade", "--target", str(site), *map(str, wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()
    return " ".join(errors)[-ERROR_CHARACTERS:] or f"pip ended with {done.returncode}"
