"""A tuner of peft as a method: a file of its own is needed only for one that wants data, hooks or more checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import Method, MethodContext, TargetModules, is_matrix
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import Guard
from peftlab.methods._layer_sizes import LayerSize, sizes_at_hand, sizes_of
from peftlab.methods._targets import (
    TRANSPOSED,
    are_transposed,
    check_targets,
    guard_targets,
    resolve_targets,
    were_transposed,
)

if TYPE_CHECKING:
    from torch import Tensor


class PeftAdapter(Method):
    """A method that is one of peft's configs, put on linear layers."""

    config_class: ClassVar[str]
    """peft's config, by name."""
    peft_names: ClassVar[Mapping[str, str]] = {}
    """What peft calls a key, where it has another name for it."""
    fixed: ClassVar[Mapping[str, Any]] = {}
    """Fields of the config that no recipe sets."""
    fits_quantized: ClassVar[bool] = False
    """Whether peft puts it on matrices in 4 and 8 bits."""
    takes_transposed: ClassVar[bool] = True
    """Whether the config has ``fan_in_fan_out``, and with it really computes GPT-2's transposed matrices."""
    scalings: ClassVar[tuple[str, ...]] = ()
    """Trained parameters with two dimensions that scale others, and so do not decay."""
    multiplies_factors: ClassVar[bool] = False
    """Whether its update is a product of several trained factors: the mean of factors is not that of the updates."""
    why_not_offloaded: ClassVar[str | None] = None
    """Why the base's matrices must stay on the device; None: they need not."""

    target_modules: TargetModules = "all-linear"

    def check(self, facts: ModelFacts) -> None:
        """Refuse target modules that match nothing or do not fit, and transposed matrices that peft does not know."""
        check_targets(facts, self.target_modules)
        self._check_sizes(sizes_at_hand(facts, self.target_modules))
        if facts.model_type in TRANSPOSED and not self.takes_transposed:
            raise self._refusal_of_transposed(facts.path)

    def _refusal_of_transposed(self, model: str) -> UnsupportedError:
        return UnsupportedError(
            f"peft's {self.registered_name} does not know the transposed matrices of {model}", hint="Choose lora."
        )

    def check_quantization(self, quantization: str) -> None:
        """Refuse a quantised base where peft has no layer for it."""
        if not self.fits_quantized:
            raise UnsupportedError(
                f"peft's {self.registered_name} needs the base's matrices, and has no way to {quantization} ones",
                hint="Set model.quantization to null, or choose lora.",
            )

    def check_offload(self) -> None:
        """Refuse an offloaded base where the method reads its matrices beside their layers' forward."""
        if self.why_not_offloaded is not None:
            raise UnsupportedError(self.why_not_offloaded, hint="Set model.offload to null, or choose lora.")

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Put the adapter on each target.

        Raises:
            UnsupportedError: A target matches nothing, or peft cannot put it on a layer of such a kind or size.
        """
        import peft

        targets = resolve_targets(model, self.target_modules, context)
        self._check_sizes(sizes_of(model, targets))
        config_class = getattr(peft, self.config_class)
        fields = {
            "task_type": context.peft_task_type,
            "target_modules": targets,
            "modules_to_save": list(context.head_modules),
            **self.fixed,
            **self._own_fields(),
        }
        transposed = are_transposed(model, targets)
        if self.takes_transposed and "fan_in_fan_out" in config_class.__dataclass_fields__:
            fields["fan_in_fan_out"] = transposed
        elif transposed or were_transposed(model, targets):  # an adapter for turned matrices fits no plain base
            raise self._refusal_of_transposed(type(model).__name__)
        try:
            return peft.get_peft_model(model, config_class(**fields))
        except (ValueError, NotImplementedError) as error:
            raise UnsupportedError(
                f"peft cannot put {self.registered_name} on this model: {error}",
                where="method",
                hint="Change the keys or target modules that it names, or choose lora.",
            ) from error

    def misfit(self, inputs: int, outputs: int) -> tuple[str, str] | None:
        """The key that does not fit a layer of this size, and why not: ``48 does not divide its 64 inputs``."""
        return None

    def _check_sizes(self, layers: Iterable[LayerSize]) -> None:
        for layer in layers:
            if found := self.misfit(layer.inputs, layer.outputs):
                key, why = found
                raise UnsupportedError(
                    f"{layer.name}: {why}",
                    where=f"method.{key}",
                    hint="Set another number, or leave the layer out of method.target_modules.",
                )

    def guards(self, model: Any, context: MethodContext) -> dict[str, Guard]:
        """Every target got its adapter."""
        return {"target_modules_matched": guard_targets(model, self.target_modules)}

    def decays(self, name: str, parameter: Tensor) -> bool:
        """Matrices decay; scalings do not."""
        return is_matrix(name, parameter) and not any(part in self.scalings for part in name.split("."))

    def soup(
        self, parts: Sequence[Mapping[str, Tensor]], config: Mapping[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The mean of each tensor, where it is that of the updates, or of what all runs begin alike with.

        Raises:
            UnsupportedError: The update is a product of trained factors, or the runs train other places.
        """
        import torch

        if self.multiplies_factors:
            raise UnsupportedError(
                f"the update of {self.registered_name} is a product of what trains, and the mean of factors makes "
                "another update than the mean of the updates",
                hint="Leave --soup out: then answers are averaged. Of lora's runs the mean is exact.",
            )
        for name, tensor in parts[0].items():
            if not tensor.is_floating_point() and any(not torch.equal(tensor, other[name]) for other in parts[1:]):
                raise UnsupportedError(
                    f"each of the runs of {self.registered_name} trains other entries of the matrices, so their "
                    "weights have no mean",
                    hint="Leave --soup out: then answers are averaged.",
                )
        return super().soup(parts, config)

    def _own_fields(self) -> dict[str, Any]:
        keys = set(type(self).model_fields) - {"target_modules"}
        return {self.peft_names.get(key, key): getattr(self, key) for key in keys}


def undivided(value: int, **sizes: int) -> str | None:
    """Why a number does not divide all of some sizes, such as ``inputs``; None where it does."""
    return next((f"{value} does not divide its {size} {name}" for name, size in sizes.items() if size % value), None)
