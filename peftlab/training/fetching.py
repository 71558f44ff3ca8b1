"""What is offloaded comes one layer ahead: while a layer computes, the matrices of the next one are copied.

A card copies from pinned memory in a stream of its own, beside what it computes, and the host waits for neither. The
memory of a copy is taken in the stream that computes. So a copy begins when all that was asked for before has been
computed, for that may still use the memory; and a layer computes when its copy has ended.

Which layer comes next, modules do not say: under checkpointing the blocks come in order, and then once more from the
last to the first. So it is guessed from the steps before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LONGEST_MEMORY = 8
"""Times the number of layers: a step with checkpointing visits each twice, and it takes two steps to know one."""


class Course:
    """The order in which layers compute, learned from what came before.

    It follows the past from where it was last like now, and looks for such a place anew where the past has misled it.

    Args:
        layers: How many there are.
    """

    def __init__(self, layers: int) -> None:
        self._most = LONGEST_MEMORY * layers
        self._past: list[str] = []
        self._expected: int | None = None

    def follow(self, layer: str) -> str | None:
        """Take note of a layer that computes now.

        Returns:
            The layer that came after it when the course was last like this; None: it has not been here yet.
        """
        past = self._past
        place = self._expected
        if place is None or past[place] != layer:
            place = self._most_alike(layer)
        past.append(layer)
        self._expected = None if place is None else place + 1
        following = None if self._expected is None else past[self._expected]
        if len(past) > self._most:
            forgotten = len(past) // 2
            del past[:forgotten]
            expected = self._expected
            self._expected = None if expected is None or expected < forgotten else expected - forgotten
        return following

    def _most_alike(self, layer: str) -> int | None:
        """Where the layer came after the longest row of layers that came now too; of several the latest."""
        past, best, longest = self._past, None, -1
        for place in (at for at in reversed(range(len(past))) if past[at] == layer):
            alike = 0
            while alike < place and past[place - 1 - alike] == past[-1 - alike]:
                alike += 1
            if alike > longest:
                best, longest = place, alike
        return best


class _Ahead(NamedTuple):
    layer: str
    tensors: dict[str, Tensor]
    arrived: Any


class Fetcher:
    """Brings the matrices of layers to a device.

    Args:
        read: Gives a layer's parameters, by their names, where they lie.
        device: Where layers compute.
        layers: How many there are, if the next one's are to be copied beforehand, on a card and from pinned memory;
            None: each is brought when it is needed.
        cuda: Has streams and events.
    """

    def __init__(
        self,
        read: Callable[[str], Mapping[str, Tensor]],
        device: torch.device,
        *,
        layers: int | None = None,
        cuda: Any = torch.cuda,
    ) -> None:
        self._read, self._device, self._cuda = read, device, cuda
        self._course = None if layers is None else Course(layers)
        self._stream: Any = None if layers is None else cuda.Stream(device)
        self._ahead: _Ahead | None = None

    def fetch(self, layer: str) -> dict[str, Tensor]:
        """The parameters of a layer, on the device; what is asked of it afterwards waits until they are there."""
        if self._course is None:
            return {key: tensor.to(self._device) for key, tensor in self._read(layer).items()}
        following = self._course.follow(layer)
        if self._ahead is None or self._ahead.layer != layer:
            self._wait()  # what was brought in vain is written to until then
            self._ahead = self._bring(layer)
        found = self._ahead.tensors
        self._wait()
        self._ahead = None if following is None else self._bring(following)
        return found

    def _bring(self, layer: str) -> _Ahead:
        sources = self._read(layer)
        with torch.inference_mode(False):  # an evaluation may ask for what a training step will use
            tensors = {key: torch.empty_like(source, device=self._device) for key, source in sources.items()}
            self._stream.wait_stream(self._cuda.current_stream(self._device))
            with self._cuda.stream(self._stream):
                for key, tensor in tensors.items():
                    tensor.copy_(sources[key], non_blocking=True)
                arrived = self._cuda.Event()
                arrived.record(self._stream)
        return _Ahead(layer, tensors, arrived)

    def _wait(self) -> None:
        if self._ahead is not None:
            self._cuda.current_stream(self._device).wait_event(self._ahead.arrived)
            self._ahead = None


def let_fetch(layer: nn.Module, name: str, fetcher: Fetcher) -> None:
    """Let a layer have its parameters while it computes, and no longer; autograd keeps those that it needs.

    Args:
        layer: Its parameters are taken away.
        name: As the fetcher knows it.
        fetcher: Brings them.
    """
    absent = {
        key: nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
        for key, tensor in layer.named_parameters(recurse=False)
    }

    def bring(module: nn.Module, _inputs: Any) -> None:
        for key, tensor in fetcher.fetch(name).items():
            module._parameters[key] = nn.Parameter(tensor, requires_grad=False)

    def drop(module: nn.Module, _inputs: Any, _output: Any) -> None:
        module._parameters.update(absent)

    layer._parameters.update(absent)
    layer.register_forward_pre_hook(bring)
    # Also where the forward fails: memory may have run out, and the step is computed again in smaller parts.
    layer.register_forward_hook(drop, prepend=True, always_call=True)
