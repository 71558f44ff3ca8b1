"""Which modules of a model are its task's head: new ones, which train with every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from peftlab.core.fixed_bias import fix_bias
from peftlab.core.task import Head
from peftlab.core.tensors import output_layer


def find_head_modules(model: PreTrainedModel, head: Head, info: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules that a checkpoint does not hold, and that train with every method.

    Args:
        model: With the head.
        head: What the task needs.
        info: ``missing_keys`` and ``mismatched_keys`` of the checkpoint, as transformers tells them.
    """
    return _new_modules(model, info) if head.is_new else _missing_modules(model, info)


def settle_bias(model: PreTrainedModel, head: Head, head_modules: Sequence[str]) -> None:
    """Fix the bias of a new head's last layer where the task says that it does not train; in place.

    Args:
        model: With the head.
        head: What the task needs.
        head_modules: From :func:`find_head_modules`.
    """
    if head.bias_trains or not head.is_new:
        return
    layer = output_layer(model, int(head.config["num_labels"]))
    names = [name for name, module in model.named_modules() if module is layer]
    if layer is not None and any(f"{name}.".startswith(f"{own}.") for name in names for own in head_modules):
        fix_bias(layer)


def _new_modules(model: PreTrainedModel, info: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules outside the base, and those inside it that the checkpoint lacks, such as BERT's pooler.

    Not every one of them is named ``classifier`` or ``score``: DistilBERT's ``pre_classifier`` is one too, and would
    silently stay random, and unsaved, if it were left out.
    """
    prefix = model.base_model_prefix
    new = {name for name, child in model.named_children() if name != prefix and _has_parameters(child)}
    missing = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    for key in missing:
        module = key.rpartition(".")[0]
        if module and not any(module == name or module.startswith(f"{name}.") for name in new):
            new.add(module)
    return tuple(sorted(new))


def _missing_modules(model: PreTrainedModel, info: Mapping[str, Any]) -> tuple[str, ...]:
    """The layers of a language model's own head that the checkpoint lacks; its bias, which starts at zero, stays.

    The layer over the vocabulary is never one of them: its matrix is the embeddings'.
    """
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    names = {str(key).rpartition(".")[0] for key in info["missing_keys"]}
    modules = {name: model.get_submodule(name) for name in names if name}
    leaves = {name: module for name, module in modules.items() if not list(module.children())}
    return tuple(sorted(name for name, module in leaves.items() if module is not output))


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
