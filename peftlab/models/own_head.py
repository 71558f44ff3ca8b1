"""A base that is a classifier already: its head is kept where its classes are the data's, row by row; else a new one.

transformers keeps whatever head has the right size. Its rows stand in the order of the checkpoint's own classes,
which no recipe knows: a model that is perfect would begin as one that is always wrong, or seem to have learned what it
was given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from peftlab.core.task import Head
from peftlab.core.tensors import output_layer

_NO_NAME = re.compile(r"LABEL_\d+")
UNIT = ("target_mean", "target_scale", "logits_in_unit_of_targets")
"""What a config of peftlab's says of a regressor's outputs."""


def fit_own_head(model: PreTrainedModel, own: Any, head: Head, info: Mapping[str, Any]) -> str:
    """Make the head that a checkpoint brought mean what the recipe's data mean; in place.

    Args:
        model: As transformers has loaded it.
        own: The checkpoint's config, as it was.
        head: What the task needs.
        info: ``missing_keys`` and ``mismatched_keys`` of the checkpoint.

    Returns:
        What was done, in a sentence; empty where the checkpoint has no head.
    """
    if not head.is_new:
        return ""
    layer = output_layer(model, int(head.config["num_labels"]))
    name = next((name for name, module in model.named_modules() if module is layer), None)
    absent = {str(key) for key in info["missing_keys"]}
    other_size = {str(key) for key, *_ in info["mismatched_keys"]}
    if layer is None or name is None or f"{name}.weight" in absent:
        return ""
    if f"{name}.weight" in other_size:
        _start_anew(model)
        return f"the base's own head has another number of outputs ({_outputs(own)}): a new one starts"
    if "id2label" not in head.config and "problem_type" not in head.config:
        return "the base's own head is kept"  # its outputs mean the same in every checkpoint, as those of spans do
    if head.config.get("problem_type") == "regression":
        return _fit_regressor(model, layer, own, head)
    return _fit_classifier(model, layer, own, head)


def _fit_classifier(model: PreTrainedModel, layer: nn.Linear, own: Any, head: Head) -> str:
    labels = [str(head.config["id2label"][row]) for row in range(layer.out_features)]
    names = [str(own.id2label.get(row, f"LABEL_{row}")) for row in range(layer.out_features)]
    kind, own_kind = head.config.get("problem_type"), getattr(own, "problem_type", None)
    rows = _rows_by_name(names, labels)
    if rows is None or (kind and own_kind and kind != own_kind):
        _start_anew(model)
        if rows is not None:
            return f"the base's own head was tuned for {own_kind}, not {kind}: a new one starts"
        shown = "have no names" if all(map(_NO_NAME.fullmatch, names)) else f"are {', '.join(names[:6])}"
        return f"the classes of the base's own head {shown}, and not those of the data: a new one starts"
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter[rows].clone())
    order = "in the same order" if rows == sorted(rows) else "its rows put in the order of the data's classes, by name"
    return f"the base's own head is kept, {order}: {', '.join(labels[:6])}{' …' if len(labels) > 6 else ''}"


def _rows_by_name(names: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """The row of each label in a head whose rows have names; None: they are not the same classes."""
    for spelling in (str, lambda name: " ".join(name.split()).casefold()):
        rows = {spelling(name): row for row, name in enumerate(names)}
        wanted = [spelling(label) for label in labels]
        if len(rows) == len(names) and len(set(wanted)) == len(wanted) and set(rows) == set(wanted):
            return [rows[label] for label in wanted]
    return None


def _fit_regressor(model: PreTrainedModel, layer: nn.Linear, own: Any, head: Head) -> str:
    if getattr(own, "problem_type", None) != "regression":
        _start_anew(model)
        return "the base's own head is not one of regression: a new one starts"
    mean, scale = _unit(vars(own))
    new_mean, new_scale = _unit(head.notes)
    shift, factor = (mean - new_mean) / new_scale, scale / new_scale
    if layer.bias is None and abs(shift) > 1e-6:
        _start_anew(model)
        return (
            "the base's own head has no bias by which its outputs could get the unit of the targets: a new one starts"
        )
    with torch.no_grad():
        layer.weight.mul_(factor)
        if layer.bias is not None:
            layer.bias.mul_(factor).add_(shift)
    return "the base's own head is kept, its outputs turned into the unit in which targets are learned"


def _unit(values: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and spread of what a head's 0 and 1 stand for; without a word of it they stand for themselves."""
    mean, scale, is_complete = (values.get(name) for name in UNIT)
    return (0.0, 1.0) if is_complete or mean is None or scale is None else (float(mean), float(scale))


def _outputs(own: Any) -> str:
    return f"{own.num_labels}: {', '.join(str(name) for name in list(own.id2label.values())[:6])}"


def _start_anew(model: PreTrainedModel) -> None:
    """Draw the modules outside the base again, as the architecture draws new ones."""
    for name, child in model.named_children():
        if name == model.base_model_prefix:
            continue
        for module in child.modules():
            for parameter in module.parameters(recurse=False):
                # transformers leaves alone what this marks as read from the checkpoint.
                if hasattr(parameter, "_is_hf_initialized"):
                    del parameter._is_hf_initialized
            if hasattr(module, "_is_hf_initialized"):
                del module._is_hf_initialized
            model._init_weights(module)  # type: ignore[no-untyped-call]
