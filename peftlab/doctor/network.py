"""Whether the Hugging Face Hub and pip's package index answer."""

from __future__ import annotations

import os
import subprocess

from peftlab.core.errors import PeftlabError
from peftlab.core.hub import prepare_hub
from peftlab.data.pip_download import pip_command
from peftlab.doctor.finding import Finding

SECONDS = 20.0


def look_at_hub(*, offline: bool) -> Finding:
    """The Hub, through its own library."""
    meaning = "Models and data sets can be named by their Hub ids."
    without = "Hub ids work where they are in the local cache; paths and pypi: addresses always do."
    if offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return Finding("hub", "ok", "not tried: the network is forbidden", without)
    if prepare_hub():
        return Finding("hub", "ok", "answers", meaning)
    return Finding("hub", "note", "does not answer", f"{without} Check the network, a proxy, or HF_ENDPOINT.")


def look_at_pip(*, offline: bool) -> Finding:
    """The package index, through the user's own pip with all its settings."""
    meaning = "pypi: addresses of models and data can be fetched."
    without = "pypi: addresses work where they are in the cache; paths always do."
    if offline:
        return Finding("pip", "ok", "not tried: the network is forbidden", without)
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        command = [*pip_command(), "index", "versions", "pip", "--no-input", "--retries", "0", "--timeout", "8"]
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except PeftlabError as error:
        return Finding("pip", "note", error.message, f"{without} {error.hint or ''}".strip())
    except (OSError, subprocess.TimeoutExpired):
        return Finding("pip", "note", f"no answer within {SECONDS:g} seconds", f"{without} Check `pip config list`.")
    if done.returncode == 0:
        return Finding("pip", "ok", "the package index answers", meaning)
    return Finding("pip", "note", "the package index does not answer", f"{without} Check `pip config list`.")
