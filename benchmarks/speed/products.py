"""Products of the sizes of a transformer's layers on this CPU: torch's own (MKL, on x86), and through oneDNN.

    python benchmarks/speed/products.py [--tokens 640] [--hidden 384]

For each size it prints the rate of both in GFLOP/s, forward (states · weightᵀ + bias), back to the states (gradient ·
weight) and back to the weight (gradientᵀ · states), the fastest of many turns, in which the two take turns. The gain is
oneDNN's over all three. peftlab takes torch's own products on Intel's processors, and oneDNN's on others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from peftlab.acceleration import onednn

TURNS = 30


def rates(flops: int, *products: Callable[[], object]) -> list[float]:
    """GFLOP/s of each product, the fastest of the turns."""
    best = [float("inf")] * len(products)
    for _ in range(TURNS):
        for at, product in enumerate(products):
            begin = time.perf_counter()
            product()
            best[at] = min(best[at], time.perf_counter() - begin)
    return [flops / seconds / 1e9 for seconds in best]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=640)
    parser.add_argument("--hidden", type=int, default=384)
    chosen = parser.parse_args()
    if not onednn.is_available():
        raise SystemExit("this torch has no oneDNN")
    torch.manual_seed(0)
    hidden = chosen.hidden
    parts = [f"{library}, {part}" for part in ("forward", "to states", "to weight") for library in ("torch", "oneDNN")]
    print(f"| inputs × outputs | {' | '.join(parts)} | gain |")
    print("|---|" + "---:|" * 7)
    with torch.inference_mode():
        for inputs, outputs in ((hidden, hidden), (hidden, 4 * hidden), (4 * hidden, hidden)):
            states, gradient = torch.randn(chosen.tokens, inputs), torch.randn(chosen.tokens, outputs)
            weight, bias = torch.randn(outputs, inputs), torch.randn(outputs)
            found = rates(
                2 * chosen.tokens * inputs * outputs,
                lambda: torch.nn.functional.linear(states, weight, bias),  # noqa: B023 - called in this turn
                lambda: onednn.product(states, weight, bias),  # noqa: B023
                lambda: gradient @ weight,  # noqa: B023
                lambda: onednn.product(gradient, weight.t()),  # noqa: B023
                lambda: gradient.t() @ states,  # noqa: B023
                lambda: onednn.product(gradient.t(), states.t()),  # noqa: B023
            )
            gain = sum(1 / rate for rate in found[::2]) / sum(1 / rate for rate in found[1::2]) - 1
            shown = " | ".join(f"{rate:.0f}" for rate in found)
            print(f"| {inputs} × {outputs} | {shown} | {gain:+.0%} |")


if __name__ == "__main__":
    main()
