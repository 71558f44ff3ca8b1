"""The public Python API: what the stub lists is there, and `import peftlab` alone loads next to nothing."""

from __future__ import annotations

import subprocess
import sys
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
