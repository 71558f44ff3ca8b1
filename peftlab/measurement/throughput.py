"""Speed: tokens that are not padding, through training steps, by the seconds of those steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from peftlab.core.record import Throughput
from peftlab.measurement.roofline import StepFlops
from peftlab.measurement.step_clock import clock_of


@dataclass
class Sums:
    """What the timed steps add up to."""

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0
    examples: int = 0
    flops: float = 0.0


class ThroughputMeter:
    """Times steps one by one; what happens between them, such as evaluation and checkpoints, does not count.

    On CUDA the card notes the time itself, and is not waited for until the figures are read. What it does between two
    notes counts, and so does its waiting for the host.

    Args:
        warmup_steps: So many first steps are left out: allocator and caches are cold in them.
        device: Where the steps run.
        step_flops: FLOPs of a step by the lengths of its texts; None where they could not be determined.
    """

    def __init__(self, warmup_steps: int, *, device: torch.device, step_flops: StepFlops | None) -> None:
        self._skip = warmup_steps
        self._clock = clock_of(device)
        self._step_flops = step_flops
        self._reads_tokens = True
        self._sums = Sums()

    def step_started(self) -> None:
        """A step's work begins."""
        self._clock.start()

    def step_ended(self, lengths: Sequence[int], padded_tokens: int, terms: int = 0) -> None:
        """A step's work is done.

        Args:
            lengths: Tokens of each of its texts.
            padded_tokens: All tokens that the model was given.
            terms: Of the step's loss.
        """
        if self._skip > 0:
            self._skip -= 1
            return
        self._clock.stop()
        sums = self._sums
        sums.steps += 1
        sums.examples += len(lengths)
        if self._reads_tokens:
            sums.tokens += sum(lengths)
            sums.padded_tokens += padded_tokens
        if self._step_flops is not None:
            sums.flops += self._step_flops.of(lengths, terms)

    def pass_ended(self, lengths: Sequence[int], padded_tokens: int) -> None:
        """A pass is done that all steps share, begun as a step is: its time, tokens and FLOPs count once.

        Args:
            lengths: Tokens of each of its texts.
            padded_tokens: All tokens that the model was given.
        """
        self._clock.stop()
        self._sums.tokens += sum(lengths)
        self._sums.padded_tokens += padded_tokens
        if self._step_flops is not None:
            self._sums.flops += self._step_flops.of(lengths)

    def head_alone(self, step_flops: StepFlops | None) -> None:
        """From now on steps read no tokens, and do these FLOPs by example."""
        self._reads_tokens, self._step_flops = False, step_flops if self._step_flops is not None else None

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {"skip": self._skip, **asdict(self._read())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave. The first steps of the new process are cold again and are left out."""
        values = dict(state)
        self._skip = max(self._skip, values.pop("skip"))
        self._sums = Sums(**values)

    def summary(self, *, matmul_flops_per_second: float | None) -> Throughput | None:
        """The figures, or None where no step was timed."""
        sums = self._read()
        if not sums.steps:
            return None
        utilization = None
        if self._step_flops is not None and matmul_flops_per_second:
            utilization = sums.flops / (sums.seconds * matmul_flops_per_second)
        return Throughput(
            tokens_per_second=sums.tokens / sums.seconds,
            examples_per_second=sums.examples / sums.seconds,
            padding_fraction=1 - sums.tokens / sums.padded_tokens,
            flops_utilization=utilization,
            timed_steps=sums.steps,
            matmul_flops_per_second=matmul_flops_per_second,
        )

    def _read(self) -> Sums:
        """The sums, with the seconds of all steps; on CUDA the last one is waited for."""
        self._sums.seconds += self._clock.seconds()
        return self._sums
