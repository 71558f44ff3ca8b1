"""Registries of named classes: the methods, the tasks, and whatever other packages add to them.

A registry imports its built-in package and the entry points of its group at the first look-up, so that importing
peftlab stays cheap. A plugin that cannot be imported, or whose keys no schema can tell, is set aside with its reason
and never breaks the others.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from peftlab.core.errors import ConfigError, PeftlabError, did_you_mean, first_line
from peftlab.core.plugins import OWN, package_of, place_in
from peftlab.core.registration import check_class

T = TypeVar("T")
NAME = re.compile(r"\w[\w.-]*")
"""Names stand in recipes, and in the names of folders."""
_discovery = threading.RLock()
"""One for all registries: the plugins of one may look things up in another while they are imported."""


class UnknownNameError(ConfigError, KeyError):
    """A name that is not in a registry."""


class Registry(Generic[T]):
    """Names mapped to classes derived from one base, looked up and gone through as in a mapping.

    Args:
        kind: What the classes are, in the singular, for messages: ``method``.
        package: The package whose modules register the built-in ones.
        entry_point_group: The group under which other packages announce theirs.
        base: What the classes derive from.
        reserved: Keys that the classes cannot have, since they mean something else in their place.
        also_from: Groups of other registries whose plugins may register classes here too, such as a task's metric in
            the task's own file.
    """

    def __init__(
        self,
        kind: str,
        *,
        package: str,
        entry_point_group: str,
        base: type[Any],
        reserved: tuple[str, ...] = (),
        also_from: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.package = package
        self.entry_point_group = entry_point_group
        self.base = base
        self.reserved = ("type", *reserved)
        self.also_from = also_from
        self.broken: dict[str, str] = {}
        self._classes: dict[str, type[T]] = {}
        self._discovered = self._discovers = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """A decorator that files a class under a name.

        Args:
            name: What recipes write as ``type``.

        Raises:
            ConfigError: The name is none, or is taken by another class; or the class lacks something.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(
                f"a {self.kind} cannot be called {name!r}",
                where=f"{self.entry_point_group}: register({name!r})",
                hint="A name is one word of letters, digits and underscores.",
            )

        def decorate(cls: type[T]) -> type[T]:
            check_class(cls, name, kind=self.kind, base=self.base, reserved=self.reserved)
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
        with _discovery:
            if self._discovered or self._discovers:  # a plugin looks something up while it is imported
                return
            self._discovers = True
            try:
                self._import_package()
                for group in (self.entry_point_group, *self.also_from):
                    for entry_point in entry_points(group=group):
                        self._load_plugin(entry_point, is_own=group == self.entry_point_group)
                self._set_aside_unwritable()
                self._discovered = True
            finally:
                self._discovers = False

    def _import_package(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")

    def _load_plugin(self, entry_point: EntryPoint, *, is_own: bool) -> None:
        """Import a plugin; one of another registry's group is told of there, if it cannot be loaded."""
        root = entry_point.module.partition(".")[0]
        try:
            # What it prints would stand in the one object that `--json` promises.
            with contextlib.redirect_stdout(sys.stderr):
                loaded = entry_point.load()
            if is_own:
                self._take(entry_point, loaded, root)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's module may raise anything; it is kept and reported
            found = place_in(error, (root,))
            if is_own:
                place = f", {found[1]}" if found else ""
                told = str(error) if isinstance(error, PeftlabError) else f"{type(error).__name__}: {error}"
                first, *others = told.splitlines() or [""]
                self._break(entry_point.name, "\n".join([f"{first} ({package_of(entry_point)}{place})", *others]))

    def _take(self, entry_point: EntryPoint, loaded: Any, root: str) -> None:
        """Register what an entry point names: a module that registers itself, or a class that it did not decorate.

        Raises:
            ConfigError: It is neither.
        """
        if isinstance(loaded, type):
            if "registered_name" not in vars(loaded):
                self.register(entry_point.name)(loaded)
        elif not isinstance(loaded, ModuleType):
            raise ConfigError(
                f"`{entry_point.value}` is a {type(loaded).__name__}", hint="An entry point names a module or a class."
            )
        elif not any(cls.__module__.partition(".")[0] == root for cls in self._classes.values()):
            raise ConfigError(
                f"`{entry_point.value}` registers no {self.kind}",
                hint=f"Write @{self.entry_point_group.partition('.')[2].upper()}.register({entry_point.name!r}) "
                "above its class, or name the class: module:Class.",
            )

    def _set_aside_unwritable(self) -> None:
        """Set plugins aside that have a key of which no JSON Schema can be made, and which YAML so cannot hold."""
        for name, cls in list(self._classes.items()):
            schema = getattr(cls, "schema_with_type", None)
            if schema is None or cls.__module__.partition(".")[0] == OWN:
                continue
            try:
                schema()
            except Exception as error:  # noqa: BLE001 - a stranger's types may raise anything
                del self._classes[name]
                self._break(
                    name,
                    f"YAML cannot hold every key of {cls.__module__}.{cls.__qualname__}: {first_line(error)}\n"
                    "  Keep what is no plain value in a private attribute.",
                )

    def _break(self, name: str, why: str) -> None:
        """Note why a plugin is not there, beside another one of its name."""
        while name in self.broken:
            name += "'"
        self.broken[name] = why
