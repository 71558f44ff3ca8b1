"""One of several processes: runs recipes one after the other, each in a world of its own.

Its argument is RUNS.json, a list of `{"recipe": …, "output_dir": …, "resume": …, "die": [rank, step] or null}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import peftlab
from peftlab.training import loop


def die_after(step: int) -> None:
    """Let this process be killed when it has done a step."""
    do = loop.optimizer_step

    def dying(job: Any, which: Any) -> Any:
        if which.number > step:
            os.kill(os.getpid(), signal.SIGKILL)
        return do(job, which)

    loop.optimizer_step = dying


def main() -> None:
    for run in json.loads(Path(sys.argv[1]).read_text()):
        if run.get("die") and run["die"][0] == int(os.environ.get("RANK", "0")):
            die_after(run["die"][1])
        result = peftlab.run_recipe(
            peftlab.Recipe.from_dict(run["recipe"]),
            output_dir=run["output_dir"],
            resume=run.get("resume", False),
            device="cpu",
        )
        print(run["output_dir"], result.record.status, result.record.error, flush=True)
