"""Put what an earlier run learned into a model that its method has just wrapped: training goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from peftlab.artifact.files import check_adapter, check_model
from peftlab.artifact.save import DELTA_WEIGHTS, loaded_tensors, tensors_to_save
from peftlab.artifact.whole_model import load_model
from peftlab.core.changed_settings import changed_settings
from peftlab.core.errors import UnsupportedError
from peftlab.core.method import Method
from peftlab.core.record import ADAPTER, MODEL


def take_up(model: nn.Module, method: Method, folder: Path, *, before: Method | None = None) -> None:
    """Set the weights of a wrapped model to those of an earlier run.

    Args:
        model: As ``method.apply`` has made it.
        method: Of this run.
        folder: Of the earlier run.
        before: The earlier run's method, to tell what was changed since.

    Raises:
        UserError: The earlier run's files are damaged.
        UnsupportedError: What it saved is not what trains, so that training cannot go on from it.
    """
    if method.trains_base:
        check_model(folder / MODEL)
        saved = dict(load_model(folder / MODEL).state_dict())
    else:
        check_adapter(folder / ADAPTER)
        saved = load_file(folder / ADAPTER / DELTA_WEIGHTS)
    wanted = dict(method.taken_up(saved, tensors_to_save(model, method)))
    try:
        _put(model, method, wanted)
    except (RuntimeError, KeyError, ValueError) as error:
        changed = changed_settings(before.model_dump(), method.model_dump(), "method") if before else []
        if before and changed and before.registered_name == method.registered_name:
            raise UnsupportedError(
                f"the weights of the earlier run do not fit: {'; '.join(changed[:3])}",
                where=str(folder),
                hint="Keep the method's settings.",
            ) from None
        raise _misfit(method, folder, str(error).strip().splitlines()[-1].strip()) from None
    found = tensors_to_save(model, method)
    other = found.keys() ^ wanted.keys()
    other |= {
        name for name in found.keys() - other if not torch.equal(found[name].cpu(), wanted[name].to(found[name].dtype))
    }
    if other:
        raise _misfit(method, folder, f"{min(other)} is another one")


def _put(model: Any, method: Method, tensors: Mapping[str, Tensor]) -> None:
    if isinstance(model, peft.PeftModel):
        peft.set_peft_model_state_dict(model, dict(tensors))
        return
    own = loaded_tensors(model, method)
    with torch.no_grad():
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(f"{name} is {tuple(tensors[name].shape)} there and {tuple(tensor.shape)} here")
            tensor.copy_(tensors[name])


def _misfit(method: Method, folder: Path, detail: str) -> UnsupportedError:
    return UnsupportedError(
        f"training cannot go on from what this run of {method.registered_name} saved: {detail}",
        where=str(folder),
        hint="Keep the method's settings. If they are the same: set `model.path` to the run, which begins a new "
        "adapter on its model, where the method can be merged.",
    )
