"""A mixture's experts, which transformers holds as one tensor for all of a layer, and layers that peft takes for them.

In checkpoints of before, each expert was made of layers such as ``gate_proj``. peft 0.21 turns such names, by their end
alone, into those of the experts' tensors. So it takes the shared expert of DeepSeek-V3 and Qwen2-MoE, and dense layers
beside a mixture, for parts of the experts: these would be adapted in their place, without a word. Here layers are what
their names say. In the file such a layer stands among ``target_parameters``, where plain peft puts the same update on.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UnsupportedError, did_you_mean
from peftlab.core.method import MethodContext
from peftlab.core.model_facts import ModelFacts

if TYPE_CHECKING:
    from torch import nn

ALL_EXPERTS = "all-experts"
CONFIG = "adapter_config.json"

_one_at_a_time = threading.RLock()


def expert_parameters(model: nn.Module) -> list[str]:
    """Full names of the frozen or trained tensors that hold several matrices, one for each expert.

    The kernel of a convolution has three dimensions too, and is none.
    """
    from torch.nn.modules.conv import _ConvNd

    return [
        f"{name}.{key}"
        for name, module in model.named_modules()
        for key, weight in module.named_parameters(recurse=False)
        if weight.ndim == 3 and weight.shape[0] > 1 and name and not isinstance(module, _ConvNd)
    ]


def resolve_parameters(model: nn.Module, targets: str | Sequence[str] | None, context: MethodContext) -> list[str]:
    """The full names of the experts' tensors that a recipe means.

    Args:
        model: The base model with its head.
        targets: ``all-experts``, or names that are the end of a tensor's full name, dot by dot; None: none.
        context: Names the head's modules, which are left out.

    Raises:
        UnsupportedError: A name matches nothing, or the model has no experts.
    """
    if targets is None:
        return []
    heads = tuple(f"{head}." for head in context.head_modules)
    known = [name for name in expert_parameters(model) if not name.startswith(heads)]
    if not known:
        raise _no_experts(type(model).__name__)
    if targets == ALL_EXPERTS:
        return known
    for target in targets:
        if not any(_ends_with(name, target) for name in known):
            raise UnsupportedError(
                f"`{target}` matches no tensor of experts of {type(model).__name__}",
                where="method.target_parameters",
                hint=did_you_mean(target, {_last(name) for name in known}),
            )
    return [name for name in known if any(_ends_with(name, target) for target in targets)]


def check_parameters(facts: ModelFacts, targets: str | Sequence[str] | None) -> None:
    """Refuse experts of a model that has none, by what is known without the weights.

    Checkpoints have other names than models, and so the names themselves are looked at later.

    Raises:
        UnsupportedError: There are none.
    """
    shapes = facts.weights or {}
    if targets and shapes and not any("expert" in name or len(shape) == 3 for name, shape in shapes.items()):
        raise _no_experts(facts.path)


def check_dora(model: Any, layers: Sequence[str]) -> None:
    """Refuse DoRA on layers that stand in the file as parameters, for which peft has none.

    Raises:
        UnsupportedError: Naming one.
    """
    former = _former_names(model.config.model_type)
    found = next((name for name in layers if _last(name) in former), None)
    if found is not None:
        raise UnsupportedError(
            f"peft takes {found} of {type(model).__name__} for a part of its experts, for which it has no DoRA",
            where="method.dora",
            hint="Set it to false, or name other layers in method.target_modules.",
        )


@contextlib.contextmanager
def layers_as_named() -> Iterator[None]:
    """Let peft put adapters on the layers that are named, and on no experts in their place."""
    from peft.utils import transformers_weight_conversion as conversion

    with _one_at_a_time:
        own = conversion.convert_peft_config_for_transformers
        conversion.convert_peft_config_for_transformers = lambda *_, **__: None
        try:
            yield
        finally:
            conversion.convert_peft_config_for_transformers = own


def write_for_plain_peft(model: Any, folder: Path) -> None:
    """Write the names of layers that peft takes for experts as those of parameters, which it leaves as they are.

    Dropout, which it has not for parameters, is over with training.
    """
    file = folder / CONFIG
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    former = _former_names(model.config.model_type)
    layers = [name for name in model.base_model.targeted_module_names if _last(name) in former]
    if not layers:
        return
    # peft has shortened the names where it could, but not their ends.
    config["target_modules"] = [name for name in config["target_modules"] if _last(name) not in former]
    parameters = {*(config["target_parameters"] or []), *(f"{name}.weight" for name in layers)}
    config["target_parameters"] = sorted(parameters)
    config["lora_dropout"] = 0.0
    file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path, base: nn.Module) -> Any:
    """The config of an adapter, with layers among the modules again; see ``write_for_plain_peft``.

    Args:
        folder: The adapter's.
        base: That it is put on.
    """
    import peft
    from torch import nn

    config: Any = peft.PeftConfig.from_pretrained(str(folder))
    if not getattr(config, "target_parameters", None):
        return config
    linear = {f"{name}.weight" for name, module in base.named_modules() if isinstance(module, nn.Linear)}
    layers = linear.intersection(config.target_parameters)
    config.target_modules = {*(config.target_modules or []), *(name.removesuffix(".weight") for name in layers)}
    config.target_parameters = [name for name in config.target_parameters if name not in layers] or None
    return config


def _former_names(model_type: str) -> set[str]:
    """The last words of layers that peft takes for parts of experts, by its own tables."""
    from peft.utils import transformers_weight_conversion as conversion

    pattern = conversion._MODEL_TO_CONVERSION_PATTERN.get(model_type)
    return set(conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, {}))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _no_experts(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} has no experts that lie in one tensor",
        where="method.target_parameters",
        hint="Leave it out: all other matrices are layers, which method.target_modules names.",
    )
