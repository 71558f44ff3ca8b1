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

import torch
from torch import Tensor, nn

from peftlab.core.tensors import is_part

Item = TypeVar("Item")
Value = TypeVar("Value")

PIECE = 1 << 25
"""Numbers that are exchanged at once; so many more a process holds meanwhile."""


class World:
    """One process.

    Attributes:
        rank: The number of this process, from 0. The first one tells the user, and writes the run's files.
        size: How many there are.
        backend: By what they exchange tensors; None: there is nobody to exchange them with.
        has_own_draws: Whether a process has drawn random numbers in a step that another count would draw otherwise.
        keeps_pace: Whether all processes must do as many forward and backward passes as each other: a model in parts
            exchanges something in each of them. Then who has nothing to do computes what counts for nothing.
        leave_record: Leaves a record of a run that ends by an error; for a process that has to be ended from outside,
            since it waits for its card. None: no run is on.
    """

    rank: int = 0
    size: int = 1
    backend: str | None = None
    has_own_draws: bool = False
    keeps_pace: bool = False
    leave_record: Callable[[BaseException], object] | None = None

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
        return share(batches, self.rank if rank is None else rank, self.size)

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

    def map(
        self, function: Callable[[Item], Value], items: Sequence[Item], *, passes_vary: bool = False
    ) -> Iterator[Value]:
        """What a function gives for each item, in their order; the processes take turns, and all get all results.

        Args:
            function: Computes with the model.
            items: The same in all processes.
            passes_vary: Whether items take different numbers of passes, as texts do that are written word by word.
        """
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

    def note_record(self) -> None:
        """The run's record is there; if it has failed, this process has ended by itself, however long it stays."""
        self.leave_record = None

    def new_group(self) -> Any:
        """Torch's group of these processes for what is exchanged within a pass; there is none of one process."""
        raise NotImplementedError

    def ended_by(self, error: BaseException) -> BaseException:
        """Let all end, because one has failed; what the run has ended by: this error, or that of another process."""
        return error


class WorldOnPaper(World):
    """One of several processes that are not there, for estimates: it takes the memory that the exchange would take.

    Args:
        size: How many there would be.
    """

    def __init__(self, size: int, *, keeps_pace: bool = False) -> None:
        self.size, self.keeps_pace = size, keeps_pace

    def share(self, batches: Sequence[Sequence[int]], rank: int | None = None) -> list[list[int]]:
        """The batches as they are: an estimate is given one process's part."""
        return [list(batch) for batch in batches]

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Hold what would be exchanged at once."""
        for piece in pieces_of(
            [parameter.grad for parameter in whole_in_each(parameters) if parameter.grad is not None]
        ):
            torch.cat([tensor.reshape(-1) for tensor in piece])
        return loss


def share(batches: Sequence[Sequence[int]], rank: int, size: int) -> list[list[int]]:
    """One process's part of each batch; see :meth:`World.share`."""
    parts = []
    for batch in batches:
        even, rest = divmod(len(batch), size)
        start = rank * even + min(rank, rest)
        parts.append(list(batch[start : start + even + (rank < rest)]))
    return [part for part in parts if part]


def whole_in_each(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Those that each process holds whole; the gradients of others, which are in parts, are added up as they come."""
    return [parameter for parameter in parameters if not is_part(parameter)]


def pieces_of(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type and place, in their order, so many that they are exchanged at once."""
    by_kind: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        by_kind.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in by_kind.values():
        piece, count = list[Tensor](), 0
        for tensor in group:
            if piece and count + tensor.numel() > PIECE:
                yield piece
                piece, count = [], 0
            piece.append(tensor)
            count += tensor.numel()
        yield piece
