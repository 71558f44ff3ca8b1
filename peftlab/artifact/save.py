"""What a run leaves: an adapter that plain peft loads, a whole model that plain transformers loads, or a small delta.

The tokenizer and the model's config (with the names of the labels) travel with it. Safetensors only.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
from safetensors.torch import save_file
from torch import Tensor, nn

from peftlab.artifact.token_rows import named_for_peft, write_rows_for_peft
from peftlab.core.files import atomic_folder
from peftlab.core.fixed_bias import fixed_biases
from peftlab.core.method import Method, MethodContext
from peftlab.core.record import ADAPTER, MODEL

DELTA_CONFIG = "peftlab_adapter.json"
DELTA_WEIGHTS = "adapter_model.safetensors"
DELTA_FORMAT = 1


def save_artifact(
    model: Any,
    method: Method,
    *,
    folder: Path,
    tokenizer: Any,
    context: MethodContext,
    base_path: str,
    companions: Mapping[str, str] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Path:
    """Save what was trained.

    Args:
        model: Trained, on any device.
        method: That wrapped it.
        folder: The run's; ``adapter/`` or ``model/`` is made in it, whole or not at all.
        tokenizer: Travels with it.
        context: Of the run.
        base_path: What plain transformers loads the base from; written into the adapter's config.
        companions: Files of other tools, by their path; they go with whole models only.
        weights: Of a whole model whose own are in parts; None: the model's own.

    Returns:
        The folder that was made.
    """
    target = folder / (MODEL if method.trains_base else ADAPTER)
    with atomic_folder(target) as partial:
        if isinstance(model, peft.PeftModel):
            _save_peft(model, method, partial, base_path)
        elif method.trains_base:
            model.save_pretrained(partial, **({} if weights is None else {"state_dict": dict(weights)}))
        else:
            _save_delta(model, method, partial, context, base_path)
        tokenizer.save_pretrained(partial)
        if method.trains_base:
            write_companions(companions or {}, partial)
    return target


def write_companions(files: Mapping[str, str], folder: Path) -> None:
    """Write files of other tools, by their path, into a folder."""
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def tensors_to_save(model: Any, method: Method) -> dict[str, Tensor]:
    """What the artifact of a trained model must hold, by its names in the file.

    Args:
        model: Trained and just saved.
        method: That wrapped it.
    """
    tensors = method.saved_tensors(model, loaded_tensors(model, method))
    return named_for_peft(model, tensors) if isinstance(model, peft.PeftModel) else tensors


def loaded_tensors(model: Any, method: Method) -> dict[str, Tensor]:
    """What a model holds of an artifact that it was loaded from, by the names in the file."""
    if isinstance(model, peft.PeftModel):
        return dict(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
    if method.trains_base:
        return dict(model.state_dict())
    return delta_tensors(model)


def delta_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a delta holds of a model: the parameters that train, and the bias of a head that does not."""
    trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {**trained, **fixed_biases(model)}


def _save_peft(model: Any, method: Method, folder: Path, base_path: str) -> None:
    for config in model.peft_config.values():
        config.base_model_name_or_path = base_path
    method.before_save(model)
    model.save_pretrained(folder, save_embedding_layers=False)
    method.after_save(model, folder)
    write_rows_for_peft(model, folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty form
    model.config.save_pretrained(folder)


def _save_delta(model: Any, method: Method, folder: Path, context: MethodContext, base_path: str) -> None:
    """Exactly what was trained, and what is needed to put it back in."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in delta_tensors(model).items()}
    save_file(tensors, folder / DELTA_WEIGHTS)
    description = {
        "format": DELTA_FORMAT,
        "method": method.model_dump(mode="json"),
        "context": dataclasses.asdict(context),
        "base_model_name_or_path": base_path,
    }
    (folder / DELTA_CONFIG).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    model.config.save_pretrained(folder)
