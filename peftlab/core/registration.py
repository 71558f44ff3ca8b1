"""What is looked at when a class is registered: what it lacks would fail long after, and far from its cause."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from typing import Any

from peftlab.core.errors import ConfigError
from peftlab.core.plugins import PREFIX

_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "ClassVar[bool]": (lambda value: isinstance(value, bool), "True or False"),
    "ClassVar[str]": (lambda value: isinstance(value, str), "a text"),
    "ClassVar[tuple[str, ...]]": (lambda value: _is_texts(value), 'a tuple of texts, such as ("one",)'),
}
"""By the annotation of a class attribute: whether a value is right, and what is needed."""


def check_class(cls: Any, name: str, *, kind: str, base: type[Any], reserved: Sequence[str]) -> None:
    """Refuse a class that cannot do what a registry's classes are asked for.

    Args:
        cls: The class.
        name: It is to be registered under.
        kind: What the registry's classes are, for messages: ``method``.
        base: What they derive from.
        reserved: Keys that they cannot have.

    Raises:
        ConfigError: With what is wrong, and where.
    """
    if not isinstance(cls, type) or not issubclass(cls, base):
        called = getattr(cls, "__qualname__", reprlib.repr(cls))
        raise ConfigError(
            f"the {kind} `{name}` is none: {called} does not derive from {base.__name__}",
            where=f"{getattr(cls, '__module__', PREFIX)}.{called}",
            hint=f"Derive it from {base.__module__}.{base.__qualname__}.",
        )
    for key in getattr(cls, "model_fields", {}):
        _check_key(cls, key, f"the {kind} `{name}`", reserved)
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    missing += [each for each in getattr(cls, "required_attributes", ()) if not hasattr(cls, each)]
    if missing:
        raise ConfigError(
            f"the {kind} `{name}` is not complete: {cls.__name__} does not define {', '.join(missing)}",
            where=_place(cls),
            hint="The docstrings of its base class say what each is for.",
        )
    _check_values(cls, f"the {kind} `{name}`", base)


def _check_key(cls: type[Any], key: str, whose: str, reserved: Sequence[str]) -> None:
    """Refuse a key that hides a hook or a fact of a base: one part of peftlab would see the one, others the other."""
    if key in reserved:
        raise ConfigError(
            f"{whose} cannot have a key `{key}`, which says something else in that place",
            where=_place(cls),
            hint="Call it otherwise.",
        )
    for base in cls.__mro__[1:]:
        if not base.__module__.startswith(PREFIX):
            continue
        annotation = str(vars(base).get("__annotations__", {}).get(key, ""))
        if key in vars(base) or annotation.startswith("ClassVar"):
            raise ConfigError(
                f"the key `{key}` of {whose} hides what {base.__name__} calls so",
                where=_place(cls),
                hint=f"A fact of the class is written without a type, `{key} = …`, or as ClassVar. "
                "A key of recipes needs another name.",
            )


def _check_values(cls: type[Any], whose: str, base: type[Any]) -> None:
    """Refuse class attributes of another type, such as a text in the place of a tuple of names."""
    for each in base.__mro__:
        for attribute, annotation in vars(each).get("__annotations__", {}).items():
            is_right, needed = _VALUES.get(str(annotation), (None, ""))
            value = getattr(cls, attribute, None)
            if is_right is None or value is None or hasattr(value, "__get__") or is_right(value):
                continue
            raise ConfigError(
                f"{whose} has {attribute} = {reprlib.repr(value)}",
                where=_place(cls),
                hint=f"{attribute} is {needed}.",
            )


def _place(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
