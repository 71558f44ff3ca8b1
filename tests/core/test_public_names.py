"""The public Python API: what the stub lists is there, and `import peftlab` alone loads next to nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import peftlab
from peftlab import interfaces
from peftlab.core.registry import Registry


def test_import_loads_no_heavy_library() -> None:
    program = (
        "import sys, peftlab\n"
        "peftlab.METHODS, peftlab.PeftlabError, peftlab.Callback\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'datasets', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert {"Recipe", "run_recipe", "load", "wrap"} <= set(peftlab.__all__)
    for name in peftlab.__all__:
        assert not isinstance(getattr(peftlab, name), ModuleType)
    assert set(peftlab.__all__) <= set(dir(peftlab))


@pytest.mark.parametrize("name", ["METHODS", "TASKS", "REGULARIZERS", "METRICS", "APPLICATIONS"])
def test_the_five_registries_are_public_and_have_their_group_of_entry_points(name: str) -> None:
    registry = getattr(peftlab, name)
    assert isinstance(registry, Registry)
    assert registry is getattr(interfaces, name)
    assert registry.entry_point_group == f"peftlab.{name.lower()}"
    first = next(iter(registry))
    assert first in registry
    assert registry[first].registered_name == first
    assert len(registry) == len(list(registry)) > 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="run_recipes"):
        _ = peftlab.run_recipes


def test_all_that_a_plugin_is_given_or_gives_has_one_address() -> None:
    """Whatever class the contracts' signatures name can be imported from `peftlab.interfaces`."""
    registries = [value for value in vars(interfaces).values() if isinstance(value, Registry)]
    own = set()
    for base in {base for registry in registries for base in registry.base.__mro__}:
        if not base.__module__.startswith("peftlab.core"):
            continue
        for name, value in vars(base).items():
            function = getattr(getattr(value, "fget", value), "__func__", getattr(value, "fget", value))
            if not name.startswith("_"):
                own |= set(
                    re.findall(r"\b[A-Z]\w+", " ".join(map(str, getattr(function, "__annotations__", {}).values())))
                )
    defined = {
        node.name
        for path in Path(interfaces.__file__).with_name("core").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    assert own & defined <= set(interfaces.__all__)
    assert all(hasattr(interfaces, name) for name in interfaces.__all__)
