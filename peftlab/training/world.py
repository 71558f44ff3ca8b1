"""The world of a run: one process, or several that do one step together.

The loop and the stages ask one object. A world of one process, which is the default, answers each question with what it
is given; :class:`peftlab.training.processes.Processes` asks the others first. All processes ask the same questions in
the same order, else they wait for each other: what one process may find alone, such as that memory has run out, is put
to all before anybody acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from torch import Tensor, nn

Item = TypeVar("Item")
Value = TypeVar("Value")


class World:
    """One process.

    Attributes:
        rank: The number of this process, from 0. The first one tells the user, and writes the run's files.
        size: How many there are.
        backend: By what they exchange tensors; None: there is nobody to exchange them with.
        has_own_draws: Whether a process has drawn random numbers in a step that another count would draw otherwise.
    """

    rank: int = 0
    size: int = 1
    backend: str | None = None
    has_own_draws: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process tells and writes."""
        return self.rank == 0

    def share(self, batches: Sequence[Sequence[int]], rank: int | None = None) -> list[list[int]]:
        """This process's part of each batch, without those of which it gets nothing.

        The first process gets most where a batch does not part evenly, and always something.

        Args:
            batches: Positions of the examples of each batch of a step.
            rank: Of another process; None: of this one.
        """
        own = self.rank if rank is None else rank
        parts = []
        for batch in batches:
            even, rest = divmod(len(batch), self.size)
            start = own * even + min(own, rest)
            parts.append(list(batch[start : start + even + (own < rest)]))
        return [part for part in parts if part]

    def sum(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes."""
        return list(numbers)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Let every process have the sum of all processes' gradients, and of their losses, which is returned.

        A parameter that has a gradient in no process keeps none.
        """
        return loss

    def map(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterator[Value]:
        """What a function gives for each item, in their order; the processes take turns, and all get all results."""
        return map(function, items)

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, by rank."""
        return [value]

    def first(self, function: Callable[[], Value]) -> Value:
        """What the first process finds: it alone calls the function, and all get the result."""
        return function()

    def own_draws(self, step: int) -> AbstractContextManager[Any]:
        """While a step's batches are made and computed, each process draws random numbers of its own."""
        return nullcontext()

    def ended_by(self, error: BaseException) -> BaseException:
        """Let all end, because one has failed; what the run has ended by: this error, or that of another process."""
        return error
