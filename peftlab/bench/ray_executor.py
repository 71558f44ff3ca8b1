"""Runs of a suite as tasks of a Ray cluster.

A run is a task with its CPUs and its GPU. Ray starts it anew on another node when its own is lost. Its folder comes
back as bytes, and this process alone writes it into the suite's folder, the record last: so a record is there once and
whole, whatever is killed, and whether or not the machines share a file system.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from peftlab.bench.executor import Finished
from peftlab.bench.ray_cell import Parcel, forget_cell
from peftlab.bench.ray_cluster import Node, Share, Versions, living_nodes, version_reader
from peftlab.bench.worker import leave_record
from peftlab.core.errors import PeftlabError, first_line
from peftlab.core.files import delete_folder, write_text
from peftlab.core.record import RECIPE_NAME, RECORD_NAME, RunRecord, Status, read_record
from peftlab.core.reporter import Reporter
from peftlab.recipe.schema import Recipe

LOST_NODES = 3
"""A run that loses its node more often may be what ends the nodes."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_COUNTS = 5.0
FORGETTING_SECONDS = 30.0
"""A node that has not deleted what has arrived by then keeps it."""
STOPPING_SECONDS = 30.0
"""So long a run may take to end its step and keep a checkpoint."""
EMPTY_SECONDS = 600.0
"""So long a cluster may have no node that can take a run: new nodes take minutes to come."""


