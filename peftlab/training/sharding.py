"""A base in parts: each process holds its share of every block's matrices, and all gather a block when it computes.

torch's FSDP2 does it (``fully_shard``, https://arxiv.org/abs/2304.11277). Adapters and heads over a frozen base are
small: they stay whole in each process, and the loop adds their gradients up as ever. Where the base itself trains, all
of it is in parts, and so are its gradients and the optimizer's state.

Every forward and backward pass exchanges something, so all processes must do as many; see ``World.keeps_pace``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from peftlab.acceleration.compiled import find_blocks
from peftlab.core.errors import UnsupportedError
from peftlab.core.tensors import is_part

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True)
class Sharding:
    """How the models of a run are sharded.

    Args:
        mesh: The processes, as torch's sharded tensors know them; see :func:`mesh_of`.
        trains_base: Whether the base trains as a whole; else what trains stays whole in each process.
    """

    mesh: DeviceMesh
    trains_base: bool

    def shard(self, model: nn.Module, device: torch.device) -> None:
        """Leave this process's share of a model's parameters, on a device; the blocks come there one at a time.

        Args:
            model: Of transformers, under whatever wraps it.
            device: Where it computes.

        Raises:
            UnsupportedError: It has no blocks that are known.
        """
        from torch.distributed.fsdp import fully_shard

        blocks = find_blocks(model)
        if not blocks:
            raise UnsupportedError(
                "this model's blocks are not known, so its base cannot be sharded",
                where="training.sharding",
                hint="Set it to null.",
            )
        apart = set[nn.Parameter]()
        if not self.trains_base:
            apart = {parameter for parameter in model.parameters() if parameter.requires_grad}
        quantized = [module for module in model.modules() if getattr(module, "quant_state", None) is not None]
        for module in [*blocks, model]:
            part: Any = fully_shard(module, mesh=self.mesh, ignored_params=apart)
            # The loss of each process is its part of the sum already.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
        for layer in quantized:
            _note_scales(layer)
            layer.register_forward_pre_hook(_note_scales)


def _note_scales(layer: Any, _: Any = None) -> None:
    """Put the scales of a 4-bit matrix, which stay whole, where bitsandbytes looks for them: on what is the weight now.

    torch makes new parameters for the share and for the gathered matrix.
    """
    layer.weight.quant_state = layer.quant_state


def mesh_of(group: Any, device: torch.device) -> DeviceMesh:
    """A group of processes, each with a device of this type."""
    from torch.distributed.device_mesh import DeviceMesh

    return DeviceMesh.from_group(group, device.type)


def mesh_of_all(device: torch.device) -> DeviceMesh:
    """Torch's default group: all processes that are there, or only on paper."""
    from torch.distributed.distributed_c10d import _get_default_group

    return mesh_of(_get_default_group(), device)


@contextlib.contextmanager
def gathered_root(model: nn.Module) -> Iterator[None]:
    """What lies beside the blocks, such as embeddings, is whole as long as the context lasts, and in parts after it.

    For passes without a backward one: part of them call what is within the model, and not the model.
    """
    if not is_sharded(model):
        yield
        return
    root: Any = model
    root._get_fsdp_state()._lazy_init()  # else the first block that computes would take itself for the whole
    root.unshard()
    try:
        yield
    finally:
        root.reshard()


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds a part of the model only."""
    return hasattr(model, "_get_fsdp_state")


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor; all processes ask for the same one."""
    return tensor.full_tensor() if is_part(tensor) else tensor  # type: ignore[attr-defined]


def whole_tensors(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The whole of each tensor that is in parts, on CPU; one that stands under two names once. Others as they are.

    Args:
        tensors: The same in all processes.
        keep: Whether this process wants them; it takes part in any case.
    """
    made: dict[int, Tensor] = {}
    for tensor in tensors.values():
        if is_part(tensor) and id(tensor) not in made:
            found = whole(tensor.detach())
            made[id(tensor)] = found.cpu() if keep else found[:0].cpu()
    return {name: made.get(id(tensor), tensor) for name, tensor in tensors.items()}


def part_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Of a whole tensor the part that this process holds of a parameter of its shape; else the value as it is."""
    if not is_part(parameter) or is_part(value) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    sharded: Any = parameter
    mesh, placements = sharded.device_mesh, sharded.placements
    shape, start = compute_local_shape_and_global_offset(value.shape, mesh, placements)
    own = value[tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))]
    local = own.to(parameter.device).contiguous()
    found: Tensor = DTensor.from_local(
        local, mesh, placements, run_check=False, shape=value.shape, stride=parameter.stride()
    )
    return found


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients down to a length that they have together, over all processes.

    Args:
        parameters: In parts.
        limit: The greatest length.

    Returns:
        Their length before.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = whole(nn.utils.get_total_norm(gradients))
    nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
