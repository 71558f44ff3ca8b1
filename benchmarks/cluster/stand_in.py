"""Stands in for `peftlab run` where only the executor is looked at: takes its time, and leaves a record.

    python stand_in.py SECONDS RECIPE --output-dir FOLDER …

Each start is a line in STARTS, where that variable is set. With FINISH_ONLY_IF_EXISTS the process waits for that file.
"""

import time

began = time.monotonic()

import argparse  # noqa: E402
import datetime  # noqa: E402
import os  # noqa: E402
from pathlib import Path  # noqa: E402

from peftlab.core.config import parse_yaml  # noqa: E402
from peftlab.core.record import RunRecord, write_record  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("seconds", type=float)
parser.add_argument("recipe", type=Path)
parser.add_argument("--output-dir", type=Path, required=True)
options, _ = parser.parse_known_args()
if "STARTS" in os.environ:
    with Path(os.environ["STARTS"]).open("a") as file:
        file.write(f"{options.output_dir.name}\n")
gate = os.environ.get("FINISH_ONLY_IF_EXISTS")
while time.monotonic() - began < options.seconds or (gate and not Path(gate).exists()):
    time.sleep(0.02)
recipe = parse_yaml(options.recipe.read_text(encoding="utf-8"), source=str(options.recipe)).values
record = RunRecord(
    name=recipe["name"],
    status="success",
    recipe=recipe,
    started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    seconds=time.monotonic() - began,
)
write_record(record, options.output_dir)
