"""How this process was started: alone, or as one of several that a launcher sees as one job."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from peftlab.core.errors import UserError

LAUNCHER = "PEFTLAB_LAUNCHER"
"""The process of ``peftlab run --processes`` that has started this one."""
STORE_FILE = "PEFTLAB_STORE"
"""Number of the open socket at which the first of its processes listens."""

PEFTLAB = (sys.executable, "-P", "-m", "peftlab")
"""Starts peftlab as a process of its own; a ``random.py`` in the working directory is none of its business."""

STARTED_BY = {
    "WORLD_SIZE": ("RANK", "LOCAL_RANK"),  # torchrun, accelerate launch, peftlab itself
    "PMI_SIZE": ("PMI_RANK", "MPI_LOCALRANKID"),  # Intel MPI, MPICH
    "OMPI_COMM_WORLD_SIZE": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
    "MV2_COMM_WORLD_SIZE": ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),  # MVAPICH2
    "SLURM_STEP_NUM_TASKS": ("SLURM_PROCID", "SLURM_LOCALID"),  # srun; a job's own script has SLURM_NTASKS and not this
}
"""In which variables launchers tell each process how many there are, its number, and its number on this machine."""


@dataclass(frozen=True)
class Started:
    """One of several processes.

    Args:
        size: How many there are.
        rank: Its number.
        local_rank: Its number on this machine.
        address: Where the first process listens, or torchrun's agent does.
        port: Of it.
    """

    size: int
    rank: int
    local_rank: int
    address: str
    port: int


def count_of_processes() -> tuple[int, str]:
    """How many processes a launcher has started, and which variable says so.

    Raises:
        UserError: A variable says something that is no number.
    """
    for name in STARTED_BY:
        text = os.environ.get(name, "1").strip()
        if not text:
            del os.environ[name]  # it says nothing, and accelerate would stumble over it
        if text in ("", "0", "1"):
            continue
        if not (text.isascii() and text.isdigit()):
            raise UserError(
                f"`{text}` is no number of processes",
                where=f"the variable {name}",
                hint=f"Where no launcher is meant, `unset {name}`.",
            )
        return int(text), name
    return 1, ""


def is_first_process() -> bool:
    """Whether this process is alone or the first one, who alone tells the user."""
    return all(os.environ.get(rank, "0").strip() in ("", "0") for rank, _ in STARTED_BY.values())


def refuse_several_processes() -> None:
    """Refuse to be one of several processes where each would do all the work, and write the same files.

    Raises:
        UserError: A launcher has started more than one, or says something that is no number.
    """
    count, name = count_of_processes()
    if count > 1:
        raise UserError(
            f"this is one of {count} processes, and this verb works with one: each would do the same work",
            where=f"the variable {name}",
            hint=f"Only `peftlab run` can be one of several. Start peftlab by itself, without torchrun, "
            f"`accelerate launch`, mpirun or srun; where none of them is meant, `unset {name}`.",
        )


def find_start() -> Started | None:
    """How a launcher has started this process; None: it is alone.

    Raises:
        UserError: What the launcher says does not tell which process this is, or where the others are.
    """
    size, name = count_of_processes()
    if size == 1:
        return None
    rank_name, local_name = STARTED_BY[name]
    needed = [rank_name, "MASTER_ADDR", "MASTER_PORT"]
    if missing := [key for key in needed if not os.environ.get(key, "").strip()]:
        raise UserError(
            f"this is one of {size} processes, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not "
            "set",
            where=f"the variable {name}",
            hint="torchrun and `accelerate launch` set them; `peftlab run --processes N` needs none. Where no launcher "
            f"is meant, `unset {name}`.",
        )
    rank = _number(rank_name, 0, size - 1)
    local_rank = _number(local_name, 0, size - 1) if os.environ.get(local_name, "").strip() else rank
    return Started(size, rank, local_rank, os.environ["MASTER_ADDR"].strip(), _number("MASTER_PORT", 1, 65535))


def _number(name: str, least: int, most: int) -> int:
    text = os.environ[name].strip()
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise UserError(f"`{text}` is no number from {least} to {most}", where=f"the variable {name}")
    return int(text)
