"""What is imported is left out of the looks for garbage; a program that did not ask for it keeps its collector."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from peftlab.core.garbage import look_as_usual, looked_for_seldom

FIRST = """
import gc
from peftlab.core.garbage import look_as_usual, looked_for_seldom
usual = gc.get_threshold()
with looked_for_seldom():
    assert gc.get_threshold()[0] > 10 * usual[0]
    look_as_usual()
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count()
"""


def test_what_was_imported_is_left_out() -> None:
    subprocess.run([sys.executable, "-c", FIRST], check=True)


def test_a_program_that_has_torch_keeps_its_collector() -> None:
    import torch  # noqa: F401

    frozen, usual = gc.get_freeze_count(), gc.get_threshold()
    with looked_for_seldom():
        look_as_usual()
        assert gc.get_freeze_count() == pytest.approx(frozen, abs=100)  # what earlier tests froze may go at any time
        assert gc.get_threshold() == usual
