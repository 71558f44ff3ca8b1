"""``--executor``: where the runs of a suite are executed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from peftlab.cli.computing import start_computing
from peftlab.core.amounts import plural
from peftlab.core.errors import UserError
from peftlab.core.reporter import Reporter

if TYPE_CHECKING:
    from peftlab.bench.executor import Executor

MOST_WAITING = 256
"""So many runs wait for a node at once, where no number is given: a cluster that grows by itself goes by them."""


ExecutorName = Literal["local", "ray"]


@dataclass(frozen=True)
class Site:
    """A place for runs.

    Args:
        at_once: How many runs it has room for.
        workers: How many runs are asked for at once, at most.
        build: Makes the executor; it takes the folder for what the runs' processes say.
    """

    at_once: int
    workers: int
    build: Callable[[Path], Executor]


@dataclass(frozen=True)
class Wishes:
    """Options of the verb.

    Args:
        device: As ``--device`` takes it.
        threads: Of all runs on this machine together; of each run on a cluster. None: see the options.
        workers: How many runs at once; None: one on this machine, what there is room for on a cluster.
        offline: Allow no network.
    """

    device: str
    threads: int | None
    workers: int | None
    offline: bool


@contextlib.contextmanager
def executor_site(name: ExecutorName, address: str | None, wishes: Wishes, reporter: Reporter) -> Iterator[Site]:
    """The place that the options name, for as long as the block lasts.

    Raises:
        UserError: The options do not fit together, or the cluster cannot be used.
    """
    if name == "ray":
        with _ray_cluster(address, wishes, reporter) as site:
            yield site
        return
    if address is not None:
        raise UserError("an address is of use on Ray alone", where="--address", hint="Add --executor ray.")
    yield _this_machine(wishes, reporter)


def _this_machine(wishes: Wishes, reporter: Reporter) -> Site:
    workers = wishes.workers or 1

    def build(logs: Path) -> Executor:
        import torch

        from peftlab.bench.worker import Worker, cards_for

        start_computing(wishes.device, wishes.threads, reporter.say)
        cards = cards_for(workers, wishes.device, reporter.say)
        threads = max(1, torch.get_num_threads() // workers)
        return Worker(logs, threads=threads, device=wishes.device, offline=wishes.offline, cards=cards)

    return Site(workers, workers, build)


@contextlib.contextmanager
def _ray_cluster(address: str | None, wishes: Wishes, reporter: Reporter) -> Iterator[Site]:
    from peftlab.bench.ray_cluster import check_nodes, choose_share, connected, living_nodes

    with connected(address):
        nodes = living_nodes()
        share = choose_share(nodes, device=wishes.device, threads=wishes.threads)
        check_nodes(nodes)
        room = sum(share.times_on(node) for node in nodes)
        reporter.say(f"on {plural(len(nodes), 'node')} of a Ray cluster: {share} for each run, {room} at once")

        def build(logs: Path) -> Executor:
            from peftlab.bench.ray_executor import RayExecutor

            return RayExecutor(logs, share, reporter=reporter, offline=wishes.offline)

        yield Site(min(room, wishes.workers or room), wishes.workers or MOST_WAITING, build)
