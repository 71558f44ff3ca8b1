"""What CUDA's driver says of the memory of a card, by the number that programs know it by. Imports no torch.

``nvidia-smi`` counts all cards of a machine by their places. CUDA counts those that CUDA_VISIBLE_DEVICES leaves, the
fastest first unless CUDA_DEVICE_ORDER says otherwise; and only the driver knows which that is. It is asked in a process
of its own, since one that has asked it cannot be forked any more.
https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__DEVICE.html
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from typing import Any

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
SECONDS = 30.0
"""A driver that is not kept awake needs a second or two for each card."""


def cuda_memory(index: int = 0, count: int = 1) -> int | None:
    """The memory of a CUDA card in bytes, as torch will see it; None where there is none of that number.

    Args:
        index: Of the card.
        count: Of cards, from that one on, of which the smallest is wanted; there may be fewer.
    """
    command = [sys.executable, "-I", __file__, str(index), str(count)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        return min(map(int, done.stdout.split()), default=None)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def ask_driver(index: int) -> int | None:
    """The memory of one, asked in this process."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return None  # there is none
    device, size = ctypes.c_int(), ctypes.c_size_t()
    asked: list[tuple[str, tuple[Any, ...]]] = [
        ("cuInit", (0,)),
        ("cuDeviceGet", (ctypes.byref(device), index)),
        ("cuDeviceTotalMem_v2", (ctypes.byref(size), device)),
    ]
    for name, arguments in asked:
        error: int = getattr(driver, name)(*arguments)
        if error:
            return None
    return size.value


if __name__ == "__main__":
    first, cards = map(int, sys.argv[1:])
    print(*filter(None, map(ask_driver, range(first, first + cards))))
