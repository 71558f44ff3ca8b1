"""Graphs of forward and backward passes: one for each shape of a batch, recorded once and replayed.

A graph computes with the tensors that it was recorded with. So a batch is copied into tensors that stay, and gradients
are added to tensors that stay; both happen here. Batches are padded to a few lengths, else every one would need a graph
of its own. The first batch of a shape is computed plainly, which also makes ready what must not happen in a recording;
the second one is recorded. What cannot be recorded is computed plainly, and the reason is kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from peftlab.acceleration.accelerated import is_off
from peftlab.acceleration.masks import HAS_PADDING
from peftlab.acceleration.recording import CudaRecorder, Recorder, Replay
from peftlab.training.batches_ahead import says_of_its_collate
from peftlab.training.evaluation import to_device
from peftlab.training.micro_batches import is_out_of_memory

if TYPE_CHECKING:
    from peftlab.training.job import TrainingJob

Batch = Mapping[str, Tensor]
Lengthen = Callable[[Batch, int], dict[str, Tensor]]
"""A batch padded to so many tokens."""
LossOnDevice = Callable[[Batch, Tensor], Tensor]
"""The loss of a batch on the device, divided by a number there."""

LARGEST_MODEL = 500_000_000
"""Parameters. A step of a Llama with 8 billion, 4,096 tokens, took as long with graphs as without."""
MOST_TRAINED_BYTES = 100_000_000
"""The gradients take so much once more."""
MOST_GRAPHS = 32
SMALLEST_STEP = 8


def graph_length(length: int, longest: int) -> int:
    """The length that a batch is padded to: a multiple of 8 or of an eighth of the next power of two.

    Args:
        length: Of the batch.
        longest: What no batch of the run exceeds.
    """
    step = max(SMALLEST_STEP, (1 << (length - 1).bit_length()) // 8)
    return max(length, min(longest, -(-length // step) * step))


@dataclass(frozen=True)
class _Graph:
    """A recorded pass, and the tensors that it reads and writes."""

    inputs: dict[str, Tensor]
    divisor: Tensor
    loss: Tensor
    used: tuple[int, ...]
    replay: Replay


class StepGraphs:
    """The graphs of a training.

    Args:
        recorder: Records passes.
        parameters: All that train.
        device: Where they are.
        lengthen: Pads a batch.
        longest: The most tokens of a text.

    Attributes:
        problem: Why no graphs are used any more; None: they are.
        replays: Passes that were replayed.
    """

    def __init__(
        self,
        recorder: Recorder,
        parameters: Sequence[Tensor],
        *,
        device: torch.device,
        lengthen: Lengthen,
        longest: int,
    ) -> None:
        self._recorder, self._parameters, self._device = recorder, list(parameters), device
        self._lengthen, self._longest = lengthen, longest
        self._gradients: dict[int, Tensor] = {}
        self._graphs: dict[Any, _Graph] = {}
        self._seen: set[Any] = set()
        self._places: tuple[Any, ...] = ()
        self._most_at_once = 0
        self.problem: str | None = None
        self.replays = 0

    def lengthened(self, batch: Batch) -> dict[str, Tensor]:
        """A batch padded to a length that graphs are for, on the right."""
        return self._lengthen(batch, graph_length(batch["input_ids"].shape[1], self._longest))

    def compute(self, batch: Batch, divisor: Tensor, loss_of: LossOnDevice, plainly: Callable[[], Tensor]) -> Tensor:
        """Add the gradients of a batch to those that are there.

        Args:
            batch: On the host.
            divisor: Of the loss, a scalar on the device.
            loss_of: What is recorded.
            plainly: Does the same without a graph.

        Returns:
            The loss, a scalar that the next call may overwrite.
        """
        if self.problem is not None:
            return plainly()
        key = _shape_of(batch)
        self._forget_where_moved()
        if key not in self._seen:
            self._seen.add(key)
            return self._first(plainly)
        if key not in self._graphs and len(self._graphs) == MOST_GRAPHS:
            return plainly()
        if key not in self._graphs:
            try:
                self._graphs[key] = self._record(batch, loss_of)
            except Exception as error:  # noqa: BLE001 - whatever it is, the plain way is as right
                self._give_up(error)
                return plainly()
        graph = self._graphs[key]
        for name, value in batch.items():
            graph.inputs[name].copy_(value, non_blocking=True)
        graph.divisor.copy_(divisor)
        self._attach(graph.used)
        graph.replay()
        self.replays += 1
        return graph.loss

    def on_device(self, batch: Batch) -> dict[str, Tensor]:
        """A batch for the plain way, which does then what is recorded: where its texts end a graph is not told."""
        if self.problem is not None:
            return to_device(batch, self._device)
        there = {name: value.to(self._device, non_blocking=True) for name, value in batch.items()}
        setattr(there["attention_mask"], HAS_PADDING, _is_padded(batch))
        return there

    def summary(self) -> int | str:
        """How many graphs there were at once, or why there are none."""
        return self.problem or self._most_at_once or "no shape of a batch came twice"

    def give_up_memory(self) -> bool:
        """Memory has run out: whether graphs held some; then it is given back, and none are recorded any more."""
        if not self._graphs:
            return False
        self.problem = "memory ran out beside the graphs"
        self.release()
        return True

    def release(self) -> None:
        """Give the memory of all graphs back; they are recorded anew when they are needed."""
        self._graphs.clear()
        self._gradients.clear()

    def _first(self, plainly: Callable[[], Tensor]) -> Tensor:
        """The plain pass before a recording; numbers that the host draws in it would be drawn once and for all."""
        before = (torch.get_rng_state(), random.getstate())
        loss = plainly()
        drawn = not torch.equal(before[0], torch.get_rng_state()) or before[1] != random.getstate()
        if drawn and self._device.type != "cpu":
            self.problem = "the model draws random numbers on the host"
        return loss

    def _record(self, batch: Batch, loss_of: LossOnDevice) -> _Graph:
        inputs = {name: torch.empty_like(value, device=self._device) for name, value in batch.items()}
        for name, value in batch.items():  # a recording computes nothing, but kernels may look at their inputs
            inputs[name].copy_(value)
        # Masks are made without a look at this one, which other batches will be copied into.
        setattr(inputs["attention_mask"], HAS_PADDING, _is_padded(batch))
        divisor = torch.ones((), device=self._device)
        loss = torch.zeros((), device=self._device)
        trained = [place for place, parameter in enumerate(self._parameters) if parameter.requires_grad]
        for place in trained:
            if place not in self._gradients:
                self._gradients[place] = torch.zeros_like(self._parameters[place])
        used: list[int] = []

        def work() -> None:
            own = loss_of(inputs, divisor)
            found = torch.autograd.grad(own, [self._parameters[place] for place in trained], allow_unused=True)
            there = [(place, gradient) for place, gradient in zip(trained, found, strict=True) if gradient is not None]
            torch._foreach_add_([self._gradients[place] for place, _ in there], [gradient for _, gradient in there])
            loss.copy_(own.detach())
            used[:] = [place for place, _ in there]

        replay = self._recorder.record(work)
        self._most_at_once = max(self._most_at_once, len(self._graphs) + 1)
        return _Graph(inputs, divisor, loss, tuple(used), replay)

    def _attach(self, places: Sequence[int]) -> None:
        """Let the gradients of some parameters be the tensors that graphs add to; what is there stays there."""
        fresh = []
        for place in places:
            parameter, gradient = self._parameters[place], self._gradients[place]
            if parameter.grad is None:
                fresh.append(gradient)
            elif parameter.grad is not gradient:
                gradient.copy_(parameter.grad)
            parameter.grad = gradient
        if fresh:
            torch._foreach_zero_(fresh)

    def _forget_where_moved(self) -> None:
        """A graph knows its weights by their addresses."""
        places = tuple((parameter.data_ptr(), parameter.requires_grad) for parameter in self._parameters)
        if places != self._places:
            self._graphs.clear()
            self._places = places

    def _give_up(self, error: BaseException) -> None:
        first: BaseException = error
        while first.__context__ is not None:  # the end of a recording that has failed fails too
            first = first.__context__
        words = (str(first).splitlines() or [""])[0]
        self.problem = (
            "memory ran out while a step was recorded"
            if is_out_of_memory(first)
            else f"a step could not be recorded: {type(first).__name__}: {words}"[:300]
        )
        self.release()


def build_graphs(job: TrainingJob, recorder: Recorder | None = None) -> StepGraphs | str:
    """The graphs of a training, or why it has none.

    Args:
        job: What is trained.
        recorder: None: of CUDA graphs.
    """
    device, model = job.accelerator.device, job.bare_model
    reason = why_not(job, model, on_card=device.type == "cuda" or recorder is not None)
    if reason is not None:
        return reason
    return StepGraphs(
        recorder or CudaRecorder(device),
        [parameter for group in job.optimizer.param_groups for parameter in group["params"]],
        device=device,
        lengthen=lambda batch, length: job.task.lengthened(batch, length, job.pad_token_id),
        longest=max(job.task.lengths(job.split.examples)),
    )


def why_not(job: TrainingJob, model: nn.Module, *, on_card: bool) -> str | None:
    """Why the passes of a training cannot be recorded, or need not be; None: they can."""
    held = job.hooks.not_replayable()
    reasons = {
        "this is no CUDA device": not on_card,
        "several processes train": job.accelerator.num_processes > 1,
        "float16 needs a scale that changes": job.accelerator.scaler is not None,
        f"`{held}` may change what a step computes": held is not None,
        "with gradient checkpointing the host looks at random numbers": job.config.gradient_checkpointing,
        "batches of this task cannot be made longer": not says_of_its_collate(job.task, "padding", "training_loss"),
        "texts have positions of their own": "position_ids" in job.split.examples[0],
        "a part of the model is offloaded": any(parameter.is_meta for parameter in model.parameters()),
        "compiled blocks were never recorded": job.config.compile != "off",
        **(_seldom_of_use(model) if job.config.cuda_graphs == "auto" else {}),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _seldom_of_use(model: nn.Module) -> dict[str, bool]:
    """Where graphs have gained nothing on a card, or could not be had."""
    parameters = list(model.parameters())
    count = sum(tensor.numel() for tensor in parameters)
    trained = sum(tensor.nbytes for tensor in parameters if tensor.requires_grad)
    reasons = {
        f"the model has more than {LARGEST_MODEL:,} parameters, whose steps do not wait for the host": count
        > LARGEST_MODEL,
        f"{trained:,} bytes train, whose gradients would take as many once more": trained > MOST_TRAINED_BYTES,
        "the base is quantized": any(tensor.dtype in (torch.uint8, torch.int8) for tensor in parameters),
        "virtual tokens could not be recorded": bool(getattr(model, "prompt_encoder", None)),
        "acceleration is off": is_off(model),
    }
    return {f"{reason} (training.cuda_graphs: on tries it)": holds for reason, holds in reasons.items()}


def _shape_of(batch: Batch) -> Any:
    """What a graph is for."""
    return _is_padded(batch), tuple((name, tuple(value.shape), value.dtype) for name, value in batch.items())


def _is_padded(batch: Batch) -> bool:
    return not bool(batch["attention_mask"].all())
