"""How this process was started: alone, or as one of several that a launcher sees as one job."""

from __future__ import annotations

import os

from peftlab.core.errors import UserError

SIZE_VARIABLES = (
    "WORLD_SIZE",  # torchrun, accelerate launch, deepspeed
    "PMI_SIZE",  # Intel MPI, MPICH
    "OMPI_COMM_WORLD_SIZE",  # Open MPI
    "MV2_COMM_WORLD_SIZE",  # MVAPICH2
    "SLURM_STEP_NUM_TASKS",  # srun; a job's own script has SLURM_NTASKS and not this
)
"""In which launchers tell each process how many there are; accelerate reads the first four."""


def refuse_several_processes() -> None:
    """Refuse to be one of several processes: each would do all the work, and write the same files.

    Raises:
        UserError: A launcher has started more than one, or says something that is no number.
    """
    for name in SIZE_VARIABLES:
        text = os.environ.get(name, "1").strip()
        if not text:
            del os.environ[name]  # it says nothing, and accelerate would stumble over it
        if text in ("", "0", "1"):
            continue
        if text.isascii() and text.isdigit():
            problem = f"this is one of {int(text)} processes, and peftlab trains with one: each would do the same work"
        else:
            problem = f"`{text}` is no number of processes"
        raise UserError(
            problem,
            where=f"the variable {name}",
            hint=f"Start peftlab by itself, without torchrun, `accelerate launch`, mpirun or srun; "
            f"where none of them is meant, `unset {name}`.",
        )
