"""The device that an estimate is for, and sizes of memory as people write them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from peftlab.core.devices import AUTO
from peftlab.core.errors import UserError
from peftlab.estimate.cuda_driver import cuda_memory

if TYPE_CHECKING:
    import torch

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {f"{letter}IB": 1 << (10 * power) for power, letter in enumerate("KMGT", start=1)}
CUBLAS_WORKSPACES = 2 * 8 * 4096 * 1024
"""What cuBLAS takes through the allocator, as ``peftlab run`` sets it up (CUBLAS_WORKSPACE_CONFIG=:4096:8): once for
each thread that computes products, that of the forward and that of the backward pass."""


@dataclass(frozen=True)
class Target:
    """A device, as far as memory goes.

    Args:
        name: ``cpu`` or ``cuda``.
        memory_bytes: What it has, for each process; None where that is unknown.
        processes: How many share each batch; all else is of one of them.
    """

    name: Literal["cpu", "cuda"]
    memory_bytes: int | None
    processes: int = 1

    def for_processes(self, count: int) -> Target:
        """The same machine for several processes: each has a card of its own, or a part of the CPU's memory."""
        memory = self.memory_bytes
        if memory is not None and self.name == "cpu":
            memory //= count
        return replace(self, memory_bytes=memory, processes=count)

    @property
    def device(self) -> torch.device:
        """For the rules of a run that depend on it; it need not be here."""
        import torch

        return torch.device(self.name)

    @property
    def is_verified(self) -> bool:
        """Whether estimates for it have been held against measurements: for several GPUs they have not."""
        return self.name == "cpu" or self.processes == 1

    @property
    def workspace_bytes(self) -> int:
        """What libraries take for themselves beside tensors."""
        return CUBLAS_WORKSPACES if self.name == "cuda" else 0

    @property
    def attention_is_fused(self) -> bool:
        """Whether attention with dropout keeps no probabilities. CPUs have no such kernel."""
        return self.name == "cuda"


def parse_memory(text: str, *, where: str = "--memory") -> int:
    """Bytes of a size such as ``8GB`` (8 · 10⁹) or ``7.5 GiB`` (7.5 · 2³⁰).

    Raises:
        UserError: The text is no size, or has no unit: 8 could be meant as gigabytes.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?B)?\s*", text.upper())
    if match is None or float(match[1]) == 0:
        raise UserError(f"`{text}` is no size of memory", where=where, hint="Write it as 8GB, 7.5GiB or 800MB.")
    if match[2] is None:
        raise UserError(f"`{text}` has no unit", where=where, hint=f"Write {match[1]}GB, or {match[1]}B for bytes.")
    return int(float(match[1]) * UNITS[match[2]])


def find_target(name: str = AUTO, memory: str | None = None, *, processes: int = 1) -> Target:
    """The device that a recipe is meant for: what the user says, else what is at hand. Never imports torch.

    Args:
        name: ``auto``: CUDA where this machine has it; ``cpu``, ``cuda`` or ``cuda:N``.
        memory: A size; None: what the device at hand has, or what the variable PEFTLAB_MEMORY allows of it.
        processes: That share each batch: of several cards the smallest counts.

    Raises:
        UserError: The size is none.
    """
    kind, _, index = name.partition(":")
    card = cuda_memory(int(index or 0), processes)
    on_cuda = card is not None if kind == AUTO else kind == "cuda"
    own: Literal["cpu", "cuda"] = "cuda" if on_cuda else "cpu"
    given = parse_memory(memory) if memory else allowed_memory()
    if given is not None:
        return Target(own, given).for_processes(processes)
    return Target(own, card if own == "cuda" else system_memory()).for_processes(processes)


def allowed_memory() -> int | None:
    """What the variable PEFTLAB_MEMORY allows, in bytes; None where it is not set.

    Raises:
        UserError: It is no size.
    """
    allowed = os.environ.get("PEFTLAB_MEMORY")
    return parse_memory(allowed, where="PEFTLAB_MEMORY") if allowed else None


def system_memory() -> int | None:
    """The memory of this machine in bytes; of its container, where that has less."""
    sizes = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:  # noqa: PTH123
                text = file.read().strip()
        except OSError:
            continue
        if text.isdigit():
            sizes.append(int(text))
    return min(sizes, default=None)
