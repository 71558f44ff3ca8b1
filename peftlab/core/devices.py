"""Where it is computed: the one place that asks for CUDA."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

from peftlab.core.errors import UserError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
_usual: ContextVar[torch.device | None] = ContextVar("usual", default=None)


def check_device_name(name: str) -> str:
    """Refuse what names no device; imports no torch.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: It is none of them.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UserError(f"`{name}` is not a known device", where="--device", hint="Write auto, cpu, cuda or cuda:N.")
    return name


def choose_device(name: str = AUTO) -> torch.device:
    """The device of that name, made the current one where it is one of several.

    Args:
        name: ``auto``: what :func:`by_default` says, else CUDA where it is there, else the CPU; ``cpu``; ``cuda``: the
            current card, which is the first one unless the program has chosen another; ``cuda:N``.

    Raises:
        UserError: There is no such device, or not here.
    """
    import torch

    check_device_name(name)
    if name == AUTO and (usual := _usual.get()) is not None:
        return usual
    if name == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if name == AUTO:
            return torch.device("cpu")
        raise UserError(f"there is no CUDA device here: {_why_not()}", where=f"--device {name}", hint="Write cpu.")
    number = name.partition(":")[2]
    device = torch.device("cuda", int(number) if number else torch.cuda.current_device())
    count = torch.cuda.device_count()
    if device.index >= count:
        known = ", ".join(f"cuda:{index}" for index in range(count))
        raise UserError(f"there is no such device; there are {known}", where=f"--device {name}")
    torch.cuda.set_device(device)  # accelerate and the libraries' kernels take the current one
    return device


@contextlib.contextmanager
def by_default(device: torch.device | None) -> Iterator[None]:
    """Let what asks for no device of its own have this one, as long as the context lasts.

    Who has chosen a device wants the models that are loaded on the way there too.

    Args:
        device: None: nothing is chosen.
    """
    token = _usual.set(device)
    try:
        yield
    finally:
        _usual.reset(token)


def visible_cards(name: str = AUTO) -> list[str]:
    """The cards that runs can be spread over, as ``CUDA_VISIBLE_DEVICES`` names them; none where a device is chosen.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    import torch

    if check_device_name(name) not in (AUTO, "cuda") or not torch.cuda.is_available():
        return []
    count = torch.cuda.device_count()
    named = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return (named or [str(index) for index in range(count)])[:count]


def _why_not() -> str:
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch is built without CUDA"
    return "PyTorch sees no card (driver, or CUDA_VISIBLE_DEVICES)"
