"""SwiGLU by liger-kernel's Triton kernels (https://arxiv.org/abs/2410.10989), where that extra is installed, on cards.

One kernel computes silu(gate) · up, and one both gradients, where torch takes two and five, and reads and writes the
wide tensors as often. Of its other kernels none is taken: torch has RMSNorm as one kernel by now; the rotation works in
the place of its inputs, which autograd may still need, and with copies of them nothing is gained; the head with its
loss waits for the card twice a step, which peftlab's own does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from peftlab.acceleration.same_results import agree, ramp, real_tensors
from peftlab.core.bfloat16 import card_has_bfloat16
from peftlab.core.installed import installed_version

DISTRIBUTION = "liger-kernel"
VERSIONS = ((0, 8), (0, 9))
"""From the first one on, and below the second one: what is called here is no interface that it promises."""
WIDEST = 65536
"""Columns that a kernel takes."""


@dataclass(frozen=True)
class SwiGlu:
    """The two kernels.

    Args:
        forward: From gate and up to themselves and silu(gate) · up.
        backward: From gate, up and the gradient to the gradients by gate and up, which take their place.
    """

    forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

    def activate(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) · up."""
        return self.forward(gate, up)[2]

    def gradients(self, gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
        """By gate and up. They take the place of both: who needs these again is told so by autograd."""
        found = self.backward(gate, up, gradient.contiguous())
        torch.autograd.graph.increment_version([gate, up])
        return found


def swiglu_for(gate: Tensor, up: Tensor) -> SwiGlu | None:
    """The kernels for two tensors; None where they are not for them, not there, or not right."""
    fits = gate.is_cuda and gate.dtype == up.dtype and gate.shape == up.shape and gate.shape[-1] <= WIDEST
    if not fits or not (gate.is_contiguous() and up.is_contiguous()) or torch.compiler.is_compiling():
        return None
    return checked_swiglu(str(gate.device), gate.dtype)


@functools.cache
def checked_swiglu(device: str, kind: torch.dtype) -> SwiGlu | None:
    """The kernels, if they are installed in a version that is known and right; tried once, on the device.

    Not in bfloat16 on a card that only emulates it: Triton's compiler may end the process there.
    """
    if not is_known_version() or (kind == torch.bfloat16 and not card_has_bfloat16()):
        return None
    with real_tensors(), torch.inference_mode(mode=False):
        try:
            from liger_kernel.ops.swiglu import swiglu_backward, swiglu_forward

            kernels = SwiGlu(swiglu_forward, swiglu_backward)
            found = _results(kernels, device, kind)
        except Exception:  # noqa: BLE001 - Triton compiles here: whatever its compiler or the driver says, torch's way is left
            return None
    wanted, rounding = _results(None, device, kind), 4 * torch.finfo(kind).eps
    return kernels if agree(found, wanted, rounding) else None


def is_known_version() -> bool:
    """Whether liger-kernel is installed in a version whose kernels are called as here."""
    found = tuple(int(part) for part in (installed_version(DISTRIBUTION) or "").split(".")[:2] if part.isdigit())
    return VERSIONS[0] <= found < VERSIONS[1]


def _results(kernels: SwiGlu | None, device: str, kind: torch.dtype) -> list[Tensor]:
    """What SwiGLU gives for some numbers, and its gradients; without kernels by autograd, in float64."""
    gate, up, gradient = (
        ramp(6, 96).to(device, kind),
        ramp(96, 6).t().to(device, kind),
        ramp(6, 96).flip(0).to(device, kind),
    )
    up = up.contiguous()
    if kernels is not None:
        outputs = kernels.activate(gate, up)
        return [outputs.double(), *(by.double() for by in kernels.gradients(gradient, gate, up))]
    with torch.enable_grad():
        gate, up = gate.double().requires_grad_(), up.double().requires_grad_()
        outputs = functional.silu(gate) * up
    return [outputs.detach(), *torch.autograd.grad(outputs, (gate, up), gradient.double())]
