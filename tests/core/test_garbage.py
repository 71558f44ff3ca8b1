"""The first imports are made without a look for garbage; a program that has made them keeps its collector."""

from __future__ import annotations

import gc
import subprocess
import sys

from peftlab.core.garbage import first_imports

FIRST = """
import gc
from peftlab.core.garbage import first_imports
try:
    with first_imports():
        assert not gc.isenabled()
        raise ImportError
except ImportError:
    pass
assert gc.isenabled()
assert gc.get_freeze_count()
"""


def test_the_first_imports_are_left_out_also_where_one_fails() -> None:
    subprocess.run([sys.executable, "-c", FIRST], check=True)


def test_later_ones_change_nothing() -> None:
    import torch  # noqa: F401

    frozen = gc.get_freeze_count()
    with first_imports():
        assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
