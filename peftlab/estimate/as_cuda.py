"""What CUDA's kernels keep, on fake tensors of the CPU: autocast's other policy, and dropout's smaller mask.

Under autocast CUDA computes norms, softmax, sums and losses in float32, and keeps their inputs in it; CPU does not. A
build of torch for CPU cannot take derivatives of fake tensors that say ``cuda``, so torch's dispatcher is told what
CUDA would do with those that say ``cpu``.
https://docs.pytorch.org/docs/stable/amp.html#cuda-op-specific-behavior
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_iter, tree_map

AUTOCAST = DispatchKey.AutocastCPU
LOWER = frozenset(
    {"_convolution", "convolution", "addmv", "addr", "einsum", "mv", "chain_matmul", "linalg_multi_dot",
     "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell",
     "_scaled_dot_product_flash_attention"}
)  # fmt: skip
"""Operations that CUDA's autocast, but not CPU's, computes in the lower type."""
PROMOTED = frozenset(
    {"addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "index_put", "tensordot", "scatter_add"}
)
"""In the widest type of their inputs."""
OWN = frozenset({"cudnn_convolution", "cudnn_convolution_transpose"})
"""Nobody calls these with a tensor of the CPU. All others are computed in float32."""


@contextlib.contextmanager
def as_on_cuda() -> Iterator[None]:
    """Let fake tensors be computed by CUDA's rules, as long as the context lasts; real ones are left alone."""
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Warning only once for all operators")
            for name in differing_operations():
                overload = _overload(name)
                library.impl(overload, _autocast(overload), "AutocastCPU", with_keyset=True)
            library.impl("dropout", _dropout, "AutogradCPU")
        with _asked_of_cuda():
            yield
    finally:
        library._destroy()


@contextlib.contextmanager
def _asked_of_cuda() -> Iterator[None]:
    """Answer what CUDA's autocast does by what CPU's does: peft's quantised layers ask for it by no name."""
    own = torch.is_autocast_enabled, torch.get_autocast_dtype

    def is_enabled(device_type: str = "cuda") -> bool:
        return bool(own[0]("cpu" if device_type == "cuda" else device_type))

    def dtype_of(device_type: str = "cuda") -> torch.dtype:
        return own[1]("cpu" if device_type == "cuda" else device_type)

    with (
        mock.patch.object(torch, "is_autocast_enabled", is_enabled),
        mock.patch.object(torch, "get_autocast_dtype", dtype_of),
        mock.patch.object(torch, "get_autocast_gpu_dtype", dtype_of),
    ):
        yield


def differing_operations() -> list[str]:
    """Operations of torch that one autocast knows and the other does not; torchvision registers some of its own."""
    known = [
        {
            name
            for name in torch._C._dispatch_get_registrations_for_dispatch_key(f"Autocast{device}")
            if name.startswith("aten::")
        }
        for device in ("CPU", "CUDA")
    ]
    return sorted(name for name in known[0] ^ known[1] if name.partition("::")[2].partition(".")[0] not in OWN)


def _overload(name: str) -> Any:
    packet, _, overload = name.partition("::")[2].partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _autocast(overload: Any) -> Callable[..., Any]:
    """An operation under CUDA's autocast; one that this does not know is left as it is."""
    is_known = torch._C._dispatch_has_kernel_for_dispatch_key(overload.name(), "AutocastCUDA")

    def run(keys: DispatchKeySet, *args: Any, **kwargs: Any) -> Any:
        if not is_known or not any(isinstance(item, FakeTensor) for item in tree_iter((args, kwargs))):
            return overload.redispatch(keys.remove(AUTOCAST), *args, **kwargs)
        chosen, args, kwargs = _by_policy(overload, args, kwargs)
        with torch._C._ExcludeDispatchKeyGuard(DispatchKeySet(AUTOCAST)):
            return chosen(*args, **kwargs)

    return run


def _by_policy(overload: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], Any]:
    """The operation and its inputs as CUDA's autocast makes them."""
    name = overload._schema.name.partition("::")[2]
    if name in LOWER:
        return overload, *_cast((args, kwargs), torch.get_autocast_dtype("cpu"))
    if name in PROMOTED:
        kinds = {item.dtype for item in tree_iter((args, kwargs)) if _is_cast(item)}
        return overload, *_cast((args, kwargs), torch.float32 if torch.float32 in kinds or not kinds else kinds.pop())
    if name == "norm":
        return _norm_in_float32(overload, args)
    places = {argument.name: place for place, argument in enumerate(overload._schema.arguments)}
    if "dtype" not in places:
        return overload, *_cast((args, kwargs), torch.float32)
    given = args[places["dtype"]] if len(args) > places["dtype"] else kwargs.get("dtype")
    if given is None and _is_cast(args[0]):  # the inputs stay as they are, and are summed up in float32
        args, kwargs = args[: places["dtype"]], {**kwargs, "dtype": torch.float32}
    return overload, args, kwargs


def _norm_in_float32(overload: Any, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    if not _is_cast(args[0]):
        return overload, args, {}
    if overload._overloadname == "Scalar":
        power = args[1] if len(args) > 1 else 2
        return torch.ops.aten.norm.ScalarOpt_dtype, (args[0], power), {"dtype": torch.float32}
    keep = args[3] if len(args) > 3 else False
    return torch.ops.aten.norm.ScalarOpt_dim_dtype, (*args[:3], keep), {"dtype": torch.float32}


def _cast(inputs: Any, kind: torch.dtype) -> Any:
    return tree_map(lambda item: item.to(kind) if _is_cast(item) else item, inputs)


def _is_cast(item: Any) -> bool:
    """Whether autocast looks at it: a tensor of floats, of 32 bits at most."""
    return isinstance(item, Tensor) and item.is_floating_point() and item.dtype != torch.float64


def _dropout(states: Tensor, probability: float, train: bool) -> Tensor:
    """Its kernel for CUDA keeps which numbers stayed, in a byte each; that for CPU keeps their factors."""
    if not train or probability == 0 or not states.numel():
        return states
    return torch.native_dropout(states, probability, train)[0]
