"""A Ray cluster that somebody has started: reach it, see that its nodes can take runs, and what a run is given.

peftlab starts no cluster: Ray has its own means for that on every kind of machine (docs/suites_on_ray.md).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.core.devices import check_device_name
from peftlab.core.errors import UserError
from peftlab.core.plugins import PREFIX

ADDRESS_VARIABLE = "RAY_ADDRESS"
USAGE_VARIABLE = "RAY_USAGE_STATS_ENABLED"
MEMORY_VARIABLE = "RAY_task_oom_retries"
MEMORY_RETRIES = 2
"""Ray ends runs where a node's memory runs low. By itself it would start them again and again, without end."""
PORT_SECONDS = 5.0
CONNECTION_SECONDS = 60.0
NODE_SECONDS = 60.0
"""A node has so long to start its first process and answer."""
PACKAGES = ("peftlab", "peft", "torch", "transformers")
"""Scores of other versions of these, or of plugins, are no part of the same comparison."""
_TRY = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')"

Node = Mapping[str, Any]
"""As ``ray.nodes()`` describes it."""
Versions = dict[str, str | None]
"""By package; None: it is not installed."""


@dataclass(frozen=True)
class Share:
    """What each run is given.

    Args:
        cpus: CPUs of one node, and the run's threads.
        gpus: 0 or 1.
    """

    cpus: int
    gpus: int

    @property
    def device(self) -> str:
        """As ``--device`` names it. Ray chooses the card, which is then the only one that the run sees."""
        return "cuda" if self.gpus else "cpu"

    def times_on(self, node: Node) -> int:
        """How many runs a node can take at once."""
        there = node["Resources"]
        fits = [int(there.get("CPU", 0) // self.cpus)]
        return min([*fits, int(there.get("GPU", 0) // self.gpus)] if self.gpus else fits)

    def __str__(self) -> str:
        return f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}" + (" and a GPU" if self.gpus else "")


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be a driver of a cluster.

    Args:
        address: ``HOST:PORT`` of its head, or ``auto``: the cluster that this machine is a node of. None: what the
            variable RAY_ADDRESS says.

    Raises:
        UserError: Ray is not installed, there is no address, or no cluster can be reached there.
    """
    os.environ.setdefault(USAGE_VARIABLE, "0")
    os.environ.setdefault(MEMORY_VARIABLE, str(MEMORY_RETRIES))
    try:
        import ray
    except ImportError:
        raise UserError(
            "suites on several machines need the package ray",
            where="--executor ray",
            hint="pip install 'peftlab[ray]', on every machine",
        ) from None
    address = address or os.environ.get(ADDRESS_VARIABLE)
    if not address:
        raise UserError(
            "no Ray cluster is named",
            where="--executor ray",
            hint="Write --address HOST:PORT, or --address auto on a machine where `ray start` has run. "
            "For this machine alone: --executor local.",
        )
    _refuse_unreachable(address)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Ray ends the process that finds no cluster, or waits for minutes: so another process tries first."""
    where = f"--address {address}"
    if address.startswith("ray://"):
        raise UserError(
            "this is an address for Ray's client, and `bench` must run on a node of the cluster",
            where=where,
            hint="Log in to a node and write HOST:PORT or auto, or send the command there with `ray job submit`.",
        )
    if address != "auto":
        _refuse_closed_port(address, where)
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRY, address], capture_output=True, text=True, timeout=CONNECTION_SECONDS
        )
        said = tried.stderr.strip().splitlines()
        problem = None if tried.returncode == 0 else (said[-1] if said else f"exit code {tried.returncode}")
    except subprocess.TimeoutExpired:
        problem = f"no answer within {CONNECTION_SECONDS:.0f} s"
    if problem is not None:
        raise UserError(
            f"there is no Ray cluster that this machine can use: {problem}",
            where=where,
            hint="Is Ray running there, with the same version, and is this machine one of its nodes (`ray start`)?",
        )


def _refuse_closed_port(address: str, where: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UserError("this is no address", where=where, hint="Write HOST:PORT, such as 10.0.0.1:6379, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PORT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"nothing answers there: {error.strerror or error}",
            where=where,
            hint="Start Ray (`ray start --head`), or correct the address: `ray status` on the head shows it.",
        ) from None


def living_nodes() -> list[Node]:
    """The nodes of the cluster that are there now."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def choose_share(nodes: Sequence[Node], *, device: str, threads: int | None) -> Share:
    """What each run gets of a node.

    Args:
        nodes: Of the cluster.
        device: ``auto``: a GPU where the cluster has any; ``cpu``; or ``cuda``.
        threads: CPUs of a run. None: a GPU's part of the smallest node that has one, or all of the smallest node, so
            that runs do not disturb each other's timings.

    Raises:
        UserError: No node has that much, or the device is a certain card.
    """
    check_device_name(device)
    where = f"--device {device}"
    if ":" in device:
        raise UserError("on Ray the cluster chooses the card", where=where, hint="Write cuda.")
    with_gpu = [node for node in nodes if node["Resources"].get("GPU", 0) >= 1]
    if device == "cuda" and not with_gpu:
        raise UserError("no node of the cluster has a GPU", where=where, hint="Write cpu.")
    gpus = int(device != "cpu" and bool(with_gpu))
    useful = with_gpu if gpus else nodes
    if threads is None:
        parts = [node["Resources"].get("CPU", 0) / (node["Resources"]["GPU"] if gpus else 1) for node in useful]
        threads = max(1, int(min((part for part in parts if part >= 1), default=1)))
    share = Share(threads, gpus)
    if not any(share.times_on(node) for node in useful):
        most = max((int(node["Resources"].get("CPU", 0)) for node in useful), default=0)
        raise UserError(
            f"no node has {share} for a run; the largest has {most}", where="--threads", hint="Write fewer --threads."
        )
    return share


def version_reader() -> Callable[[], Versions]:
    """A function that reads the versions of what decides over scores, plugins among it; None: not installed.

    Build tags are left out.

    It is made here, since Ray sends a function of a module by its name, which a node without peftlab would not know.
    """

    def read_versions() -> Versions:
        from importlib.metadata import PackageNotFoundError, entry_points, version

        announced = entry_points()
        found: Versions = {
            each.dist.metadata["Name"]: each.dist.version.partition("+")[0]
            for group in announced.groups
            if group.startswith(PREFIX)
            for each in announced.select(group=group)
            if each.dist is not None
        }
        for package in PACKAGES:
            try:
                found[package] = version(package).partition("+")[0]
            except PackageNotFoundError:
                found[package] = None
        return found

    return read_versions


def check_nodes(nodes: Sequence[Node]) -> None:
    """Refuse a cluster where a node has other packages than this machine.

    Raises:
        UserError: With all such nodes, and those that do not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    read_versions = version_reader()
    here, task = read_versions(), ray.remote(read_versions)
    asked = {
        task.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(): node["NodeName"]
        for node in nodes
    }
    done, silent = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS)
    problems = [f"{asked[ref]} does not answer within {NODE_SECONDS:.0f} s" for ref in silent]
    for ref in done:
        with contextlib.suppress(ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):  # it is gone
            problem = differing_versions(ray.get(ref), here)
            problems += [f"{asked[ref]} has {problem}"] if problem else []
    if problems:
        raise UserError(
            f"nodes of the cluster cannot take runs: {'; '.join(sorted(problems))}",
            where="--executor ray",
            hint="Install the same versions on every node, in the environment that its `ray start` runs in.",
        )


def differing_versions(there: Versions, here: Versions) -> str | None:
    """What another node has that this one has not, in words; None: they are the same."""
    words = [
        f"{package} {there[package]} instead of {version}" if there.get(package) else f"no {package}"
        for package, version in here.items()
        if there.get(package) != version
    ]
    return ", ".join(words) or None
