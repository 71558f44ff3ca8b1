"""Fold what was tuned into the base's own weights, so that plain transformers runs the result."""

from __future__ import annotations

from typing import Any

from peftlab.core.added_rows import fold_rows
from peftlab.core.errors import UnsupportedError, first_line
from peftlab.core.method import Method, mergeable_methods


def merge(model: Any, method: Method) -> Any:
    """Merge a tuned model.

    Args:
        model: As loaded from an artifact; it is changed in place.
        method: That tuned it.

    Returns:
        A ``PreTrainedModel`` without any adapter.

    Raises:
        UnsupportedError: What the method has trained is no change of the base's weights.
    """
    check_mergeable(method)
    import peft

    try:
        if isinstance(model, peft.PeftModel):
            _take_trained_modules(model)
            model = model.merge_and_unload(safe_merge=True)
    except (AttributeError, ValueError) as error:
        raise UnsupportedError(
            f"peft cannot merge {method.registered_name} in this model: {first_line(error)}",
            hint="Export it as onnx, or use its adapter/ with peft.",
        ) from None
    fold_rows(model)
    return model


def _take_trained_modules(model: Any) -> None:
    """Put modules that were trained whole, such as the head, into the places of the base's own.

    Most of peft's methods take a weight of every module that they unload, and a head of several layers, such as
    RoBERTa's, has none of its own.
    """
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[module.active_adapters[0]])


def check_mergeable(method: Method) -> None:
    """Refuse a method whose runs cannot be merged; quick, and before anything is loaded.

    Raises:
        UnsupportedError: What the method has trained is no change of the base's weights.
    """
    if not method.mergeable:
        raise UnsupportedError(
            f"what {method.registered_name} trains cannot be folded into the base's weights",
            hint=f"Methods that merge: {mergeable_methods()}.",
        )
