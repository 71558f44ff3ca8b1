"""Batches made one step ahead, in a thread of their own, while the card computes.

To pad texts and to pin memory takes the host's time, in which a card has nothing to do. Only tasks whose ``collate``
draws no random numbers have their batches made ahead: the others' draws keep their place among the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from peftlab.acceleration.masks import look_at
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Task
from peftlab.training.steps import Step

Batch = dict[str, Tensor]
Make = Callable[[Sequence[Sequence[int]]], list[Batch]]
"""From the positions of the examples of each batch to the batches; the same whenever it is called."""
Part = Callable[[Sequence[Sequence[int]]], list[list[int]]]
"""From a step's batches to those that are computed at once."""


def collate(task: Task, split: EncodedSplit, pieces: Sequence[Sequence[int]], pad_token_id: int) -> list[Batch]:
    """The batches of some positions in a split."""
    return [task.collate([split.examples[position] for position in piece], pad_token_id) for piece in pieces]


def collates_ahead(task: Any) -> bool:
    """Whether a task's batches may be made ahead."""
    return says_of_its_collate(task, "collates_ahead")


def says_of_its_collate(task: Any, name: str, *others: str) -> bool:
    """Whether a task says something of its ``collate``: the class that says it has its own one, or a base's.

    Args:
        task: Any.
        name: What it says.
        others: Methods of which it holds too.
    """
    order = type(task).__mro__
    said = next((place for place, own in enumerate(order) if vars(own).get(name)), len(order))
    written = [
        next((place for place, own in enumerate(order) if method in vars(own)), -1) for method in ("collate", *others)
    ]
    return bool(getattr(task, name, False)) and all(said <= place for place in written)


class BatchesAhead:
    """Makes the batches of the next step while a step is computed.

    Who takes them says how they are made, since the steps may be those of another job than the one that this was made
    for: a head that trains alone has numbers of rows where the others have tokens.

    Args:
        pin: Whether they come in pinned memory, from which a card copies without the host.
    """

    def __init__(self, *, pin: bool) -> None:
        self._pin = pin
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._made: tuple[list[list[int]], Future[list[Batch]]] | None = None
        self._following: Step | None = None

    def steps(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The same steps; while one of them is computed, the batches of the next are made."""
        rest = iter(steps)
        step = next(rest, None)
        while step is not None:
            self._following = next(rest, None)
            yield step
            step = self._following

    def take(self, positions: list[list[int]], part: Part, make: Make) -> list[Batch]:
        """The batches of some positions, and a start on those of the next step.

        Args:
            positions: Of this step, parted.
            part: Parts the next one.
            make: Makes batches.
        """
        made, self._made = self._made, None
        batches = made[1].result() if made is not None and made[0] == positions else self._pinned(make, positions)
        if self._following is not None:
            following = part(self._following.batches)
            self._made = following, self._thread.submit(self._pinned, make, following)
        return batches

    def _pinned(self, make: Make, positions: list[list[int]]) -> list[Batch]:
        batches = make(positions)
        if not self._pin:
            return batches
        pinned = [{key: value.pin_memory() for key, value in batch.items()} for batch in batches]
        for batch in pinned:
            look_at(batch)
        return pinned

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
