"""From ``target_modules`` to the full names of modules: every name must match, and only what was meant does.

peft matches names by their end, skips what does not match, and its own ``all-linear`` takes a token classifier's head
for a layer of the base. So the names are resolved here, and peft is given the full ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import UnsupportedError, did_you_mean
from peftlab.core.method import MethodContext
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import Guard
from peftlab.core.tensors import count_weights
from peftlab.methods._experts import expert_parameters

if TYPE_CHECKING:
    from torch import nn

ALL_LINEAR = "all-linear"
MAMBA = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
"""Types whose fused kernels read the matrix of ``out_proj`` past its layer: peft refuses an update there."""

TRANSPOSED = frozenset({"gpt2", "openai-gpt"})
"""Types whose linear layers are transformers' ``Conv1D``, but for the head."""

WITHOUT_GRADIENT: Mapping[str, frozenset[str]] = {
    "dt_proj": frozenset({"falcon_mamba", "jamba", "mamba"}),
    "x_proj": frozenset({"falcon_mamba", "mamba"}),  # with the fused kernel of mamba-ssm
    "correction_coefs": frozenset({"gemma3n", "gemma3n_text"}),
}
"""Layers whose matrix their model reads in training past the layer, so that an update of it would learn nothing."""


def linear_modules(model: nn.Module, context: MethodContext) -> list[str]:
    """Full names of the linear layers of the base: no head, no embedding, no output embedding.

    transformers' ``Conv1D`` (GPT-2) counts, and so do the quantised layers of bitsandbytes, which derive from Linear.
    The routers of Llama 4 and Phi-MoE derive from it too, and give several tensors: they are none.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    output = getattr(model, "get_output_embeddings", lambda: None)()
    is_mamba = getattr(getattr(model, "config", None), "model_type", None) in MAMBA
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not output
        and not _in_head(name, context)
        and not (is_mamba and name.endswith(".out_proj"))
        and not (type(module).__module__.startswith("transformers.models.") and "forward" in vars(type(module)))
    ]


def resolve_targets(model: nn.Module, targets: str | Sequence[str], context: MethodContext) -> list[str]:
    """The full names of the modules that a recipe means.

    Args:
        model: The base model with its head.
        targets: ``all-linear``, or names that are the end of a module's full name, dot by dot.
        context: Names the head's modules, which are left out.

    Raises:
        UnsupportedError: A name matches nothing, or the model has no linear layer.
    """
    known = linear_modules(model, context)
    if targets == ALL_LINEAR:
        known = [name for name in known if not _learns_nothing(model, name)]
    try:
        return _resolve(known, targets, type(model).__name__)
    except UnsupportedError as error:
        if targets == ALL_LINEAR or not expert_parameters(model):
            raise
        experts = "A mixture's experts are no layers: method.target_parameters: all-experts reaches them."
        raise UnsupportedError(error.message, where=error.where, hint=f"{error.hint or ''} {experts}".strip()) from None


def _learns_nothing(model: Any, name: str) -> bool:
    types = WITHOUT_GRADIENT.get(name.rpartition(".")[2], frozenset())
    return getattr(getattr(model, "config", None), "model_type", None) in types


def check_targets(facts: ModelFacts, targets: str | Sequence[str]) -> None:
    """The same check on what is known without the weights.

    Raises:
        UnsupportedError: A name matches nothing.
    """
    checked_targets(facts, targets)


def checked_targets(facts: ModelFacts, targets: str | Sequence[str]) -> list[str]:
    """The names that the checkpoint has for what a recipe means; none where it is not at hand.

    Raises:
        UnsupportedError: A name matches nothing.
    """
    known = facts.adaptable_modules()
    if not known:
        return []
    if targets == ALL_LINEAR:
        return _resolve(known, targets, facts.path)
    # A checkpoint's names may lack the model's first word, as in `encoder.layer.0` for `bert.encoder.layer.0`.
    longer = [name for name in known if any(target.endswith(f".{name}") for target in targets)]
    others = [target for target in targets if not any(target.endswith(f".{name}") for name in known)]
    return [*longer, *(name for name in _resolve(known, others, facts.path) if name not in longer)]


def are_transposed(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether these layers store their matrices as inputs × outputs (GPT-2's ``Conv1D``), which peft has to know."""
    from transformers.pytorch_utils import Conv1D

    return bool(names) and all(isinstance(model.get_submodule(name), Conv1D) for name in names)


