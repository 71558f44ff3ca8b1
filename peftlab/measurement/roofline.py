"""What the device can do, and what a training step must do: the two sides of FLOPs utilisation."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from peftlab.acceleration import onednn

SIZES = {"cpu": 1024, "cuda": 8192}
SHARE_OF_FREE = 0.5
"""Of what is free of a card's memory: so much the matrices may take, beside a model that has nearly filled it."""
REPETITIONS = 15


def measure_matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """The rate of a large square matrix product on this device, now, in FLOP/s: the fastest of fifteen.

    Other work on a shared machine can only make a product slower, so the fastest is nearest to what the device can do.
    For float32 on CPU both of PyTorch's libraries are measured, as training may use either.

    Args:
        device: Where to measure.
        dtype: The type that training computes in.
    """
    size = _size_of_matrices(device, dtype)
    # Its own generator: the run's must not depend on what was measured.
    generator = torch.Generator(device=device).manual_seed(0)
    left, right = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
    products: list[Callable[[Tensor, Tensor], Tensor]] = [torch.mm]
    if device.type == "cpu" and dtype == torch.float32 and onednn.is_available():
        products.append(onednn.product)
    return 2 * size**3 / min(_least_seconds(multiply, left, right) for multiply in products)


def _size_of_matrices(device: torch.device, dtype: torch.dtype) -> int:
    """Rows of them: as many as tell the rate, or as there is room for."""
    size = SIZES.get(device.type, 1024)
    if device.type == "cpu" and dtype != torch.float32:
        return 512  # half precision can be a hundred times slower on CPUs without instructions for it
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        room = SHARE_OF_FREE * (torch.cuda.mem_get_info(device)[0] + kept)
        each = torch.float32.itemsize + 3 * dtype.itemsize  # one is drawn, and two and their product are there
        while size > 512 and size**2 * each > room:
            size //= 2
    return size


def _least_seconds(multiply: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor) -> float:
    seconds = []
    for repetition in range(REPETITIONS + 2):
        if left.is_cuda:
            torch.cuda.synchronize(left.device)
        begin = time.perf_counter()
        multiply(left, right)
        if left.is_cuda:
            torch.cuda.synchronize(left.device)
        if repetition >= 2:
            seconds.append(time.perf_counter() - begin)
    return min(seconds)


@dataclass(frozen=True)
class StepFlops:
    """FLOPs of a step: ``step``, ``constant + linear · L + quadratic · L²`` a text, and ``term`` a term of its loss.

    A transformer's layers cost the same for each of a text's L tokens, attention grows with the square of the length,
    and a head over one vector costs the same for each text; one over a vocabulary costs by the tokens that are to be
    predicted. Some methods work on their own weights once a step, such as DoRA.
    """

    constant: float
    linear: float
    quadratic: float
    step: float = 0.0
    term: float = 0.0

    def of(self, lengths: Sequence[int], terms: int = 0) -> float:
        """The FLOPs due for a step over texts of these lengths, whose loss has so many terms."""
        sizes = np.asarray(lengths, dtype=np.float64)
        texts = self.constant * len(sizes) + self.linear * sizes.sum() + self.quadratic * (sizes**2).sum()
        return float(self.step + texts + self.term * terms)


def fit_step_flops(
    run_step: Callable[[int, int], None], lengths: Sequence[int], terms: Sequence[int] = ()
) -> StepFlops:
    """Count the FLOPs of training steps on texts of several lengths, and lay the parabola through them.

    What a step costs whatever its texts shows when one text is compared with two of the same length.

    PyTorch's counter sees every matrix product that is really done, forward and backward: products for the gradients
    of frozen weights are not done, and so do not count. Attention runs in its plain form while counting, since the
    counter does not know the fused kernel for CPUs.

    Args:
        run_step: Runs forward, loss and backward on texts without padding: takes their length and how many.
        lengths: Three different ones, or more where there are terms. Fewer settle only what they show themselves.
        terms: Terms of the loss of the text of each length; empty: they do not matter.
    """
    known = {**_onednn_flops(), **_quantized_flops(), **_grouped_flops()}

    def count(length: int, texts: int) -> int:
        counter = FlopCounterMode(display=False, custom_mapping=known)
        with counter, sdpa_kernel(SDPBackend.MATH):
            run_step(length, texts)
        return counter.get_total_flops()

    singles = [count(length, 1) for length in lengths]
    step = 2 * singles[0] - count(lengths[0], 2)
    counts = np.asarray([single - step for single in singles], dtype=np.float64)
    columns = np.vander(np.asarray(lengths, dtype=np.float64), 3, increasing=True)
    if terms:
        columns = np.column_stack([columns, np.asarray(terms, dtype=np.float64)])
    scales = np.abs(columns).max(axis=0)
    scales[scales == 0] = 1
    constant, linear, quadratic, *term = np.linalg.lstsq(columns / scales, counts, rcond=None)[0] / scales
    return StepFlops(float(constant), float(linear), float(quadratic), float(step), *map(float, term))


def _onednn_flops() -> dict[Any, Any]:
    """How the counter is to count products by oneDNN, which it does not know."""

    def flops(states: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int]) -> int:
        return 2 * math.prod(out_shape) * weight[1]

    return {torch.ops.mkldnn._linear_pointwise: flops} if onednn.is_available() else {}


def _grouped_flops() -> dict[Any, Any]:
    """How the counter is to count a mixture's products: each row by the matrix of its own expert, and no other."""

    def flops(states: Sequence[int], matrices: Sequence[int], *_: Any, **_more: Any) -> int:
        return 2 * math.prod(states) * matrices[-1]

    def backward(states: Sequence[int], matrices: Sequence[int], *_: Any, **_more: Any) -> int:
        return 2 * flops(states, matrices)

    found = {torch.ops.aten._grouped_mm: flops}
    own: Any = getattr(torch.ops, "transformers", None)  # where torch's own product does not take the tensors
    if hasattr(own, "grouped_mm_fallback"):
        found[own.grouped_mm_fallback] = flops
        found[own.grouped_mm_fallback_backward] = backward
    return found


def _quantized_flops() -> dict[Any, Any]:
    """How the counter is to count bitsandbytes' products: as those of the matrices that the packed ones stand for."""
    if "bitsandbytes" not in sys.modules:
        return {}

    def by_shape(states: Sequence[int], _packed: Sequence[int], shape: Sequence[int], *_: Any, **_more: Any) -> int:
        return 2 * math.prod(states) * math.prod(shape) // states[-1]

    def by_matrix(states: Sequence[int], matrix: Sequence[int], *_: Any, **_more: Any) -> int:
        return 2 * math.prod(states) * math.prod(matrix) // states[-1]

    def mixed(states: Sequence[int], _states: Sequence[int], matrix: Sequence[int], *_: Any, **_more: Any) -> int:
        return by_matrix(states, matrix)

    known = {
        "gemm_4bit": by_shape,
        "gemv_4bit": by_shape,
        "int8_scaled_mm": by_matrix,
        "int8_linear_matmul": by_matrix,
        "int8_mixed_scaled_mm": mixed,
    }
    library = torch.ops.bitsandbytes
    return {getattr(library, name): flops for name, flops in known.items() if hasattr(library, name)}
