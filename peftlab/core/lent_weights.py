"""Other values for some of a model's parameters, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextlib.contextmanager
def lent_weights(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """A model with other values of some parameters, as long as the context lasts. Nothing is copied.

    Args:
        model: Any.
        values: By the parameters' names.
    """
    import torch

    parameters = {name: model.get_parameter(name) for name in values}
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, value in values.items():
            parameters[name].data = value
        torch.clear_autocast_cache()  # it keeps weights in half precision, and goes by the parameter alone
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value
        torch.clear_autocast_cache()
