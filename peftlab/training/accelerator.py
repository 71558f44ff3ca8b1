"""accelerate: devices, mixed precision and trackers."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import check_cuda_p2p_ib_support

from peftlab.core.bfloat16 import card_has_bfloat16
from peftlab.core.errors import ConfigError
from peftlab.training.launch import STARTED_BY

_optimizer: Any = importlib.import_module("accelerate.optimizer")
# In every step of an optimizer accelerate looks for this package, twice, in each folder that Python imports from.
_optimizer.is_lomo_available = functools.cache(_optimizer.is_lomo_available)

MIXED_PRECISION = {torch.bfloat16: "bf16", torch.float16: "fp16", None: "no"}


def autocast_dtype(precision: str, *, device: torch.device, weights: torch.dtype) -> torch.dtype | None:
    """The type that autocast computes in, or None for no autocast.

    A base in bfloat16 or float16 under float32 adapters always needs autocast: without it the float32 head would meet
    half-precision activations. ``auto`` is bfloat16 on CUDA devices that have it, and nothing on CPU.

    Args:
        precision: As the recipe says.
        device: Where it is computed.
        weights: The type of the base's weights.

    Raises:
        ConfigError: float32 computation over half-precision weights.
    """
    if precision == "float32" and weights != torch.float32:
        raise ConfigError(
            f"training.precision float32 does not go with model.dtype {str(weights).removeprefix('torch.')}",
            hint="Set model.dtype to float32, or training.precision to auto.",
        )
    if precision == "auto":
        if weights != torch.float32:
            return weights
        return torch.bfloat16 if device.type == "cuda" and card_has_bfloat16() else None
    return None if precision == "float32" else getattr(torch, precision)


def check_training_precision(computation: torch.dtype | None, *, device: torch.device) -> None:
    """Refuse to train in float16 on CPU.

    Raises:
        ConfigError: It is asked for. Gradients in float16 need a scale that changes while training, which accelerate
            keeps on GPUs only; on CPU it would compute in no autocast at all.
    """
    if computation == torch.float16 and device.type == "cpu":
        raise ConfigError(
            "float16 is for training on a GPU, and this run is on CPU",
            hint="Set model.dtype and training.precision to bfloat16 or float32.",
        )


def why_slow(*kinds: torch.dtype | None, device: torch.device) -> str | None:
    """What a person should hear where a card computes in a type that it only emulates; None: it does not.

    Args:
        kinds: Of the base's weights, and of the computation.
        device: Where it is computed.
    """
    if device.type != "cuda" or torch.bfloat16 not in kinds or card_has_bfloat16():
        return None
    return (
        "this card does not compute in bfloat16 itself, and takes many times longer: set model.dtype, and "
        "training.precision where the recipe has it, to float16"
    )


def build_accelerator(
    *, computation: torch.dtype | None, tracking: list[str], folder: Path, device: torch.device | None = None
) -> Accelerator:
    """An accelerator for one run; an earlier run of this process leaves no trace in it."""
    _forget_earlier_runs()
    if device is not None and device.type == "cuda":
        spare_nccl_missing_ways()
    with _only_where_joined():
        accelerator = Accelerator(
            cpu=device is not None and device.type == "cpu",  # else it takes what accelerator there is, a Mac's too
            mixed_precision=MIXED_PRECISION[computation],
            log_with=list(tracking) or None,
            project_dir=folder / "tracking" if tracking else None,
        )
    if device is not None and device.type == "cuda":
        return _at(accelerator, device)
    return _on_one_cpu(accelerator)


def build_shapes_accelerator(computation: torch.dtype | None) -> Accelerator:
    """An accelerator for a model that has shapes only: it moves nothing to a device.

    Args:
        computation: As in a run; float16, which accelerate refuses without a GPU, counts as bfloat16: it is as large.
    """
    _forget_earlier_runs()
    precision = "bf16" if computation is torch.float16 else MIXED_PRECISION[computation]
    with _only_where_joined():
        return _on_one_cpu(Accelerator(mixed_precision=precision, cpu=True, device_placement=False))


def _on_one_cpu(accelerator: Accelerator) -> Accelerator:
    """Among several processes accelerate numbers CPUs, and tensors of shapes alone are on no numbered one."""
    return _at(accelerator, torch.device("cpu")) if accelerator.device.type == "cpu" else accelerator


def _at(accelerator: Accelerator, device: torch.device) -> Accelerator:
    """An accelerator on the device that the run has; accelerate goes by what launchers set, and makes it current."""
    # The second is what accelerate takes up again whenever it asks for the first.
    accelerator.state.device = PartialState().device = device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return accelerator


@contextlib.contextmanager
def _only_where_joined() -> Iterator[None]:
    """Let accelerate see what launchers set only where peftlab has joined the processes.

    A job of one process has the number of that one on its machine, too, and accelerate would wait for others.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        yield
        return
    names = {"LOCAL_RANK", "RANK", *(name for size, own in STARTED_BY.items() for name in (size, *own))}
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def spare_nccl_missing_ways() -> None:
    """Keep NCCL from ways between cards that these do not have: several RTX 40 under drivers before 550.

    ``accelerate launch`` does so, too; without it accelerate refuses, also to compute on one of them.
    """
    if not check_cuda_p2p_ib_support():
        for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
            os.environ.setdefault(name, "1")


def _forget_earlier_runs() -> None:
    """Another run of this process may have chosen another precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def start_trackers(accelerator: Accelerator, *, name: str, recipe: dict[str, Any], offline: bool) -> None:
    """Open the trackers, with the recipe as the run's configuration.

    Args:
        accelerator: Of the run.
        name: Of the recipe.
        recipe: In plain types.
        offline: Allow no network; mlflow writes to files where nothing else is set.
    """
    wandb = {"name": name} | ({"mode": "offline"} if offline else {})
    accelerator.init_trackers(
        "peftlab",
        config=_flatten(recipe),
        init_kwargs={"wandb": wandb, "mlflow": {"run_name": name}},
    )


def end_trackers(accelerator: Accelerator) -> None:
    """Close the trackers; accelerate's own ``end_training`` would part the processes, too."""
    for tracker in accelerator.trackers:
        tracker.finish()


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones, with values that every tracker takes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat
