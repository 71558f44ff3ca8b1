"""The contract of a tuning method: one frozen config class whose fields are the recipe's keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.hooks import TrainingHooks
from peftlab.core.model_facts import Family, ModelFacts
from peftlab.core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

TargetModules = Annotated[
    Literal["all-linear"] | Annotated[list[str], Field(min_length=1)],
    Field(description="'all-linear', or names of modules. Each name must match one."),
]


@dataclass(frozen=True)
class MethodContext:
    """What a method may need to wrap a model.

    Args:
        peft_task_type: peft's name of the task: ``SEQ_CLS``, ``TOKEN_CLS``, ``CAUSAL_LM``, …; None: of no known task.
        total_steps: Optimizer steps of the whole run.
        seed: The recipe's seed; torch's generators are seeded with it just before ``apply``.
        head_modules: Full names of the modules that the checkpoint does not hold (the task's head). They always
            train and are always saved; ``all-linear`` leaves them out.
        family: Whether the model is an encoder or a decoder.
    """

    peft_task_type: str | None
    total_steps: int
    seed: int = 0
    head_modules: tuple[str, ...] = ()
    family: Family = "unknown"


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix by its role: these decay, as in BERT's and GPT-3's training.

    Biases, norms and scalings do not: near zero they would silence what they scale. A scaling may have two dimensions
    of which one is 1, such as (IA)³'s vectors or AdaLoRA's singular values. The ``weight`` of a layer is a matrix all
    the same: a LoRA of rank 1, or a head with one output.
    """
    is_vector = parameter.ndim < 2 or (parameter.numel() == max(parameter.shape) and not name.endswith(".weight"))
    return not is_vector and not getattr(parameter, "_no_weight_decay", False)


def mean_of_tensors(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor over several models, computed in float32; what counts and is no float is the first's.

    Raises:
        UnsupportedError: Names or shapes differ.
    """
    import torch

    first = parts[0]
    for other in parts[1:]:
        differing = first.keys() ^ other.keys() or {n for n, each in first.items() if each.shape != other[n].shape}
        if differing:
            raise UnsupportedError(f"the runs' weights differ in names or shapes, as in {min(differing)}")
    return {
        name: torch.stack([part[name].float() for part in parts]).mean(dim=0).to(each.dtype)
        if each.is_floating_point()
        else each
        for name, each in first.items()
    }


def mean_of_updates(parts: Sequence[Mapping[str, Tensor]], axis_of: Callable[[str], int | None]) -> dict[str, Tensor]:
    """The exact mean of updates B A over several models, as one of all ranks together; the mean of each other tensor.

    The mean of A and the mean of B would make another update than the mean of B A, and hardly any where seeds differ.
    With n models, [B₁ … Bₙ] / n times [A₁; …; Aₙ] is the mean.

    Args:
        parts: Of each model its tensors, by name.
        axis_of: By a name the dimension in which a factor has the ranks, 0 for A and 1 for B; None: it is no factor.
    """
    import torch

    tensors = mean_of_tensors([{n: each for n, each in part.items() if axis_of(n) is None} for part in parts])
    for name in parts[0]:
        axis = axis_of(name)
        if axis is not None:
            joined = torch.cat([part[name] for part in parts], dim=axis)
            tensors[name] = (joined / len(parts) if axis == 1 else joined).contiguous()
    return tensors


class Method(TrainingHooks, ABC):
    """A tuning method: how a model is wrapped, and its training hooks.

    The docstring's first line is what ``peftlab ls methods`` shows.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    paper: ClassVar[str] = ""
    """Where the method comes from: a link."""
    other_names: ClassVar[Mapping[str, str]] = {}
    """What it is called elsewhere, and what to write here: the hint for somebody who writes that."""
    default_learning_rate: ClassVar[float] = 1e-3
    """What a recipe without ``training.learning_rate`` gets, with AdamW."""
    mergeable: ClassVar[bool] = False
    """Whether its weights can be folded into the base model's, or are changes of the base's own."""
    trains_base: ClassVar[bool] = False
    """Whether the base's own weights train as a whole: then the whole model is saved, and dropout is kept."""
    starts_as_base: ClassVar[bool] = False
    """Whether the wrapped model computes just what the base does before its first step; a task's guards go by it."""
    supports_gradient_checkpointing: ClassVar[bool] = True
    """Whether its adapters still learn when activations are computed twice."""
    can_be_averaged: ClassVar[bool] = True
    """Whether the mean of its weights over some steps is such a model too; where ranks fall away it is not."""
    works_sharded: ClassVar[bool] = False
    """Whether it trains the same where each process holds a part of the base only (``training.sharding``)."""
    unsharded_key: ClassVar[str] = "type"
    """Its key that must be changed where it does not."""
    needs_original: ClassVar[bool] = False
    """Whether it begins with the weights that a quantised base had before: then ``take_original`` is called."""
    has_low_rank_updates: ClassVar[bool] = False
    """Whether what trains are updates B A of the base's matrices, called ``lora_A`` and ``lora_B`` as in peft."""
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Recipe keys that matter to this method beside the learning rate, such as ``method.rank``, each with the values
    that a suite may try; the first is the default."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Refuse a search space that no recipe has: else only a search would tell, long after.

        Raises:
            ConfigError: Naming the key.
        """
        super().__pydantic_init_subclass__(**options)
        for key, values in cls.search_space.items():
            section, _, name = key.partition(".")
            is_known = bool(name) and (section != "method" or name.partition(".")[0] in cls.model_fields)
            if is_known and isinstance(values, tuple) and values:
                continue
            raise ConfigError(
                f"{cls.__name__} has search_space = {{{key!r}: {values!r}}}",
                where=f"{cls.__module__}.{cls.__qualname__}",
                hint="It is of keys of a recipe, such as `method.rank`, and a tuple of values for each.",
            )

    def check(self, facts: ModelFacts) -> None:
        """Refuse a model that the method cannot take, before anything is loaded.

        Raises:
            UnsupportedError: With the reason.
        """

    def check_quantization(self, quantization: str) -> None:
        """Refuse a base whose matrices are quantised, where the method cannot sit on one.

        Args:
            quantization: ``nf4``, ``fp4`` or ``int8``.

        Raises:
            UnsupportedError: With the reason.
        """
        if self.trains_base:
            raise UnsupportedError(
                f"{self.registered_name} trains the base's own matrices, and {quantization} matrices have no gradient",
                hint="Set model.quantization to null, or choose a method that freezes the base, such as lora.",
            )

    def check_added_tokens(self) -> None:
        """Refuse tokens that are added to the base, where their embeddings could not train or be saved.

        Raises:
            UnsupportedError: With the reason.
        """

    def check_offload(self) -> None:
        """Refuse a base whose matrices are fetched only while their layers compute, where the method needs more.

        Raises:
            UnsupportedError: With the reason.
        """
        if self.trains_base:
            raise UnsupportedError(
                f"{self.registered_name} trains the base's own matrices, and what trains must stay on the device",
                hint="Set model.offload to null, or choose a method that freezes the base, such as lora.",
            )

    def take_original(self, model: nn.Module, original: nn.Module) -> None:
        """Called once, when the model is wrapped, where ``needs_original`` says so.

        Args:
            model: Wrapped, on a quantised base.
            original: The base as its checkpoint holds it, on the CPU.
        """

    def after(self, earlier: Method) -> Method:
        """The method of a run that goes on from a run of another method, by default this one as it is.

        Raises:
            UnsupportedError: The earlier run's weights are none of this method.
        """
        if earlier.registered_name != self.registered_name:
            raise UnsupportedError(
                f"the earlier run was tuned with {earlier.registered_name}, and its weights are none of "
                f"{self.registered_name}",
                hint="Keep its method. To begin with another one where it ended, name the run in `model.path`.",
            )
        return self

    def taken_up(self, saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights to begin with, where a run goes on from an earlier one; by default those that it saved.

        Args:
            saved: By the names in the earlier run's file.
            own: Those of the new model, as ``apply`` has made them, by the same names.
        """
        return saved

    @abstractmethod
    def apply(self, model: Any, context: MethodContext) -> Any:
        """Wrap a transformers model so that only what the method trains requires a gradient.

        Args:
            model: A ``PreTrainedModel`` with the task's head. It may be changed in place.
            context: Facts about the run.

        Returns:
            The model to train: a ``peft.PeftModel``, or the same model changed in place.
        """

    def extra_positions(self) -> int:
        """How many positions of the model the method takes up beside the text, such as a prompt's."""
        return 0

    def trains(self, name: str) -> bool:
        """Whether the base's own parameter of this name is meant to train, such as a bias for BitFit."""
        return self.trains_base

    def may_be_missing(self, name: str) -> bool:
        """Whether a saved run of before need not hold a parameter, which did not train then: it is the base's own."""
        return False

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Whether weight decay falls on a trained parameter."""
        return is_matrix(name, parameter)

    def soup(
        self, parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The mean of several models' saved weights (model soups, https://arxiv.org/abs/2203.05482).

        By default it is the mean of each tensor.

        Args:
            parts: What ``saved_tensors`` gave for each, by name.
            config: The adapter's; empty where it has none.

        Returns:
            Tensors as they are saved, and what changes in the adapter's config.

        Raises:
            UnsupportedError: A mean of such weights is no such model.
        """
        if not self.can_be_averaged:
            raise UnsupportedError(f"the ranks of {self.registered_name} differ from run to run, so they have no mean")
        return mean_of_tensors(parts), {}

    def before_save(self, model: Any) -> None:
        """Called before a ``PeftModel`` is saved by peft."""

    def saved_tensors(self, model: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """What ``after_save`` makes of the tensors that peft has written; by default it leaves them as they are."""
        return tensors

    def after_save(self, model: Any, folder: Path) -> None:
        """Called when peft has written its files into ``folder``; they may be changed there."""


METHODS: Registry[Method] = Registry(
    "method",
    package="peftlab.methods",
    entry_point_group="peftlab.methods",
    base=Method,
    reserved=("name", "set", "then", "router", "select"),  # a suite's, beside a method's own
)


def mergeable_methods() -> str:
    """The names of those whose runs can be folded into their base, for messages."""
    return ", ".join(name for name, cls in METHODS.items() if cls.mergeable)
