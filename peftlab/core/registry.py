"""Registries of named classes: the methods, the tasks, and whatever other packages add to them.

A registry imports its built-in package and the entry points of its group at the first look-up, so that importing
peftlab stays cheap. A plugin that cannot be imported is set aside with its reason and never breaks the others.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from peftlab.core.errors import ConfigError, did_you_mean

T = TypeVar("T")


class UnknownNameError(ConfigError, KeyError):
    """A name that is not in a registry."""


class Registry(Generic[T]):
    """Names mapped to classes derived from one base, looked up and gone through as in a mapping.

    Args:
        kind: What the classes are, in the singular, for messages: ``method``.
        package: The package whose modules register the built-in ones.
        entry_point_group: The group under which other packages announce theirs.
        also_from: Groups of other registries whose plugins may register classes here too, such as a task's metric in
            the task's own file.
    """

    def __init__(self, kind: str, *, package: str, entry_point_group: str, also_from: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.package = package
        self.entry_point_group = entry_point_group
        self.also_from = also_from
        self.broken: dict[str, str] = {}
        self._classes: dict[str, type[T]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """A decorator that files a class under a name.

        Args:
            name: What recipes write as ``type``.

        Raises:
            ConfigError: The name is taken by another class.
        """

        def decorate(cls: type[T]) -> type[T]:
            missing = sorted(getattr(cls, "__abstractmethods__", ()))
            missing += [each for each in getattr(cls, "required_attributes", ()) if not hasattr(cls, each)]
            if missing:
                raise ConfigError(
                    f"the {self.kind} `{name}` is not complete: {cls.__name__} does not define {', '.join(missing)}",
                    where=f"{cls.__module__}.{cls.__qualname__}",
                    hint="The docstrings of its base class say what each is for.",
                )
            if not cls.__module__.startswith(f"{self.package}."):
                self._import_package()  # a plugin that comes first must not take a built-in's name
            taken = self._classes.get(name)
            if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ConfigError(
                    f"the {self.kind} `{name}` is registered twice: by {taken.__module__} and by {cls.__module__}",
                    hint="Uninstall one of the packages, or rename the plugin.",
                )
            self._classes[name] = cls
            cls.registered_name = name  # type: ignore[attr-defined]
            return cls

        return decorate

    def get(self, name: Any, *, where: str | None = None) -> type[T]:
        """The class of a name.

        Raises:
            UnknownNameError: No such name; the message names the closest one and any plugin that failed to load.
        """
        if name in self:
            return self._classes[name]
        hint = self._elsewhere(name) or did_you_mean(str(name), self._classes)
        broken = "".join(f" The plugin `{plugin}` could not be loaded: {why}" for plugin, why in self.broken.items())
        raise UnknownNameError(
            f"unknown {self.kind} `{name}`", where=where, hint=f"{hint or ''}{broken}".strip() or None
        )

    def __getitem__(self, name: str) -> type[T]:
        return self.get(name)

    def __contains__(self, name: object) -> bool:
        self._discover()
        return isinstance(name, str) and name in self._classes

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def _elsewhere(self, name: Any) -> str | None:
        """The hint for a name that is used elsewhere for something that is here."""
        word = re.sub(r"[^a-z0-9]", "", str(name).lower())
        for cls in self._classes.values():
            for other, hint in getattr(cls, "other_names", {}).items():
                if re.sub(r"[^a-z0-9]", "", other) == word:
                    return str(hint)
        same = [own for own in self._classes if re.sub(r"[^a-z0-9]", "", own) == word]
        return f"Did you mean `{same[0]}`?" if same else None

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._classes)

    def items(self) -> Iterator[tuple[str, type[T]]]:
        """Pairs of name and class, sorted by name."""
        for name in self.names():
            yield name, self._classes[name]

    def _discover(self) -> None:
        if self._discovered:
            return
        self._discovered = True
        self._import_package()
        for entry_point in entry_points(group=self.entry_point_group):
            self._load_plugin(entry_point)
        for group in self.also_from:
            for entry_point in entry_points(group=group):
                with contextlib.suppress(Exception):  # its own registry tells why it cannot be loaded
                    entry_point.load()

    def _import_package(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")

    def _load_plugin(self, entry_point: Any) -> None:
        try:
            loaded = entry_point.load()
            # A plugin may point at a module that registers itself, or at a class that it did not decorate.
            if isinstance(loaded, type) and "registered_name" not in vars(loaded):
                self.register(entry_point.name)(loaded)
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything; it is kept and reported
            self.broken[entry_point.name] = f"{type(error).__name__}: {error}"
