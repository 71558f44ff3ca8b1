"""The registered methods as tests build them: keys that fit tiny models, and which of them differ for a test."""

from __future__ import annotations

from typing import Any

from peftlab.core.method import METHODS, Method
from peftlab.methods._peft_adapter import PeftAdapter

SMALL: dict[str, dict[str, Any]] = {
    "c3a": {"block_size": 16},
    "fourierft": {"frequencies": 100},
    "road": {"group_size": 16},
    "shira": {"rank": 4},
    "vblora": {"vectors": 32, "vector_length": 16},
}
"""Keys whose defaults, meant for real models, do not fit such small ones."""
PEFT_ADAPTERS = tuple(name for name, cls in METHODS.items() if issubclass(cls, PeftAdapter))
"""Methods that are one class of ours with another config of peft's."""
DISTINCT = tuple(
    name for name, cls in METHODS.items() if (name not in PEFT_ADAPTERS or name == "vera") and not cls.needs_original
)
"""Every method for a base in full, but one alone of those that share a class: enough where a test is about code around
peft's layers."""


def small_method(name: str) -> Method:
    """A registered method that fits tiny models."""
    return METHODS[name](**SMALL.get(name, {}))


def method_section(name: str) -> dict[str, Any]:
    """It as a recipe's section."""
    return {"type": name, **SMALL.get(name, {})}
