"""64 cells of 10 s on two Ray nodes of this machine: the wall time against the ideal, also when a node is killed.

    python benchmarks/cluster/suite_on_nodes.py [--cells 64] [--seconds 10] [--slots 2] [--kill-after SECONDS]

All is as in `peftlab bench --executor ray`, but each cell's process is `stand_in.py`, which sleeps for ten seconds: the
cells of two nodes share this machine's cores here, so that real runs would slow each other down.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from loopback import loopback_cluster

from peftlab.bench.execute import Execution
from peftlab.bench.plan import Plan
from peftlab.bench.ray_cluster import Share, check_nodes, connected, living_nodes
from peftlab.bench.ray_executor import RayExecutor
from peftlab.bench.suite import load_suite
from peftlab.bench.suite_folder import SuiteFolder
from peftlab.core.record import read_record
from peftlab.core.reporter import Silent

RECIPE = """\
model: {from_config: {model_type: gpt2, n_layer: 1, n_head: 1, n_embd: 8, n_positions: 256}}
task: {type: turing_machine, machine_count: 64, tape_length: 4, train_runs: 64, validation_runs: 8, test_runs: 8}
method: {type: full}
training: {epochs: 1, batch_size: 32}
"""
STAND_IN = Path(__file__).with_name("stand_in.py")


def write_suite_of(cells: int, folder: Path) -> Path:
    """A suite with as many cells as seeds."""
    (folder / "recipe.yaml").write_text(RECIPE)
    suite = folder / "suite.yaml"
    seeds = list(range(cells))
    suite.write_text(f"name: cells\nrecipe: recipe.yaml\nmethods: [{{type: full}}]\nseeds: {seeds}\ntuning: null\n")
    return suite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--slots", type=int, default=2, help="cells that a node runs at once")
    parser.add_argument("--kill-after", type=float, help="kill the second node after so many seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PEFTLAB_CACHE"] = str(folder / "cache")  # of the nodes too
        measure(options, folder)


def measure(options: argparse.Namespace, folder: Path) -> None:
    with loopback_cluster(options.slots, options.slots) as cluster:
        plan = Plan(
            *load_suite(write_suite_of(options.cells, folder)),
            SuiteFolder(folder / "out"),
            offline=True,
            reporter=Silent(),
        )
        with connected(cluster.address):
            check_nodes(living_nodes())
            executor = RayExecutor(
                plan.folder.logs,
                Share(cpus=1, gpus=0),
                reporter=Silent(),
                program=(sys.executable, str(STAND_IN), str(options.seconds)),
            )
            node = next(node for node in cluster.list_all_nodes() if not node.head)
            if options.kill_after:
                killer = threading.Timer(options.kill_after, lambda: cluster.remove_node(node, allow_graceful=False))
                killer.start()
            started = time.monotonic()
            outcome = Execution(plan, executor, workers=options.cells, retry_failed=False, reporter=Silent()).execute()
            wall = time.monotonic() - started
        records = [read_record(path.parent) for path in plan.folder.cells.glob("*/record.json")]
        copies = collections.Counter(record.recipe["seed"] for record in records)
        work, both = options.cells * options.seconds, 2 * options.slots
        before = options.kill_after or work / both
        ideal = before + (work - before * both) / options.slots
        result = {
            "cells": options.cells,
            "statuses": outcome.statuses,
            "records": len(records),
            "cells_with_a_record": len(copies),
            "folders": len(list(plan.folder.cells.iterdir())),
            "wall_seconds": round(wall, 1),
            "ideal_seconds": ideal,
            "ratio": round(wall / ideal, 3),
            "killed_after_seconds": options.kill_after,
        }
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
