"""A Ray cluster of several nodes on this machine, which listens on the loopback address alone."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"
STORE_BYTES = 80 * 2**20
VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""By the second, Ray keeps to the loopback address on Linux as it does elsewhere; it is read when ray is imported."""
os.environ.update(VARIABLES)


@contextlib.contextmanager
def loopback_cluster(*cpus: int) -> Iterator[Any]:
    """Start a cluster.

    Args:
        cpus: Of each node; the first is the head.

    Yields:
        Ray's own `Cluster`, which knows its nodes.
    """
    folder = Path(tempfile.mkdtemp(prefix="r-", dir="/tmp"))  # the paths of sockets must be short
    (folder / "ray").mkdir()
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = str(folder)
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for number in cpus:
            add_node(cluster, number)
        yield cluster
    finally:
        cluster.shutdown()
        os.environ.pop("RAY_TMPDIR")
        if before is not None:
            os.environ["RAY_TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def add_node(cluster: Any, cpus: int, **options: Any) -> Any:
    """One more node."""
    return cluster.add_node(
        node_ip_address=LOOPBACK, num_cpus=cpus, object_store_memory=STORE_BYTES, include_dashboard=False, **options
    )
