"""Several LoRA adapters of one base as one set of weights.

peft's own ``add_weighted_adapter`` combines the factors A and B apart, which is not the combination of the updates
B A, or cuts the result to a rank; and it refuses adapters that bring a head. So its functions are used on the updates
themselves, and the result goes straight into the base's weights, exactly and for any ranks:

- linear: the weighted sum (task arithmetic, https://arxiv.org/abs/2212.04089),
- ties: small values are dropped and signs are elected first (https://arxiv.org/abs/2306.01708),
- dare: values are dropped at random, and the rest scaled up, first (https://arxiv.org/abs/2311.03099).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import peft
import torch
from peft.tuners.lora import LoraLayer
from peft.utils.merge_utils import dare_linear, task_arithmetic, ties
from torch import Tensor, nn

from peftlab.core.errors import UnsupportedError, UserError

Combination = Literal["linear", "ties", "dare"]
Combine = Callable[[list[Tensor]], Tensor]


def compose(
    models: Sequence[Any], weights: Sequence[float], combination: Combination, *, density: float, seed: int
) -> Any:
    """Put the combined updates of several adapters into one base.

    Args:
        models: ``PeftModel`` each, of equal bases; the first is changed in place.
        weights: One a model. Updates are multiplied by them; heads are averaged by them.
        combination: How updates are combined.
        density: The share of an update's values that ties and dare keep.
        seed: Of the values that dare drops.

    Returns:
        A ``PreTrainedModel`` without any adapter.

    Raises:
        UnsupportedError: A model is no plain LoRA.
        UserError: The heads differ in shape.
    """
    for model in models:
        check_combinable(model)
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        with torch.no_grad():
            _combine_updates(models, _function(combination, torch.tensor(list(weights)), density))
            _average_heads(models, torch.tensor(list(weights)))
    finally:
        torch.set_rng_state(generator_state)
    return models[0].unload()


def check_combinable(model: Any, *, where: str | None = None) -> None:
    """Check that a model is one whose update can be combined with others.

    Raises:
        UnsupportedError: It is no plain LoRA.
    """
    config = model.active_peft_config if isinstance(model, peft.PeftModel) else None
    if not isinstance(config, peft.LoraConfig) or isinstance(config, peft.AdaLoraConfig) or config.use_dora:
        raise UnsupportedError(
            "only LoRA adapters (without dora) can be combined", where=where, hint="Export each run by itself."
        )
    if config.trainable_token_indices:
        raise UnsupportedError(
            "adapters with embeddings of added tokens cannot be combined", hint="Export each run by itself."
        )


def _function(combination: Combination, weights: Tensor, density: float) -> Combine:
    merge = ties if combination == "ties" else dare_linear

    def combine(updates: list[Tensor]) -> Tensor:
        shares = weights.to(updates[0].device)
        if combination == "linear":
            return cast("Tensor", task_arithmetic(updates, shares))
        return cast("Tensor", merge(updates, shares, density))

    return combine


def _combine_updates(models: Sequence[Any], combine: Combine) -> None:
    layers = [{_matrix_of(name, one): one for name, one in _modules(model, LoraLayer).items()} for model in models]
    matrices = {name.replace(".base_layer", ""): tensor for name, tensor in models[0].named_parameters()}
    for name in sorted({name for own in layers for name in own}):
        target = matrices[name]
        updates = [own[name].get_delta_weight("default") if name in own else torch.zeros_like(target) for own in layers]
        target.add_(combine(updates).to(target.dtype))


def _matrix_of(name: str, layer: Any) -> str:
    """The base's own name of what a layer of peft's updates: of a mixture's experts one stands around another."""
    return f"{name.replace('.base_layer', '')}.{getattr(layer, 'parameter_name', 'weight')}"


def _average_heads(models: Sequence[Any], weights: Tensor) -> None:
    shares = weights / weights.sum()
    heads = [_modules(model, peft.utils.ModulesToSaveWrapper) for model in models]
    for name in heads[0]:
        own = [dict(head[name].modules_to_save["default"].named_parameters()) for head in heads]
        for key, parameter in own[0].items():
            if any(each[key].shape != parameter.shape for each in own):
                raise UserError("the heads differ in shape: the runs have other classes")
            parameter.copy_(sum(share * each[key] for share, each in zip(shares, own, strict=True)))


def _modules(model: Any, kind: type) -> dict[str, Any]:
    named: dict[str, nn.Module] = dict(model.named_modules())
    return {name: module for name, module in named.items() if isinstance(module, kind)}