def were_transposed(model: nn.Module, names: Sequence[str]) -> bool:
    """Whether some of these layers were such ones before they were quantised, which turned their matrices."""
    from transformers.pytorch_utils import Conv1D

    return any(getattr(model.get_submodule(name), "source_cls", None) is Conv1D for name in names)


def guard_targets(model: Any, targets: str | Sequence[str], parameters: str | Sequence[str] | None = None) -> Guard:
    """Whether every name was really given an adapter by peft.

    Args:
        model: Wrapped by peft.
        targets: Of layers.
        parameters: Of tensors that hold several matrices.
    """
    adapted = list(model.base_model.targeted_module_names)
    experts = list(model.base_model.targeted_parameter_names)
    wanted = [*_listed(targets), *_listed(parameters or ())]
    missing = [name for name in wanted if not _matching([*adapted, *experts], name)]
    if missing:
        return Guard.check(False, f"no adapter was put on {', '.join(missing)}")
    if parameters is not None and not experts:
        return Guard.check(False, "no adapter was put on experts")
    detail = f"{len(adapted)} modules: {_counted(adapted)}"
    if experts:
        detail += f"; {len(experts)} tensors of experts: {_counted(experts)}"
    if targets == ALL_LINEAR:
        detail += _left_out(model)
    return Guard.check(bool(adapted), detail + _out_of_reach(model))


def _left_out(model: Any) -> str:
    """What is to be said of layers that would learn nothing."""
    inner = model.base_model.model
    names = [name for name, module in inner.named_modules() if hasattr(module, "weight")]
    left = [name for name in names if _learns_nothing(inner, name)]
    return f"; left out, as the model reads them past their layers: {_counted(left)}" if left else ""


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    """Names that were written one by one, not those of all."""
    return () if isinstance(names, str) else names


def _counted(names: Iterable[str]) -> str:
    kinds = Counter(name.rpartition(".")[2] for name in names)
    return ", ".join(f"{kind} × {count}" for kind, count in sorted(kinds.items()))


def _out_of_reach(model: Any) -> str:
    """What is to be said of matrices that stand in one tensor, as those of a mixture's experts: they are no layers."""
    reached = set(model.base_model.targeted_parameter_names)
    sizes: Counter[str] = Counter()
    for name in expert_parameters(model.base_model.model):
        plain, weight = name.replace(".base_layer", ""), model.base_model.model.get_parameter(name)
        if plain not in reached and not weight.requires_grad:
            sizes[".".join(plain.split(".")[-2:])] += weight.numel()
    if not sizes:
        return ""
    share = sizes.total() / sum(count_weights(weight) for weight in model.parameters() if not weight.requires_grad)
    return f"; out of reach, as several matrices in one tensor: {', '.join(sizes)}, {share:.0%} of the frozen weights"


def _resolve(known: Sequence[str], targets: str | Sequence[str], model_name: str) -> list[str]:
    if not known:
        raise UnsupportedError(f"{model_name} has no linear layer to adapt")
    if targets == ALL_LINEAR:
        return list(known)
    chosen: set[str] = set()
    for target in targets:
        found = _matching(known, target)
        if not found:
            ends = {name.rpartition(".")[2] for name in known}
            raise UnsupportedError(
                f"`{target}` matches no linear layer of {model_name}",
                where="method.target_modules",
                hint=did_you_mean(target, ends),
            )
        chosen.update(found)
    return [name for name in known if name in chosen]


def _matching(names: Iterable[str], target: str) -> list[str]:
    return [name for name in names if name == target or name.endswith(f".{target}")]


def _in_head(name: str, context: MethodContext) -> bool:
    return any(name == head or name.startswith(f"{head}.") for head in context.head_modules)