class RayExecutor:
    """Executes runs on the cluster that this process is connected to.

    Args:
        logs: Folder for what the runs' processes say.
        share: What each run is given.
        reporter: Is told of lost nodes.
        offline: Allow no network.
        program: What a node starts for each run, with the arguments of ``peftlab run``; None: ``peftlab run``.
    """

    def __init__(
        self,
        logs: Path,
        share: Share,
        *,
        reporter: Reporter,
        offline: bool = False,
        program: Sequence[str] | None = None,
    ) -> None:
        import ray

        self._logs, self._share, self._reporter = logs, share, reporter
        self._options = {
            "working_directory": str(Path.cwd()),
            "threads": share.cpus,
            "device": share.device,
            "offline": offline,
            "program": program,
        }
        self._versions = version_reader()()
        self._task = ray.remote(_entry()).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_retries=LOST_NODES, retry_exceptions=False
        )
        self._forget = ray.remote(forget_cell)
        self._running: set[Any] = set()
        self._lock = threading.Lock()
        self._nodes = _Nodes(share, reporter)
        self._stopped_at: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` has been called."""
        return self._stopped_at is not None

    def run(self, recipe: Recipe, folder: Path) -> Finished:
        """Execute a run on some node; it waits there until there is room.

        Args:
            recipe: Settled: with every value filled in.
            folder: The run's.

        Raises:
            KeyboardInterrupt: All runs were stopped.
            PeftlabError: A node could not start the run, or no node is left.
        """
        import ray

        started, started_at = time.monotonic(), datetime.datetime.now(datetime.UTC)
        values = recipe.model_dump(mode="json")
        with self._lock:
            if self.stopped:
                raise KeyboardInterrupt
            task = self._task.remote(self._versions, values, {"name": _name_on_nodes(folder), **self._options})
            self._running.add(task)
        try:
            node, parcel = self._wait(task)
        except _LostError as lost:
            record = RunRecord(
                name=recipe.name,
                status=lost.status,
                error=str(lost),
                recipe=values,
                started_at=started_at.isoformat(timespec="seconds"),
                seconds=time.monotonic() - started,
            )
            leave_record(record, folder)
            return Finished(record, record.seconds)
        finally:
            with self._lock:
                self._running.discard(task)
        write_text(self._logs / f"{folder.name}.txt", parcel.log)
        unpack(parcel, folder)
        with contextlib.suppress(ray.exceptions.RayError):
            options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": _only_on(node)}
            # Not waited for, the last one would be lost with this process's own connection.
            ray.wait([self._forget.options(**options).remote(parcel.kept_in)], timeout=FORGETTING_SECONDS)
        return Finished(read_record(folder), parcel.wall_seconds)

    def stop(self) -> None:
        """Ask all runs to leave a checkpoint and end; on the same nodes they go on from there."""
        import ray

        with self._lock:
            self._stopped_at = self._stopped_at or time.monotonic()
            for task in self._running:
                ray.cancel(task)

    def _wait(self, task: Any) -> tuple[str, Parcel]:
        """The node and what it has sent.

        Raises:
            _LostError: Ray has given the run up.
        """
        import ray

        while True:
            try:
                found: tuple[str, Parcel] = ray.get(task, timeout=SECONDS_BETWEEN_LOOKS)
            except ray.exceptions.GetTimeoutError:
                if self._stopped_at is not None and time.monotonic() - self._stopped_at > STOPPING_SECONDS:
                    raise KeyboardInterrupt from None
                self._nodes.watch()
            except ray.exceptions.TaskCancelledError:
                raise KeyboardInterrupt from None
            except ray.exceptions.RayTaskError as error:
                raise PeftlabError(
                    f"a node of the cluster could not start a run: {error.cause!r}", where="--executor ray"
                ) from None
            except ray.exceptions.OutOfMemoryError:
                raise _LostError("Ray has ended the run: its node's memory ran out", "out_of_memory") from None
            except ray.exceptions.RayError as error:
                told = first_line(error)
                raise _LostError(f"the run's node was lost {LOST_NODES + 1} times: {told}") from None
            else:
                return found


class _LostError(Exception):
    """Ray tries a run no more."""

    def __init__(self, message: str, status: Status = "failed") -> None:
        super().__init__(message)
        self.status = status


class _Nodes:
    """Looks now and then which nodes are there."""

    def __init__(self, share: Share, reporter: Reporter) -> None:
        self._share, self._reporter = share, reporter
        self._names = _names(living_nodes())
        self._looked_at = self._useful_at = time.monotonic()
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Tell of nodes that have gone or come.

        Raises:
            PeftlabError: For some time none that is left could take a run.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at < SECONDS_BETWEEN_COUNTS:
                return
            self._looked_at = now
            nodes = living_nodes()
            names = _names(nodes)
            for node in self._names.keys() - names.keys():
                self._reporter.say(f"node {self._names[node]} is lost; its runs start again on others")
            for node in names.keys() - self._names.keys():
                self._reporter.say(f"node {names[node]} has joined")
            self._names = names
            if any(self._share.times_on(node) for node in nodes):
                self._useful_at = now
        if now - self._useful_at > EMPTY_SECONDS:
            raise PeftlabError(
                f"for {EMPTY_SECONDS / 60:.0f} minutes no node of the cluster has had {self._share} for a run",
                where="--executor ray",
                hint="Start nodes; the same command goes on then.",
            )


def unpack(parcel: Parcel, folder: Path) -> None:
    """Write a run that has come from a node. The record comes last, so that it stands for all the rest.

    Raises:
        PeftlabError: A path would leave the folder.
    """
    delete_folder(folder)
    for name in sorted(parcel.files, key=lambda name: (name == RECORD_NAME, name != RECIPE_NAME, name)):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise PeftlabError(f"a node has sent the file `{name}`, which is outside the run's folder")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == RECORD_NAME:
            write_text(target, parcel.files[name].decode("utf-8"))
        else:
            target.write_bytes(parcel.files[name])


def _names(nodes: Sequence[Node]) -> dict[str, str]:
    return {node["NodeID"]: node["NodeName"] for node in nodes}


def _name_on_nodes(folder: Path) -> str:
    """Of a run: equal when the same command goes on, and for no other run."""
    place = hashlib.sha256(f"{socket.gethostname()}:{folder.resolve()}".encode()).hexdigest()
    return f"{folder.name}-{place[:16]}"


def _only_on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _entry() -> Callable[..., tuple[str, Parcel]]:
    """What a node executes first; see :func:`peftlab.bench.ray_cluster.version_reader` for its place in a function.

    Nodes that have joined later are looked at here.
    """
    read_versions = version_reader()

    def entry(expected: Versions, recipe: dict[str, Any], options: dict[str, Any]) -> tuple[str, Parcel]:
        import ray

        context = ray.get_runtime_context()
        found = read_versions()
        if any(found.get(package) != version for package, version in expected.items()):
            raise RuntimeError(f"node {context.get_node_id()} has {found} instead of {expected}")
        from peftlab.bench.ray_cell import run_cell

        return context.get_node_id(), run_cell(recipe, **options)

    return entry


__all__ = ["RayExecutor", "unpack"]
