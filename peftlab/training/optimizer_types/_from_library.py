"""A configuration class for each optimizer of a library."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, create_model

from peftlab.core.errors import UnsupportedError
from peftlab.core.optimizer import OPTIMIZERS, USUAL_RATE, Group, OptimizerConfig
from peftlab.training.optimizer_types._signatures import Signature


class LibraryOptimizer(OptimizerConfig):
    """An optimizer that a library brings."""

    # pydantic would look for the source of each of 150 classes that are made here: two seconds.
    model_config = ConfigDict(use_attribute_docstrings=False)

    module: ClassVar[str] = ""
    """Where its class is imported from."""
    class_name: ClassVar[str] = ""

    def build(self, groups: list[Group], learning_rate: float, model: Any) -> Any:
        """An object of the library's class, with the keys that differ from its own defaults."""
        return self.constructed(self.prepared(groups, learning_rate), learning_rate)

    def prepared(self, groups: list[Group], learning_rate: float) -> list[Group]:
        """The groups as the library wants them."""
        return groups

    def constructed(self, first: Any, learning_rate: float) -> Any:
        """The library's class, called.

        Args:
            first: Groups, or a model.
            learning_rate: The peak.
        """
        settings = {key: tuple(v) if isinstance(v, list) else v for key, v in self.settings().items()}
        try:
            cls = getattr(importlib.import_module(self.module), self.class_name)
            return cls(first, lr=learning_rate, **settings)
        except ImportError as error:
            raise UnsupportedError(
                f"{self.class_name} needs {self.package}, which cannot be imported: {error}",
                where="training.optimizer",
                hint=f"pip install {self.package}, or choose `adamw`.",
            ) from None
        except (ValueError, AssertionError) as error:
            raise UnsupportedError(
                f"{self.class_name} refuses its settings: {error}", where="training.optimizer"
            ) from None

    def settings(self) -> dict[str, Any]:
        """What the class is called with beside parameters and rate: the keys that were set."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def register_library(
    signature: Signature,
    name: str,
    *,
    module: str,
    package: str,
    base: type[LibraryOptimizer] = LibraryOptimizer,
    refusal: str = "",
    more: Mapping[str, Any] | None = None,
) -> None:
    """File an optimizer under a name.

    Args:
        signature: What it takes.
        name: Which recipes write.
        module: Where its class is.
        package: Which brings it.
        base: What builds it.
        refusal: Why it cannot be used.
        more: Other attributes of the class.
    """
    fields: dict[str, Any] = {}
    for key, typed in signature.defaults.items():
        kind = typed.kind | None if key in signature.has_none else typed.kind
        description = f"{key} of {package}'s {signature.class_name}."
        fields[key] = (kind, Field(typed.default, description=description))
    cls = create_model(signature.class_name, __base__=base, __module__=f"{__name__}.{package}", **fields)
    decay = "" if signature.decays else " No weight decay."
    cls.__doc__ = (f"Refused: {refusal}." if refusal else f"{_summary(signature)}{decay} ({package})").strip()
    attributes = {
        "module": module,
        "class_name": signature.class_name,
        "package": package,
        "refusal": refusal,
        "default_rate": signature.learning_rate or USUAL_RATE,
        **(more or {}),
    }
    for key, value in attributes.items():
        setattr(cls, key, value)
    OPTIMIZERS.register(name)(cls)


def _summary(signature: Signature) -> str:
    text = signature.summary.rstrip(".")
    return f"{text}." if text and text[0].isupper() else f"{signature.class_name}."
