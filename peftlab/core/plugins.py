"""Packages of others that add to the registries: which there are, and which of them an error comes from."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from pathlib import Path

OWN = "peftlab"
PREFIX = f"{OWN}."
"""Of the groups of entry points by which they announce what they add."""


@dataclass(frozen=True)
class Fault:
    """Where a plugin has raised an error.

    Args:
        package: Its package and version, such as ``acme-plugins 2.3.1``.
        place: The file and the line.
    """

    package: str
    place: str


def package_of(entry_point: EntryPoint) -> str:
    """The package that announces a plugin, with its version; the module where no package is known."""
    found = entry_point.dist
    name = None if found is None else found.metadata["Name"]
    return entry_point.module if found is None or not name else f"{name} {found.version}"


def plugin_versions() -> dict[str, str]:
    """The version of each installed package that announces a plugin, by name."""
    found = {each.dist.metadata["Name"]: each.dist.version for each in _announced() if each.dist is not None}
    return {name: found[name] for name in sorted(filter(None, found))}


def missing_packages(versions: Mapping[str, str | None]) -> list[str]:
    """Packages that a record names and that are not installed here: plugins, for the others peftlab needs.

    Args:
        versions: Of packages, by name; None: it was not installed there either.
    """
    missing = []
    for name, there in versions.items():
        try:
            version(name)
        except (PackageNotFoundError, ValueError):
            missing += [] if there is None else [f"{name} {there}"]
    return missing


def fault_of(error: BaseException) -> Fault | None:
    """The plugin that has raised an error; None: none, as far as the traceback tells."""
    packages = {each.module.partition(".")[0]: package_of(each) for each in _announced()}
    found = place_in(error, packages)
    return None if found is None else Fault(packages[found[0]], found[1])


def place_in(error: BaseException, packages: Collection[str]) -> tuple[str, str] | None:
    """The package of these that has raised an error, with the file and the line; None: it comes from peftlab itself.

    Frames of libraries are passed over: what a package has called wrongly is its own error.

    Args:
        error: As it was caught.
        packages: Names of modules, without a dot.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package in packages:
            return package, f"{Path(*Path(frame.f_code.co_filename).parts[-2:])}:{line}"
        if package == OWN:
            return None
    return None


def _announced() -> list[EntryPoint]:
    found = entry_points()
    return [each for group in sorted(found.groups) if group.startswith(PREFIX) for each in found.select(group=group)]
