"""What makers say of their cards: dense bfloat16 products with float32 sums, and bytes of memory, a second."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Card:
    """A card, without sparsity.

    Args:
        name: As people call it.
        pattern: Found in the name that the driver gives.
        bfloat16_flops_per_second: Of its matrix units; None where it has none for bfloat16.
        bytes_per_second: Of its memory.
    """

    name: str
    pattern: str
    bfloat16_flops_per_second: float | None
    bytes_per_second: float

    def to_json(self) -> dict[str, str | float | None]:
        """Plain values."""
        return {key: value for key, value in asdict(self).items() if key != "pattern"}


CARDS = (
    Card("GH200", r"GH200", 989.4e12, 4.0e12),
    Card("H200", r"H200", 989.4e12, 4.8e12),
    Card("H100 NVL", r"H100 NVL", 835.5e12, 3.9e12),
    Card("H100 PCIe", r"H100 PCIe", 756.0e12, 2.0e12),
    Card("H100 SXM", r"H100( 80GB HBM3| SXM)", 989.4e12, 3.35e12),
    Card("A100 80GB SXM", r"A100-SXM\S*-80GB", 312.0e12, 2.039e12),
    Card("A100 80GB PCIe", r"A100.*80GB", 312.0e12, 1.935e12),
    Card("A100 40GB", r"A100", 312.0e12, 1.555e12),
    Card("A30", r"A30", 165.0e12, 0.933e12),
    Card("A10G", r"A10G", 70.0e12, 0.6e12),
    Card("A10", r"A10", 125.0e12, 0.6e12),
    Card("L40S", r"L40S", 362.05e12, 0.864e12),
    Card("L4", r"L4", 121.0e12, 0.3e12),
    Card("T4", r"T4", None, 0.32e12),
    Card("V100", r"V100", None, 0.9e12),
    Card("RTX 4090", r"RTX 4090$", 165.2e12, 1.008e12),
    Card("RTX 3090", r"RTX 3090$", 71.0e12, 0.936e12),
)
"""The first whose pattern is found counts; T4 and V100 have units for float16 only."""


def find_card(name: str) -> Card | None:
    """The card of a driver's name; None where the table has none, rather than one that is like it, or a part of one."""
    if "MIG" in name.split():
        return None
    return next((card for card in CARDS if re.search(rf"(?<![\w]){card.pattern}(?![\w])", name)), None)
