"""Several processes as one world: torch.distributed exchanges tensors, a store tells who is alive.

Gradients are added up once a step, after its last backward pass: those of adapters are small, and neither the model nor
its hooks need to know. Decisions go by gloo, on CPU, also where NCCL moves the gradients: no card is waited for.

A process waits for others in short pieces. Between them it looks at what :class:`Watch` has heard, so that a process
that was killed, or a link that was cut, ends the run instead of hanging it. While it waits for its card, and this one
for another card, it cannot look: then the thread of :class:`Watch` tells why, leaves the record, and ends the process.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from peftlab.core.errors import PeftlabError, RunFailedError, UserError
from peftlab.core.generators import generator_states, restore_generators
from peftlab.core.reporter import tell
from peftlab.training.micro_batches import is_out_of_memory
from peftlab.training.sealing import seal, unseal
from peftlab.training.watch import PATIENCE, LostProcessError, Watch, portable
from peftlab.training.world import Item, Value, World, pieces_of, whole_in_each

WAIT = datetime.timedelta(seconds=0.5)
"""For so long a process waits for others before it looks whether they are alive."""


class Processes(World):
    """This process and the others, whose group torch.distributed has set up.

    Args:
        rank: Of this process.
        size: How many there are.
        watch: Knows who is alive.

    Attributes:
        is_over: Whether an error has ended it; nothing can be exchanged any more.
    """

    def __init__(self, rank: int, size: int, watch: Watch) -> None:
        self.rank, self.size, self._watch = rank, size, watch
        self.is_over = False
        self.backend = "nccl" if "nccl" in str(dist.get_backend_config()) else "gloo"
        if self.backend == "nccl":
            watch.give_up = self._give_up

    def sum(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes."""
        values = torch.tensor(numbers, dtype=torch.float64)
        self._wait_for(lambda: dist.all_reduce(values, async_op=True))
        return values.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return self.sum(float(flag))[0] > 0

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Add up all gradients, and the loss, in pieces of one type."""
        parameters = whole_in_each(parameters)
        present = self.sum(*(float(parameter.grad is not None) for parameter in parameters)) if parameters else []
        tensors = [loss]
        for parameter, count in zip(parameters, present, strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            tensors.append(parameter.grad)
        for piece in pieces_of(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in piece])
            self._wait_for(partial(dist.all_reduce, flat, async_op=True), on_card=flat.is_cuda)
            parts = torch.split(flat, [tensor.numel() for tensor in piece])
            for tensor, part in zip(piece, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))
        return loss

    def map(
        self, function: Callable[[Item], Value], items: Sequence[Item], *, passes_vary: bool = False
    ) -> Iterator[Value]:
        """Each process computes every so-manieth item; after each round all have its results.

        Where they keep pace, one that has no item computes the round's first. Items that take different numbers of
        passes are then computed by all alike. What one run failed by, such as logits that are no numbers, is raised
        in all: who goes on from there, does so with the others.
        """
        if self.keeps_pace and passes_vary:
            for item in items:
                value = function(item)
                yield self.first(partial(_same, value))
            return
        for start in range(0, len(items), self.size):
            own = items[start + self.rank : start + self.rank + 1]
            found, error = _outcome_of(partial(self._computed, function, own, items[start]))
            for rank, (values, theirs) in enumerate(self.gather((found or [], error))):
                if theirs is not None:
                    raise error if rank == self.rank and error is not None else theirs
                yield from values

    def _computed(self, function: Callable[[Item], Value], own: Sequence[Item], other: Item) -> list[Value]:
        if not own and self.keeps_pace:
            function(other)
        return [function(item) for item in own]

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, by rank. It travels as a sealed pickle."""
        data = torch.frombuffer(bytearray(seal(value)), dtype=torch.uint8)
        sizes = [int(size) for size in self.sum(*(len(data) * (rank == self.rank) for rank in range(self.size)))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(data)] = data
        found = [torch.empty_like(padded) for _ in sizes]
        self._wait_for(lambda: dist.all_gather(found, padded, async_op=True))
        return [unseal(tensor[:size].numpy().tobytes()) for tensor, size in zip(found, sizes, strict=True)]

    def first(self, function: Callable[[], Value]) -> Value:
        """What the first process finds; what its run failed by is raised in all."""
        data, error = torch.empty(0, dtype=torch.uint8), None
        if self.is_first:
            own, error = _outcome_of(function)
            data = torch.frombuffer(bytearray(seal((own, error))), dtype=torch.uint8)
        (size,) = self.sum(len(data))
        if not self.is_first:
            data = torch.empty(int(size), dtype=torch.uint8)
        self._wait_for(lambda: dist.broadcast(data, src=0, async_op=True))
        found, theirs = unseal(data.numpy().tobytes())
        if theirs is not None:
            raise error or theirs
        value: Value = found
        return value

    @contextlib.contextmanager
    def own_draws(self, step: int) -> Iterator[None]:
        """Draw from the seed, the step and the rank; afterwards all generators are where they were, in all processes.

        So what is drawn outside, as by a hook after a step, stays the same in all of them.
        """
        common = generator_states()
        seed = hashlib.sha256(f"{torch.initial_seed()} {step} {self.rank}".encode()).digest()
        torch.manual_seed(int.from_bytes(seed[:7], "big"))
        before = generator_states()
        try:
            yield
            self.has_own_draws |= any(
                not torch.equal(state, before[name]) for name, state in generator_states().items()
            )
        finally:
            restore_generators(common)

    def note_record(self) -> None:
        """The run's record is there."""
        super().note_record()
        if self.is_over:
            self._watch.give_up = None

    def new_group(self) -> Any:
        """A group of all; what nobody watches is given up after the time that a process may be silent.

        NCCL ends the process then, without a word. So it comes after the watch, which has some.
        """
        own = datetime.timedelta(seconds=2 * PATIENCE if self.backend == "nccl" else 0)
        return dist.new_group(timeout=self._watch.timeout + own)

    def ended_by(self, error: BaseException) -> BaseException:
        """Tell the others of an error of this process; where it has failed for lack of another, find out why."""
        if self.is_over:
            return error  # they have been told
        self.is_over = True
        if self.keeps_pace and _is_of_exchange(error):
            error = self._watch.loss(error)
        if isinstance(error, LostProcessError):
            self._watch.say_ended(None)
            return error.__cause__ if error.__cause__ is not None else error
        self._watch.say_ended(error)
        return error

    def _give_up(self, error: BaseException) -> None:
        """End this process, which waits for its card: in the thread of the watch."""
        cause = error.__cause__ or error
        if self.is_first:
            tell(f"Error: {cause}")
            tell("  This process waited for its card, and the card for another process; so it has been ended.")
        try:
            if self.leave_record is not None and not isinstance(cause, UserError):
                self.leave_record(cause)
        finally:
            os._exit(cause.exit_code if isinstance(cause, PeftlabError) else 1)

    def _wait_for(self, begin: Callable[[], Any], *, on_card: bool = False) -> None:
        """Exchange something, and wait until it has happened; what a card exchanges, its next work waits for."""
        try:
            work = begin()
            if on_card:
                work.wait()
                return
            while not self._is_done(work):
                self._watch.check()
        except LostProcessError:
            raise
        except RuntimeError as error:  # gloo says that a connection was closed, and not whose
            if is_out_of_memory(error):
                raise
            raise self._watch.loss(error) from None

    @staticmethod
    def _is_done(work: Any) -> bool:
        try:
            work.wait(WAIT)
        except RuntimeError as error:
            if "timed out" not in str(error).lower():
                raise
            return False
        return True


def _is_of_exchange(error: BaseException) -> bool:
    """Whether an exchange within a pass, which nobody watches, has failed."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in ("gloo", "nccl", "timed out"))


def _outcome_of(function: Callable[[], Value]) -> tuple[Value | None, RunFailedError | None]:
    """What a function gives, or what its run failed by; what else it raises ends the processes."""
    try:
        return function(), None
    except LostProcessError:
        raise
    except RunFailedError as error:
        return None, portable(error)


def _same(value: Value) -> Value:
    return value
