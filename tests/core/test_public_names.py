"""The public Python API: what the stub lists is there, and `import peftlab` alone loads next to nothing."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import peftlab


def test_import_loads_no_heavy_library() -> None:
    program = (
        "import sys, peftlab\n"
        "peftlab.METHODS, peftlab.PeftlabError, peftlab.Callback\n"
        "print([name for name in ('torch', 'transformers', 'peft', 'datasets', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert {"Recipe", "run_recipe", "load", "wrap", "METHODS", "TASKS", "METRICS", "REGULARIZERS"} <= set(
        peftlab.__all__
    )
    for name in peftlab.__all__:
        assert not isinstance(getattr(peftlab, name), ModuleType)
    assert set(peftlab.__all__) <= set(dir(peftlab))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="run_recipes"):
        _ = peftlab.run_recipes
